"""Texts that strangers wrote, read so that whatever a parser stumbles over is one `ValueError` that names the file.

The parsers are the library's: deep nesting is a `RecursionError` to them, and none knows the name of the file.
`passerby.columnar` does the same for tables, `passerby.tensors` for weights.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""What JSON writes where a text may hold a surrogate, most often one of a pair."""


def read_json(path: Path) -> Any:  # noqa: ANN401  (whatever it holds)
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or nests too deeply.
    """
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes | str, name: object) -> Any:  # noqa: ANN401
    """Parse JSON that came from `name`.

    Raises:
        ValueError: it is no JSON, nests too deeply, or holds half of a surrogate pair, which no file can.
    """
    try:
        value = json.loads(data)
        if _SURROGATE.search(data if isinstance(data, bytes) else data.encode()):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or nests too deeply.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
