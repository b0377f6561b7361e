"""The log of removal requests: `ROOT/erasures.jsonl`, a line a revision.

A log of what was removed must not keep what was removed, so it holds hashes (sha256, hexadecimal): of the keys, to finish
a removal that was cut short and to know a request that was met already; of the persons' numbers, for the same; and of the
images, to know the files again under other names. Hashes are pseudonyms, not anonymity: who has a key or a file can ask
the log whether it was removed, which is its purpose; who has only the log cannot read keys or pictures out of it, though
numbers from a short range can be tried one by one. Keep it with the data set, and do not publish it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from passerby.runtime import write_atomically
from passerby.shards.begin import ERASURES_NAME
from passerby.untrusted import parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One removal."""

    revision: int
    """Of the data set, once the removal is done."""
    date: str
    """Year-month-day."""
    reason: str
    count: int
    """Rows that were removed, samples and rejected inputs alike."""
    key_sha256: list[str]
    person_sha256: list[str]
    """Of the persons that were named as such."""
    image_sha256: list[str]


def read_erasures(root: Path) -> list[Erasure]:
    """Read the log; empty where nothing was removed.

    Raises:
        ValueError: it is malformed.
    """
    path = root / ERASURES_NAME
    if not path.exists():
        return []
    names = {field.name for field in fields(Erasure)}
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        stored = parse_json(line, f"{path}, line {number}:")
        if not isinstance(stored, dict) or stored.keys() != names:
            raise ValueError(f"{path}, line {number}: is no removal; it has the fields {sorted(names)}")
        found.append(Erasure(**stored))
    return found


def write_erasures(root: Path, erasures: Iterable[Erasure]) -> None:
    """Write the log, whole or not at all."""
    lines = (json.dumps(asdict(erasure), ensure_ascii=False) + "\n" for erasure in erasures)
    write_atomically(root / ERASURES_NAME, "".join(lines).encode())


def hash_name(name: str) -> str:
    """Hash a key or a person's number."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
