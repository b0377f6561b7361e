"""What a data set holds, by its manifest and its tables alone, and in what the samples that a client gives differ from it.

Nothing here knows the project's code, nor opens a tar.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PROBLEMS_SHOWN = 5

Sample = Mapping[str, Any]
"""`__key__`, and under their extensions the caption as text, the fields as a mapping, other members as bytes."""

Reader = Callable[[Path], Iterable[Sample]]
"""Gives the samples of a data set in any order. A member that is None is not there."""


@dataclass(frozen=True)
class Reading:
    """What came of one way to read a data set."""

    expected: int
    """Samples that there are."""

    equal: int
    """Samples that came, once, with every member equal."""

    members: list[str]
    """The extensions that came, sorted."""

    problems: list[str]
    """Empty if all is equal; what differs in the first samples otherwise."""


def run_client(package: str, readers: Mapping[str, Reader], lacking: Iterable[str] = ()) -> None:
    """Compare what each reader gives of the data set named on the command line, and print the result as a line of JSON.

    Args:
        package: the distribution whose version counts.
        readers: the ways to read, each by a few words.
        lacking: members that the client never gives.
    """
    parser = argparse.ArgumentParser(description=f"Compare what {package} reads of a data set with its tables.")
    parser.add_argument("root", type=Path, help="folder of the data set")
    root: Path = parser.parse_args().root
    expected = read_expected(root)
    readings = [
        {"reader": name, **asdict(compare(expected, reader(root), frozenset(lacking)))}
        for name, reader in readers.items()
    ]
    print(json.dumps({"client": package, "version": version(package), "readings": readings}))


def read_expected(root: Path) -> dict[str, dict[str, str]]:
    """Read from the tables what each sample must be: by key, a text for every member, equal where the members are.

    Raises:
        ValueError: tables, `manifest.json` and `sizes.json` do not count the same samples.
    """
    manifest = json.loads((root / "manifest.json").read_bytes())
    rows = [row for path in sorted(root.glob("meta/*.parquet")) for row in pq.read_table(path).to_pylist()]
    expected = {row["key"]: _expected_members(row, manifest["columns"]) for row in rows if row["status"] == "kept"}
    sizes = json.loads((root / "data" / "sizes.json").read_bytes())
    if not len(expected) == manifest["kept"] == sum(sizes.values()):
        raise ValueError(
            f"{root}: the tables tell of {len(expected)} samples, manifest.json of {manifest['kept']}, sizes.json of"
            f" {sum(sizes.values())}; make the data set again"
        )
    return expected


def compare(
    expected: Mapping[str, Mapping[str, str]], found: Iterable[Sample], lacking: frozenset[str] = frozenset()
) -> Reading:
    """Compare the samples found with those expected, member for member.

    Args:
        expected: as `read_expected` gives it.
        found: what a client gave.
        lacking: members that the client never gives.
    """
    problems: list[str] = []
    counts: Counter[str] = Counter()
    members: set[str] = set()
    unequal: set[str] = set()
    for sample in found:
        key = str(sample["__key__"])
        counts[key] += 1
        got = {
            name: text_of(name, value)
            for name, value in sample.items()
            if not name.startswith("__") and value is not None
        }
        members |= got.keys()
        wanted = {name: text for name, text in expected.get(key, {}).items() if name not in lacking}
        if differences := _differences(wanted, got):
            unequal.add(key)
            problems += (f"{key}: {difference}" for difference in differences)
    problems += (f"{key} comes {counts[key]} times" for key in expected if counts[key] != 1)
    problems += (f"{key} is in no table" for key in sorted(counts.keys() - expected.keys()))
    equal = sum(counts[key] == 1 and key not in unequal for key in expected)
    more = [f"and {len(problems) - PROBLEMS_SHOWN} more"] if len(problems) > PROBLEMS_SHOWN else []
    return Reading(len(expected), equal, sorted(members), problems[:PROBLEMS_SHOWN] + more)


def text_of(name: str, value: object) -> str:
    """Give a text that is equal where the members are: the caption, the fields as sorted JSON, a sha256 of bytes."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if name == "json":
        return json.dumps(value, sort_keys=True, ensure_ascii=False)  # tells 1, 1.0 and true apart
    return str(value)


def _expected_members(row: Mapping[str, Any], columns: Iterable[str]) -> dict[str, str]:
    fields = {name: row[name] for name in columns}
    extras = {name.removesuffix("_sha256"): row[name] for name in row if name.endswith("_sha256")}
    image = {row["image_extension"]: row["sha256"]} if row["image_extension"] else {}
    caption = {"txt": row["caption"]} if "caption" in row else {}
    return {**image, **extras, "json": text_of("json", fields), **caption}


def _differences(wanted: Mapping[str, str], got: Mapping[str, str]) -> list[str]:
    both = sorted(wanted.keys() & got.keys())
    return [
        *(f"{name} is {got[name]:.200}, not {wanted[name]:.200}" for name in both if got[name] != wanted[name]),
        *(f"{name} is missing" for name in sorted(wanted.keys() - got.keys())),
        *(f"{name} should not be there" for name in sorted(got.keys() - wanted.keys())),
    ]
