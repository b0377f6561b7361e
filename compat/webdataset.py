"""`decode()` reads text and JSON and leaves images as bytes; `decode("pil")` opens them, too.

Shards come in order here; for training say `shardshuffle=1000` and add `.shuffle(1000)`.
"""

from pathlib import Path

from webdataset import WebDataset

from compat.oracle import run_client


def read(root: Path) -> WebDataset:
    """Stream a data set."""
    tars = sorted(str(path) for path in root.glob("data/*.tar"))
    return WebDataset(tars, shardshuffle=False).decode()


if __name__ == "__main__":
    run_client("webdataset", {"streaming": read})
