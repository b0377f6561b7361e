"""`decoder=None` leaves every member as bytes; without it Ray reads text and JSON and opens JPEG and PNG as arrays.

Rows come in no particular order. Where a data set mixes formats, a row has a column for each, NaN in those that it lacks.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import ray.data

from compat.oracle import Sample, run_client


def read(root: Path) -> ray.data.Dataset:
    """Read a data set in parallel."""
    tars = sorted(str(path) for path in root.glob("data/*.tar"))
    return ray.data.read_webdataset(tars, decoder=None)


def samples(root: Path) -> Iterator[Sample]:
    """Leave out the columns that a row lacks, and read text and JSON."""
    for row in read(root).iter_rows():
        members = {name: value for name, value in row.items() if not (isinstance(value, float) and math.isnan(value))}
        texts = {"txt": members["txt"].decode()} if "txt" in members else {}
        yield {**members, "json": json.loads(members["json"]), **texts}


if __name__ == "__main__":
    run_client("ray", {"rows": samples})
