"""Configurations: strict reading from TOML into dataclasses, canonical bytes, hash, and what differs between two."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from passerby.untrusted import read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")
Table = dict[str, dict[str, Any]]
"""Sections of a configuration, by name."""


class ConfigError(ValueError):
    """Options that cannot work together, all of them in one message."""


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash a configuration: 16 hexadecimal digits of blake2b over its JSON with sorted names."""
    canonical = json.dumps(config, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def describe_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say which entries differ between two configurations, with both values: `seed: 0 there, 1 here`."""
    names = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {before.get(name)!r} there, {after.get(name)!r} here" for name in names)


def read_table(path: Path) -> Table:
    """Read a TOML file of sections.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it is no TOML, or a value stands outside the sections.
    """
    try:
        table = read_toml(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if stray := [name for name, value in table.items() if not isinstance(value, dict)]:
        raise ConfigError(
            f"{path}: {stray} must stand in a section, such as [{next(iter(table.keys() - stray), 'loop')}]"
        )
    return table


def apply_settings(table: Mapping[str, Mapping[str, Any]], settings: Sequence[str]) -> Table:
    """Give a table with some values replaced.

    Args:
        table: Sections.
        settings: Each such as `loop.steps=100`; the value as in TOML, and text may do without quotes.

    Raises:
        ConfigError: a setting is not of this form.
    """
    changed = {name: dict(section) for name, section in table.items()}
    for setting in settings:
        name, is_given, text = setting.partition("=")
        section, is_nested, field = name.strip().partition(".")
        if not (is_given and is_nested and field) or "." in field:
            raise ConfigError(f"{setting!r} sets nothing; write section.name=value, such as loop.steps=100")
        changed.setdefault(section, {})[field] = _parse_value(text.strip())
    return changed


def read_sections(kinds: Mapping[str, type[Any]], table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Make the dataclass of every section; what a table does not say keeps its default.

    Raises:
        ConfigError: with every misfit of every section: unknown names, missing ones, wrong types, impossible values.
    """
    faults = [f"[{name}] is no section; there are {', '.join(kinds)}" for name in table.keys() - kinds.keys()]
    sections = {}
    for name, kind in kinds.items():
        sections[name], wrong = _build(kind, table.get(name, {}))
        faults += [f"{name}.{fault}" for fault in wrong]
    if faults:
        raise ConfigError("; ".join(faults))
    return sections


def read_section(kind: type[Section], values: Mapping[str, Any]) -> Section:
    """Make a dataclass of a table's values.

    Raises:
        ConfigError: with every misfit; see `read_sections`.
    """
    section, faults = _build(kind, values)
    if section is None:
        raise ConfigError("; ".join(faults))
    return section


def to_table(sections: Mapping[str, "DataclassInstance"]) -> Table:
    """Give sections as plain values, defaults included: what `read_sections` makes them of."""
    return json.loads(json.dumps({name: asdict(section) for name, section in sections.items()}))  # type: ignore[no-any-return]


def to_toml(table: Mapping[str, Any]) -> str:
    """Write plain values, and sections of them, as TOML."""
    plain = [f"{name} = {_value(value)}\n" for name, value in table.items() if not isinstance(value, Mapping)]
    nested = [f"[{name}]\n{to_toml(value)}" for name, value in table.items() if isinstance(value, Mapping)]
    return "\n".join([*(["".join(plain)] if plain else []), *nested])


def _build(kind: type[Section], values: Mapping[str, Any]) -> tuple[Section | None, list[str]]:
    """Make a dataclass of a table's values, or list all that is wrong with them."""
    known = {field.name: field for field in fields(kind)}
    hints = get_type_hints(kind)
    faults = [f"{name} is unknown{_suggest(name, known)}" for name in values if name not in known]
    faults += [f"{name} is missing" for name, field in known.items() if _is_required(field) and name not in values]
    converted = {}
    for name in [name for name in known if name in values]:
        try:
            converted[name] = _convert(values[name], hints[name])
        except TypeError as error:
            faults.append(f"{name} is {values[name]!r}, which is no {error}")
    if not faults:
        try:
            return kind(**converted), []
        except ValueError as error:
            faults.append(str(error))
    return None, faults


def _value(value: object) -> str:
    """Write one value: JSON is TOML for texts, numbers, booleans and lists, but for what JavaScript calls Infinity."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f").replace("Infinity", "inf")


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _suggest(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  (only mistakes need it)

    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (there are {', '.join(known)})"


def _convert(value: object, hint: Any) -> object:  # noqa: ANN401  (a type, of any kind)
    """Give a value of TOML as the type of a field.

    Raises:
        TypeError: it is none; the text says what the type is.
    """
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise TypeError(f"choice of {', '.join(map(str, get_args(hint)))}")
    if get_origin(hint) is tuple:
        return _convert_list(value, get_args(hint), hint)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise TypeError(hint.__name__)
    return value


def _convert_list(value: object, kinds: tuple[Any, ...], hint: object) -> tuple[object, ...]:
    elements = list(value) if isinstance(value, (list, tuple)) else None
    if elements is not None and kinds[1:] == (...,):
        kinds = (kinds[0],) * len(elements)
    if elements is None or len(elements) != len(kinds):
        raise TypeError(f"list as {hint} takes it")
    return tuple(_convert(element, kind) for element, kind in zip(elements, kinds, strict=True))
