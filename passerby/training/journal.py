"""What a run tells of itself: `metrics.jsonl`, TensorBoard's curves, and `log.txt`."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from passerby.runtime import write_atomically

METRICS_NAME = "metrics.jsonl"
LOG_NAME = "log.txt"


class Journal:
    """Append numbers and notes to a run's folder; what an interrupted run wrote after its last checkpoint is taken back.

    Args:
        run: Folder of the run.
        first_step: Steps done so far.
        on_note: Told of every note.
    """

    def __init__(self, run: Path, *, first_step: int, on_note: Callable[[str], None]) -> None:
        _forget_after(run / METRICS_NAME, first_step)
        self._metrics = (run / METRICS_NAME).open("a", encoding="utf-8")
        self._log = (run / LOG_NAME).open("a", encoding="utf-8")
        self._curves = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)
        self._on_note = on_note

    def numbers(self, step: int, kind: str, values: Mapping[str, float | bool]) -> None:
        """Write the numbers after so many steps.

        Args:
            step: Steps done.
            kind: `training` or `validation`.
            values: By name.
        """
        self._metrics.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._curves.add_scalar(f"{kind}/{name}", value, step)

    def note(self, text: str) -> None:
        """Write a line for people."""
        self._log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")
        self._log.flush()
        self._on_note(text)

    def close(self) -> None:
        """Write what is still held back."""
        self._curves.close()
        self._metrics.close()
        self._log.close()


def _forget_after(path: Path, step: int) -> None:
    """Take lines of later steps away, and one that a crash left unfinished."""
    if not path.exists():
        return
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    write_atomically(path, "".join(kept).encode())
