"""What a generator says at its end: how many inputs were kept, how many not, and why."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from passerby.shards.manifest import Manifest


def counts_of(out: str, manifest: "Manifest") -> dict[str, Any]:
    """Give the counts of a finished data set, for machines."""
    return {
        "out": out,
        "seen": manifest.seen,
        "kept": manifest.kept,
        "quarantined": manifest.quarantined,
        "reasons": dict(manifest.reasons),
    }


def counts_text(counts: Mapping[str, Any]) -> str:
    """Give the counts for people."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts["reasons"].items())
    kept, quarantined, seen = (f"{counts[name]:,}" for name in ("kept", "quarantined", "seen"))
    sums = f"kept {kept} + quarantined {quarantined} = seen {seen}{f' ({reasons})' if reasons else ''}"
    return f"{sums}\nwritten to {counts['out']}"
