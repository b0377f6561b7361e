"""Sentence patterns that a user can edit: a small, safe part of Jinja, checked as a whole before it is used.

A folder of `*.j2` files; every line that is neither empty nor a `#` comment is one pattern. A pattern holds text,
`{{ variable }}`, two filters and `{% if %}`. There are no loops, calls, attributes or arithmetic, so every pattern
ends at once and its caption is no longer than its words. What is left still runs in Jinja's sandbox.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from passerby.runtime import draw
from passerby.text import capitalise, lint, tidy, with_article

LONGEST_PATTERN = 2000
"""Characters; longer lines are a mistake, and this bounds how deep a pattern can nest."""

ALLOWED_NODES = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Filter,
    nodes.If,
    nodes.CondExpr,
    nodes.Not,
    nodes.And,
    nodes.Or,
    nodes.Compare,
    nodes.Operand,
    nodes.Concat,
)
"""The language: everything it can say takes time and memory in proportion to its own length."""

ALLOWED_COMPARISONS = ("eq", "ne")
_TOO_DEEP = "nests too deeply"
LANGUAGE = 'a pattern holds text, {{ variable }}, {{ variable|a }}, {{ variable|as("with ~") }} and {% if %}'


Pattern = tuple[str, int, str]
"""File, a name `*.j2`; line, counted from 1; and text."""

Renderer = Callable[[Mapping[str, str]], str]


@dataclass(frozen=True, slots=True)
class TemplateFault:
    """One thing wrong with a template, and where."""

    file: str
    line: int
    """Counted from 1."""
    message: str

    def __str__(self) -> str:
        """Give `file:line: message`."""
        return f"{self.file}:{self.line}: {self.message}"


class TemplateError(ValueError):
    """All that is wrong with a folder of templates."""

    def __init__(self, faults: Iterable[TemplateFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True)
class TemplateSet:
    """The patterns of one folder, compiled."""

    names: tuple[str, ...]
    """`FILE:LINE` of each pattern, without the suffix: `there_is:3` is line 3 of `there_is.j2`."""
    digest: str
    """SHA-256 over the names and bytes of all files."""
    _renderers: tuple[Renderer, ...] = field(repr=False, compare=False)
    _indices: Mapping[str, int] = field(repr=False, compare=False)

    def __len__(self) -> int:
        """Count the patterns."""
        return len(self.names)

    def render(self, template: str | int, context: Mapping[str, str]) -> str:
        """Fill in a pattern, given by name or index, and tidy the result: spaces, capitals, one final period.

        Raises:
            ValueError: no pattern has this name.
            jinja2.UndefinedError: the pattern uses a variable that `context` lacks.
        """
        if isinstance(template, str):
            if template not in self._indices:
                span = f"{self.names[0]!r} to {self.names[-1]!r}"
                raise ValueError(f"no template is named {template!r}; these {len(self)} are {span}")
            template = self._indices[template]
        return capitalise(tidy(self._renderers[template](context)))


def load_templates(folder: Path, *, variables: Collection[str]) -> TemplateSet:
    """Read and compile all patterns of a folder, in the order of file name and line.

    Args:
        folder: Holds `*.j2` files; other files are left alone.
        variables: The names that a pattern may use.

    Raises:
        FileNotFoundError: there is no such folder.
        TemplateError: with every syntax error, forbidden construct and unknown variable of all files.
    """
    patterns, digest = read_patterns(folder)
    return compile_patterns(patterns, variables=variables, digest=digest)


def read_patterns(folder: Path) -> tuple[list[Pattern], str]:
    """Read all patterns of a folder as they stand there, and hash the files.

    Raises:
        FileNotFoundError: there is no such folder.
        TemplateError: no pattern is in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"template folder {folder} does not exist")
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.j2"))}
    patterns = [  # lines as an editor numbers them: `splitlines` would also end one at a form feed, among others
        (file, line, pattern.strip())
        for file, data in files.items()
        for line, pattern in enumerate(data.decode("utf-8", errors="replace").split("\n"), start=1)
        if pattern.strip() and not pattern.lstrip().startswith("#")
    ]
    if not patterns:
        raise TemplateError([TemplateFault(folder.name, 1, "no pattern in this folder; write one into a file *.j2")])
    return patterns, _digest(files)


def check_patterns(patterns: Iterable[Pattern], *, variables: Collection[str]) -> None:
    """See that patterns are of our language, without compiling them.

    Raises:
        TemplateError: with every syntax error, forbidden construct and unknown variable.
    """
    environment = _build_environment()
    parsed = ((file, line, _parse(environment, pattern, variables)) for file, line, pattern in patterns)
    faults = [
        TemplateFault(file, line, message) for file, line, told in parsed if isinstance(told, list) for message in told
    ]
    if faults:
        raise TemplateError(faults)


def compile_patterns(patterns: Iterable[Pattern], *, variables: Collection[str], digest: str) -> TemplateSet:
    """Compile patterns.

    Args:
        patterns: File and line together name a pattern.
        variables: The names that a pattern may use.
        digest: Of what the patterns were made from.

    Raises:
        TemplateError: with every syntax error, forbidden construct and unknown variable.
    """
    environment = _build_environment()
    renderers: dict[str, Renderer] = {}
    faults: list[TemplateFault] = []
    for file, line, pattern in patterns:
        compiled = _compile(environment, pattern, variables)
        if isinstance(compiled, list):
            faults += [TemplateFault(file, line, message) for message in compiled]
        else:
            renderers[f"{file.removesuffix('.j2')}:{line}"] = compiled
    if faults:
        raise TemplateError(faults)
    indices = {name: index for index, name in enumerate(renderers)}
    return TemplateSet(tuple(renderers), digest, tuple(renderers.values()), indices)


def check_templates(templates: TemplateSet, contexts: Iterable[Mapping[str, str]]) -> list[TemplateFault]:
    """Render every pattern with every context and lint the English; each fault once."""
    found: dict[TemplateFault, None] = {}
    samples = list(contexts)
    for name in templates.names:
        stem, _, line = name.rpartition(":")
        for context in samples:
            for message in _render_and_lint(templates, name, context):
                found[TemplateFault(f"{stem}.j2", int(line), message)] = None
    return list(found)


def draw_template(templates: TemplateSet, *, key: str, seed: int, index: int = 0) -> int:
    """Draw the pattern of caption `index` of sample `key`; it depends on nothing else."""
    return draw(seed, key, index, "template") % len(templates)


def _build_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        cache_size=0,
        optimized=False,  # its constant folding takes time cubic in the depth of a pattern
    )
    environment.filters = {"a": with_article, "as": _fit}
    return environment


def _fit(phrase: str, frame: str) -> str:
    """Put `phrase` where `frame` has "~"; nothing becomes nothing."""
    return frame.replace("~", phrase) if phrase else ""


def _digest(files: Mapping[str, bytes]) -> str:
    hashes = [f"{hashlib.sha256(data).hexdigest()} {name}\n" for name, data in files.items()]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _compile(
    environment: ImmutableSandboxedEnvironment, pattern: str, variables: Collection[str]
) -> Renderer | list[str]:
    """Compile a pattern, or say what is wrong with it."""
    tree = _parse(environment, pattern, variables)
    if isinstance(tree, list):
        return tree
    try:
        template = environment.from_string(tree)
    except (RecursionError, SyntaxError, MemoryError):  # of Python's parser, for what Jinja wrote
        return [_TOO_DEEP]

    def render(context: Mapping[str, str]) -> str:  # as `template.render` does, which takes twice as long
        return "".join(template.root_render_func(cast(Context, _Variables(context))))

    return render


def _parse(
    environment: ImmutableSandboxedEnvironment, pattern: str, variables: Collection[str]
) -> nodes.Template | list[str]:
    """Parse a pattern, or say what is wrong with it."""
    if len(pattern) > LONGEST_PATTERN:
        return [f"has {len(pattern)} characters; allowed are {LONGEST_PATTERN}"]
    if "\N{REPLACEMENT CHARACTER}" in pattern:
        return ["is not UTF-8"]
    try:
        tree = environment.parse(pattern)
    except TemplateSyntaxError as error:
        return [str(error.message)]
    except RecursionError:
        return [_TOO_DEEP]
    return list(dict.fromkeys(_misuses(tree, variables))) or tree


class _Variables(dict[str, str]):
    """All that a pattern of our language asks of a `jinja2.runtime.Context`, at a tenth of its cost."""

    resolve_or_missing = dict.__getitem__

    def __missing__(self, name: str) -> object:
        """Say that there is no such variable."""
        return missing


def _misuses(tree: nodes.Template, variables: Collection[str]) -> Iterator[str]:
    """Say what in a parsed pattern is outside the language."""
    for node in (tree, *tree.find_all(nodes.Node)):
        if not isinstance(node, ALLOWED_NODES):
            yield f"{type(node).__name__} is not allowed; {LANGUAGE}"
        elif isinstance(node, nodes.Name) and node.name not in variables:
            yield f"unknown variable {node.name!r}; known are {', '.join(sorted(variables))}"
        elif isinstance(node, nodes.Const) and not isinstance(node.value, str):
            yield f"{node.value!r} is not allowed; constants are texts in quotes"
        elif isinstance(node, nodes.Operand) and node.op not in ALLOWED_COMPARISONS:
            yield "only == and != can compare"
        elif isinstance(node, nodes.CondExpr) and node.expr2 is None:
            yield "an if inside {{ }} needs an else"
        elif isinstance(node, nodes.Filter) and node.name not in ("a", "as"):
            yield f"No filter named {node.name!r}; {LANGUAGE}"
        elif isinstance(node, nodes.Filter) and not _is_well_called(node):
            yield f"filter {node.name!r} has wrong arguments; {LANGUAGE}"


def _is_well_called(node: nodes.Filter) -> bool:
    """Tell whether `a` stands alone, and `as` with one text that holds "~" once: twice could double for ever."""
    if node.kwargs or node.dyn_args or node.dyn_kwargs:
        return False
    frames = [frame.value for frame in node.args if isinstance(frame, nodes.Const) and isinstance(frame.value, str)]
    return [frame.count("~") for frame in frames] == [1] * len(node.args) and len(frames) == (node.name == "as")


def _render_and_lint(templates: TemplateSet, name: str, context: Mapping[str, str]) -> list[str]:
    try:
        text = templates.render(name, context)
    except UndefinedError as error:
        return [str(error.message)]
    return lint(text) if text else ["renders nothing"]
