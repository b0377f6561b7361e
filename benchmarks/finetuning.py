"""How fast people are learnt, beside FastReID, with which LUPerson's authors fine-tune: one net, one batch, one size of images.

    python -m benchmarks.finetuning [--batch 16] [--steps 12]

Both train the strong baseline on a ResNet-50, with identity and triplet loss. Ours is the whole run of the command, which reads
shards, decodes and augments. FastReID's net, losses and optimizer get one batch again and again, which lies ready. It asks for
a torch of 2022 and does with today's: `pip install --no-deps fastreid yacs termcolor tabulate`. Without it, ours stands alone.
"""

import argparse
import importlib.util
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reading import make_shards
from benchmarks.side_by_side import Row, seconds_of, show
from benchmarks.training import rate
from passerby.cli.finetune import build_job

HEIGHT, WIDTH = 256, 128
IMAGES_A_PERSON = 4
PEOPLE = 751
"""Of Market-1501's training images, for the last layer of the rival."""


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    show(measure(options.batch, options.steps))


def measure(batch: int, steps: int) -> Iterator[Row]:
    """Train for some steps."""
    with tempfile.TemporaryDirectory() as name:
        ours = rate(job_of(Path(name), batch, steps))
    has_rival = importlib.util.find_spec("fastreid") is not None
    yield Row(
        task=f"fine-tune reid (ResNet-50, {batch} images of {HEIGHT}x{WIDTH}) from shards",
        rate=ours,
        unit="samples/s",
        rival="FastReID, batch that lies ready" if has_rival else "",
        rival_rate=rate_of_fastreid(batch, steps) if has_rival else 0,
    )


def job_of(folder: Path, batch: int, steps: int) -> Any:  # noqa: ANN401  (of any method)
    """Put a run of one epoch together, as the command does."""
    root = make_shards(folder / "shards", batch * steps, shards=4, images_a_person=IMAGES_A_PERSON)
    told = ["loop.epochs=1", "loop.warmup_epochs=0", "loop.log_every=1", "data.validation_share=0"]
    return build_job(
        "reid",
        str(root),
        folder / "run",
        config="reid-paper",
        settings=[*told, f"loop.batch_size={batch}", f"loop.images_a_person={IMAGES_A_PERSON}"],
        workers=2,
        device="auto",
    )


def rate_of_fastreid(batch: int, steps: int) -> float:
    """Give the median of FastReID's samples a second, after the first third of the steps."""
    import torch
    from fastreid.config import get_cfg
    from fastreid.modeling.meta_arch import build_model
    from fastreid.solver import build_optimizer
    from fastreid.utils.events import EventStorage

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = get_cfg()
    settings = {
        "MODEL.DEVICE": device,
        "MODEL.BACKBONE.PRETRAIN": False,
        "MODEL.BACKBONE.LAST_STRIDE": 1,
        "MODEL.HEADS.NUM_CLASSES": PEOPLE,
        "MODEL.HEADS.WITH_BNNECK": True,
        "MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss"),
        "SOLVER.OPT": "Adam",
    }
    config.merge_from_list([part for setting in settings.items() for part in setting])
    model = build_model(config).train()
    optimizer, _ = build_optimizer(config, model)
    images = 255 * torch.rand(batch, 3, HEIGHT, WIDTH, device=device)
    people = torch.arange(batch, device=device) // IMAGES_A_PERSON

    def step() -> None:
        loss = sum(model({"images": images, "targets": people}).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device

    with EventStorage(0):
        seconds = [seconds_of(step) for _ in range(steps)]
    return batch / statistics.median(seconds[steps // 3 :])


if __name__ == "__main__":
    main()
