"""YAML that knows its lines: the files of words a user edits, read so that every fault is named with the place to mend it."""

import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml


class WordsError(ValueError):
    """Everything wrong with a file of words, one fault a line: `file:LINE: what is wrong (value got), what is allowed`."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


def digest_of(words: object) -> str:
    """Hash words as read, SHA-256 of their JSON: the layout and the comments of their file do not matter."""
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


class MarkedYaml:
    """One YAML file and the faults found in it so far.

    The readers give what could be read and note the rest, so that one pass finds all faults; `raise_faults` ends the pass.
    Scalars are read as the text that stands there: `no` and `~` are words here, not `False` and `None`.
    """

    def __init__(self, path: Path) -> None:
        """Parse `path` without building any object but strings.

        Raises:
            FileNotFoundError: there is no such file.
            WordsError: it is not UTF-8 or not YAML.
        """
        self.path = path
        self._faults: list[tuple[int, str]] = []
        try:
            root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise WordsError([f"{path}:{line}: not YAML: {error.problem}"]) from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise WordsError([f"{path}:1: not YAML in UTF-8: {error}"]) from error
        if root is None:
            raise WordsError([f"{path}:1: the file is empty"])
        self.root: yaml.Node = root

    def fault(self, node: yaml.Node, message: str) -> None:
        """Note one fault at the line of `node`."""
        self._faults.append((node.start_mark.line + 1, message))

    def raise_faults(self) -> None:
        """End the pass.

        Raises:
            WordsError: any fault was noted; all of them, in the order of their lines.
        """
        if self._faults:
            raise WordsError([f"{self.path}:{line}: {message}" for line, message in sorted(set(self._faults))])

    def entries(self, node: yaml.Node) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Read a mapping with free names: (name, node of the name, node of the value), in file order."""
        if not isinstance(node, yaml.MappingNode):
            self.fault(node, f"expected `name: value` pairs ({_shown(node)})")
            return []
        entries: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for name_node, value in node.value:
            name = self.text(name_node)
            if name in entries:
                self.fault(name_node, f"{name!r} stands twice; keep one")
            entries[name] = (name, name_node, value)
        return list(entries.values())

    def fields(
        self, node: yaml.Node, *, allowed: Collection[str], required: Collection[str] = ()
    ) -> dict[str, yaml.Node]:
        """Read a mapping with known names, noting the unknown and the missing."""
        fields: dict[str, yaml.Node] = {}
        for name, name_node, value in self.entries(node):
            if name in allowed:
                fields[name] = value
            else:
                self.fault(name_node, f"unknown field ({name}), allowed: {', '.join(allowed)}")
        if isinstance(node, yaml.MappingNode):
            for name in required:
                if name not in fields:
                    self.fault(node, f"the field {name!r} is missing")
        return fields

    def items(self, node: yaml.Node) -> list[yaml.Node]:
        """Read a list."""
        if isinstance(node, yaml.SequenceNode) and node.value:
            return list(node.value)
        self.fault(node, f"expected a list with at least one entry ({_shown(node)})")
        return []

    def texts(self, node: yaml.Node) -> list[tuple[str, yaml.Node]]:
        """Read a list of words, each with its node."""
        return [(self.text(item), item) for item in self.items(node)]

    def text(self, node: yaml.Node) -> str:
        """Read one line of plain ASCII words; captions are ASCII."""
        if not isinstance(node, yaml.ScalarNode):
            self.fault(node, f"expected words ({_shown(node)})")
            return ""
        words = str(node.value)
        if not words.strip() or words != " ".join(words.split()) or not words.isascii():
            self.fault(node, f"expected ASCII words on one line with single blanks ({words!r})")
        return words

    def flag(self, node: yaml.Node) -> bool:
        """Read true or false."""
        return self.choice(node, ("true", "false")) == "true"

    def choice(self, node: yaml.Node, allowed: Sequence[str]) -> str:
        """Read one of the `allowed` words; the first stands in for a wrong one until the faults are raised."""
        word = self.text(node)
        if word in allowed:
            return word
        self.fault(node, f"unknown value ({word}), allowed: {', '.join(allowed)}")
        return allowed[0]


def _shown(node: yaml.Node) -> str:
    """Name what stands there instead."""
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "`name: value` pairs"
