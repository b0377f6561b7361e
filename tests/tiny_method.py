"""A real method that is tiny: from a picture, which words its caption has. For tests of the loop."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from passerby.config import read_sections
from passerby.optim import adamw, decay_groups
from passerby.training.augment import Augmentation
from passerby.training.method import LoopConfig
from passerby.training.reading import DataConfig
from passerby.training.run import Job
from pretrain.job import build_job

SEEN: list[dict] = []
"""What the training passes of this process were given."""


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 8
    learning_rate: float = 0.01
    dropout: float = 0.1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    explodes_at: int = -1
    image_height: int = 32
    image_width: int = 16
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    text_length: int = 64


class BagOfWords(nn.Module):
    def __init__(self, config, words):
        super().__init__()
        self.config = config
        self.register_buffer("mean_picture", torch.zeros(3, config.image_height, config.image_width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.tower = nn.Sequential(
            nn.Conv2d(3, config.width, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(4 * config.width, words))

    def forward(self, batch):
        logits = self.head(self.tower(batch["images"] - self.mean_picture))
        targets = torch.zeros_like(logits).scatter_(1, batch["token_ids"], batch["token_mask"].float())
        loss = functional.binary_cross_entropy_with_logits(logits.float(), targets)
        if self.training:
            SEEN.append({"keys": batch["keys"], "seeds": [int(batch["seed"]), int(batch["shared_seed"])]})
            loss = loss * (float("nan") if self.steps == self.config.explodes_at else 1.0)
            self.steps += 1
        return {"loss": loss, "loss_components": {"words": loss.detach()}}

    def prepare(self, batches):
        self.mean_picture.copy_(next(iter(batches))["images"][:2].mean(dim=0))

    def parameter_groups(self):
        return decay_groups(self.named_parameters(), learning_rate=self.config.learning_rate, weight_decay=0.01)

    def build_optimizer(self, groups):
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(groups)
        return adamw(groups, betas=(0.9, 0.999), eps=1e-8)

    def evaluate(self, batches):
        losses = [float(self(batch)["loss"]) for batch in batches]
        return {"words_loss": sum(losses) / len(losses)}

    def encoder(self):
        return self.tower, {"architecture": "tiny", "image_height": 32, "image_mean": [0.5, 0.5, 0.5]}


def build(config, tokenizer, *, generator_seed):
    torch.manual_seed(generator_seed)
    return BagOfWords(config, tokenizer.size)


def job(root, run, *, workers=0, device="cpu", module=sys.modules[__name__], **sections) -> Job:
    """Six steps an epoch, unless the sections say otherwise; `module` has `Config` and `build`."""
    kinds = {"method": Config, "loop": LoopConfig, "data": DataConfig, "augment": Augmentation}
    loop = {"steps": 12, "batch_size": 8, "log_every": 1, "save_every": 5, "validate_every": 6, "warmup_steps": 2}
    table = {
        "method": sections.get("method", {}),
        "loop": loop | sections.get("loop", {}),
        "data": {"validation_share": 0.3} | sections.get("data", {}),
        "augment": sections.get("augment", {"flip": 0.5, "crop": "pad", "brightness": 0.2}),
    }
    return build_job(
        "tiny", module, read_sections(kinds, table), root=str(root), run=Path(run), workers=workers, device=device
    )
