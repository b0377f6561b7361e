"""A condition in SQL over the metadata: one expression, which can neither look elsewhere nor come out otherwise tomorrow.

DuckDB parses it, and only a few classes of expressions and functions pass; it is then evaluated on rows in memory by
a connection that is shut off from files, settings and extensions. The second fence holds even where the first has a gap.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FUNCTIONS = frozenset(
    {"abs", "ceil", "floor", "greatest", "least", "mod", "round"}
    | {"concat", "lower", "ltrim", "replace", "rtrim", "substr", "substring", "trim", "upper"}
    | {"contains", "ends_with", "regexp_full_match", "regexp_matches", "starts_with", "strlen"}
    | {"len", "length", "list_contains", "list_has", "list_has_all", "list_has_any"}
)
"""Functions that a condition may call. None reads a file, asks the clock or draws lots."""

_SYNTAX = frozenset(
    {"array_extract", "ilike_escape", "like_escape", "list_value", "not_ilike_escape", "not_like_escape"}
)
"""Functions by which DuckDB writes `list[1]`, `LIKE … ESCAPE …` and `['a', 'b']`."""

_EXPRESSIONS = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE"}
)
"""Classes of DuckDB's parse tree that look at nothing but the row before them."""

_SHUT_OFF: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "lock_configuration": True,
    "threads": 1,
}
_COLUMNS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that has been checked."""

    text: str
    columns: tuple[str, ...]
    """What it reads."""


def parse_condition(text: str, columns: pa.Schema) -> Condition:
    """Check that `text` is one condition over these columns.

    Raises:
        ModuleNotFoundError: DuckDB is not installed.
        ValueError: it is no expression, does more than look at a row, or names a column that there is not.
    """
    statements, frame = _parse(text), _parse("true")
    condition = statements[0]["node"].pop("where_clause", None)
    del frame[0]["node"]["where_clause"]
    if statements != frame:
        raise ValueError(f"--where must be one condition, such as \"bag <> ''\"; {text!r} goes on after its end")
    nodes = [node for node in _nodes(condition) if "class" in node]
    for node in nodes:
        _check_node(node, text)
    named = [".".join(node["column_names"]) for node in nodes if node["class"] == "COLUMN_REF"]
    by_lower_case = {name.lower(): name for name in columns.names}  # names of SQL know no case
    for name in named:
        if name.lower() not in by_lower_case:
            close = get_close_matches(name, columns.names, n=3) or [*columns.names[:_COLUMNS_SHOWN], "…"]
            raise ValueError(f"--where names {name!r}, which is no column; there are {', '.join(close)}")
    found = Condition(text, tuple(dict.fromkeys(by_lower_case[name.lower()] for name in named)))
    evaluate(found, columns.empty_table())
    return found


def evaluate(condition: Condition, samples: pa.Table) -> NDArray[np.bool_]:
    """Say for each row of `samples` whether the condition holds: Bool (rows,). Where it is null, it does not.

    Raises:
        ValueError: it cannot be evaluated, or gives something other than true and false.
    """
    import duckdb  # noqa: PLC0415  (optional, and `parse_condition` has said how to get it)

    with _connect() as connection:
        connection.register("samples", samples.select(condition.columns or samples.column_names[:1]))
        try:
            answer = connection.execute(f"SELECT ({condition.text}\n) FROM samples")  # noqa: S608  (parsed and shut off)
            if (kind := str(answer.description[0][1])) != "BOOLEAN":
                raise ValueError(f"--where must be true or false; {condition.text!r} is {kind}")
            (holds,) = answer.fetchnumpy().values()
        except duckdb.Error as error:
            raise ValueError(f"--where {condition.text!r} fails: {_first_line(error)}") from None
    return np.ma.filled(holds, False).astype(bool)


def _parse(condition: str) -> list[dict[str, Any]]:
    """Give DuckDB's parse trees of a query with this condition: one, and more if it ends the query and begins others."""
    query = f"SELECT * FROM samples WHERE ({condition}\n)"  # noqa: S608  (only parsed)
    with _connect() as connection:
        (answer,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0]
    parsed = json.loads(answer)
    if parsed["error"]:
        message = parsed["error_message"].partition("\n")[0]
        raise ValueError(f"--where must be one condition in SQL, such as \"bag <> ''\"; {condition!r}: {message}")
    statements: list[dict[str, Any]] = parsed["statements"]
    return statements


def _connect() -> "DuckDBPyConnection":
    try:
        import duckdb  # noqa: PLC0415  (optional)
    except ModuleNotFoundError:
        raise ModuleNotFoundError("--where needs DuckDB; pip install passerby[select]") from None
    return duckdb.connect(":memory:", config=_SHUT_OFF)


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a parse tree."""
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(child)


def _check_node(node: dict[str, Any], text: str) -> None:
    """Refuse what does more than look at one row."""
    if node["class"] not in _EXPRESSIONS:
        what = node["class"].lower().replace("_", " ")
        raise ValueError(f"--where may hold columns, values, operators and functions; {text!r} holds a {what}")
    if node["class"] != "FUNCTION":
        return
    name = node["function_name"].lower()
    if name.isidentifier() and name not in FUNCTIONS | _SYNTAX:
        raise ValueError(f"--where may not call {name}; allowed are {', '.join(sorted(FUNCTIONS))}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
