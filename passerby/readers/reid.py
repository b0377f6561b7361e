"""The official Re-ID data sets, by the names that a user types."""

from collections.abc import Mapping
from pathlib import Path

from passerby.readers import boxes, cuhk03, finegpr, msmt17, pedes
from passerby.readers.official import Reader, ReidInputs

DATASETS: Mapping[str, Reader] = {
    "market1501": boxes.read_market1501,
    "dukemtmc-reid": boxes.read_dukemtmc_reid,
    "occluded-duke": boxes.read_occluded_duke,
    "cuhk03-np-detected": cuhk03.read_detected,
    "cuhk03-np-labeled": cuhk03.read_labeled,
    "msmt17-v1": msmt17.read_v1,
    "msmt17-v1-trainval": msmt17.read_v1_trainval,
    "msmt17-v2": msmt17.read_v2,
    "msmt17-v2-trainval": msmt17.read_v2_trainval,
    "finegpr": finegpr.read_finegpr,
    "cuhk-pedes": pedes.read_cuhk_pedes,
    "icfg-pedes": pedes.read_icfg_pedes,
    "rstpreid": pedes.read_rstpreid,
}
"""What is read by another rule has another name: scores on MSMT17 with and without its validation list do not compare."""


def read_dataset(name: str, folder: Path, *, allow_missing: bool = False) -> ReidInputs:
    """Read a data set by its name; see `Reader`.

    Raises:
        FileNotFoundError: it is not in `folder`, or images that it lists are missing.
        ValueError: nothing has that name, or the data set is damaged.
    """
    if name not in DATASETS:
        raise ValueError(f"no data set is called {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name](folder, allow_missing=allow_missing)
