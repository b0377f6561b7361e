"""A run in parts: each a process anywhere, none of which waits for another, and one command that completes the data set.

What the parts make lies in `data/` and `meta/` as in any run. What only they know, which are the entries of the manifest,
they leave in `ROOT/parts.json`; the last step needs neither the inputs nor a model.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from passerby.config import config_hash, describe_difference
from passerby.engine import Engine
from passerby.generate import PARTS_NAME, Progress, Recipe, check_bad_share, complete, header_of, make_units
from passerby.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from passerby.shards.output import Output
from passerby.shards.write import ShardRecord, shard_names


@dataclass(frozen=True, slots=True)
class Part:
    """One of `of` equal shares of a run's units, which are whole and in order so that reads stay together.

    >>> str(Part(3, 7)), Part(3, 7).units(10)
    ('3/7', range(2, 4))

    Raises:
        ValueError: there is no such part.
    """

    number: int
    """From 1."""

    of: int

    def __post_init__(self) -> None:
        """Refuse a part that does not exist."""
        if not 1 <= self.number <= self.of:
            raise ValueError(f"part {self} does not exist; give i/n with i from 1 to n, such as 3/7")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def units(self, count: int) -> range:
        """Say which of `count` units are its own; none, where there are more parts than units."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


def generate_part(
    recipe: Recipe,
    part: Part,
    output: Output,
    *,
    engine: Engine,
    max_bad: float,
    beside: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> list[ShardRecord]:
    """Make the shards of one part, or what of them is missing, and give their records.

    The options are those of `passerby.generate.generate`.

    Raises:
        ValueError: as `generate`; or other parts have run with other versions of what decides the manifest.
    """
    units = part.units(sum(recipe.splits.values()))

    def leave_beside() -> None:
        _leave_header(recipe, output, part.of)
        beside()

    return make_units(
        recipe, units, output, engine=engine, max_bad=max_bad, beside=leave_beside, on_progress=on_progress
    )


def complete_parts(output: Output, *, max_bad: float) -> Manifest:
    """Complete the data set that parts have made; what is complete already stays as it is.

    Args:
        output: Where the parts have written; to be finished by the caller.
        max_bad: Largest share of the inputs that may be unreadable, 0…1.

    Raises:
        FileNotFoundError: no part has run here, or shards are missing.
        ValueError: more than `max_bad` of the inputs are bad, or the shards make no data set together.
    """
    stored = output.read(PARTS_NAME)
    if stored is None:
        return _completed(output)
    left = json.loads(stored)
    output.claim(left["header"]["config"])
    records = _records(output, left)
    check_bad_share(records, sum(record.kept + record.quarantined for record in records), max_bad)
    return complete(output, left["splits"], left["header"])


def _completed(output: Output) -> Manifest:
    stored = output.read(MANIFEST_NAME)
    if stored is None:
        raise FileNotFoundError(f"{output} has no {PARTS_NAME}, so no part has run there; give generators --units i/n")
    manifest = json.loads(stored)
    output.claim(manifest["config"])
    output.gather([shard["name"] for shard in manifest["shards"]])
    return read_manifest(output.root)


def _leave_header(recipe: Recipe, output: Output, parts: int) -> None:
    """Write what completing needs, unless another part has; equal parts write equal bytes, so they may all do it at once."""
    if output.read(MANIFEST_NAME) is not None:
        return  # the data set is complete; at most, some of its shards are made again
    stored = output.read(PARTS_NAME)
    left = json.loads(json.dumps({"parts": parts, "splits": dict(recipe.splits), "header": header_of(recipe)}))
    before = left if stored is None else json.loads(stored)
    if before["header"] != left["header"]:
        difference = describe_difference(before["header"], left["header"])
        raise ValueError(
            f"other parts in {output} ran in another environment ({difference}); run all in the same, or delete"
            f" {PARTS_NAME} to go on with this one"
        )
    if before["parts"] != parts or stored is None:
        output.write(PARTS_NAME, (json.dumps(left, indent=2, ensure_ascii=False) + "\n").encode())


def _records(output: Output, left: Mapping[str, Any]) -> list[ShardRecord]:
    """Read the records of all shards, or say which are missing and whose they are."""
    names = shard_names(left["splits"])
    expected = config_hash(left["header"]["config"])
    records = [record for record in output.records(names) if record.config_hash == expected]
    if len(records) == len(names):
        return records
    done = {record.name for record in records}
    parts = [Part(number, left["parts"]) for number in range(1, left["parts"] + 1)]
    lacking = {part: [name for unit in part.units(len(names)) if (name := names[unit]) not in done] for part in parts}
    listed = "; ".join(f"--units {part}: {_shortened(shards)}" for part, shards in lacking.items() if shards)
    raise FileNotFoundError(
        f"{output} lacks {len(names) - len(records)} of {len(names)} shards; run these parts again, then this: {listed}"
    )


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
