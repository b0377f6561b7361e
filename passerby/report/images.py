"""What a report says of the images themselves and of the people on them: how many, how large, which are there twice."""

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerby.report.wording import group_rows, hash_texts

SMALLEST = 5


@dataclass
class ImageCounts:
    """What is counted of some images; of all, once merged."""

    images: int = 0
    captions: Counter[int] = field(default_factory=Counter)
    """Images by their number of captions."""

    empty: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    people: Counter[str] = field(default_factory=Counter)
    """Images of each person."""

    keys: list[NDArray[np.uint64]] = field(default_factory=list)
    contents: list[NDArray[np.uint64]] = field(default_factory=list)
    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    smallest: list[tuple[int, str, int, int]] = field(default_factory=list)
    """Pixels, key, width and height."""

    def add(self, table: pa.Table) -> None:
        """Count the rows of one table, whose columns are named as in `passerby.readers.caption_files`."""
        self.images += len(table)
        self.captions.update(pc.fill_null(pc.list_value_length(table["captions"]), 0).to_pylist())
        self.empty += sum(not (text and text.strip()) for text in pc.list_flatten(table["captions"]).to_pylist())
        if "split" in table.column_names:
            self.splits.update(table["split"].to_pylist())
        self.people.update(filter(None, people_of(table)))
        self.keys.append(hash_texts(table["key"].to_pylist()))
        if "sha256" in table.column_names:
            self.contents.append(hash_texts(table["sha256"].drop_null().to_pylist()))
        if "width" in table.column_names and "height" in table.column_names:
            self._add_sizes(table)

    def merge(self, other: "ImageCounts") -> None:
        """Take in the counts of other images."""
        self.images += other.images
        self.empty += other.empty
        for ours, theirs in (
            (self.captions, other.captions),
            (self.widths, other.widths),
            (self.heights, other.heights),
        ):
            ours.update(theirs)
        self.splits.update(other.splits)
        self.people.update(other.people)
        self.keys += other.keys
        self.contents += other.contents
        self.smallest = heapq.nsmallest(SMALLEST, self.smallest + other.smallest)

    def totals(self) -> dict[str, Any]:
        """Give `captions`, `images` and `people`, as `passerby.report` lists them."""
        mean = round(self.people.total() / max(1, len(self.people)), 4)
        images = self.people.values()
        repeated = self.images - len(group_rows(_stacked(self.keys))[0])
        return {
            "captions": {
                "total": sum(number * images for number, images in self.captions.items()),
                "empty": self.empty,
                "per_image": {str(number): self.captions[number] for number in sorted(self.captions)},
            },
            "images": {"total": self.images, "repeated_keys": repeated},
            "people": {
                "total": len(self.people),
                "images_with_person": self.people.total(),
                "images_per_person": {"mean": mean, "min": min(images), "max": max(images)} if images else None,
            },
        }

    def health(self) -> dict[str, Any]:
        """Give `duplicates` and `image_sizes`, as `passerby.report` lists them."""
        contents = _stacked(self.contents)
        _, copies = group_rows(contents)
        duplicates = {
            "images": int(copies.sum()) - len(copies),
            "groups": int((copies > 1).sum()),
            "largest": int(copies.max(initial=0)),
        }
        return {
            "duplicates": duplicates if len(contents) else None,
            "image_sizes": self._sizes() if self.widths else None,
        }

    def _sizes(self) -> dict[str, Any]:
        return {
            "images": self.widths.total(),
            "width": _spread(self.widths),
            "height": _spread(self.heights),
            "smallest": [{"key": key, "width": width, "height": height} for _, key, width, height in self.smallest],
        }

    def _add_sizes(self, table: pa.Table) -> None:
        sized = table.select(["key", "width", "height"]).filter(pc.is_valid(table["width"]))
        keys, widths, heights = (column.to_pylist() for column in sized.columns)
        self.widths.update(widths)
        self.heights.update(heights)
        rows = ((width * height, key, width, height) for key, width, height in zip(keys, widths, heights, strict=True))
        self.smallest = heapq.nsmallest(SMALLEST, [*self.smallest, *rows])


def people_of(table: pa.Table) -> list[str]:
    """Name the person of every row, with the split where there is one: several data sets begin at 0 in each split."""
    people = table["person_id"]
    if "split" in table.column_names:
        whole = pc.binary_join_element_wise(pc.fill_null(table["split"], ""), people, "/")
        people = pc.if_else(pc.equal(people, ""), "", whole)
    names: list[str] = people.to_pylist()
    return names


def _stacked(arrays: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty((0, 2), np.uint64), *arrays])


def _spread(counts: Mapping[int, int]) -> dict[str, Any]:
    ordered = sorted(counts)
    reached = np.cumsum([counts[pixels] for pixels in ordered])
    return {
        "min": ordered[0],
        "median": ordered[int(np.searchsorted(reached, reached[-1] / 2))],
        "max": ordered[-1],
        "histogram": {str(pixels): counts[pixels] for pixels in ordered},
    }
