"""Runs as `finetune` and `pretrain` leave them, of random weights: for tests of what is done with a run afterwards."""

from importlib import import_module
from pathlib import Path

import numpy as np
import tiny_reid
import torch

from finetune.trained import KINDS, PooledSearcher
from passerby.checkpoint import save_encoder
from passerby.nets.clip_pair import read_architecture
from passerby.tokens import Tokenizer

IMAGES = {
    "image_height": tiny_reid.HEIGHT,
    "image_width": tiny_reid.WIDTH,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.3],
}
REID = {"kind": "reid", "architecture": "resnet10t", **IMAGES, "last_stride": 1}
REID |= {"test_feature": "after_neck", "distance": "cosine"}
VIT = {**REID, "architecture": "vit_nano_patch8"}
PLAIN = {"architecture": "resnet10t", **IMAGES}
CAPTIONS = [text for person in range(12) for text in tiny_reid.captions_of(person)]
TEXTS = {
    "text_architecture": "bert_nano",
    "text_length": 24,
    "tokenizer": Tokenizer.from_captions(CAPTIONS, 200).to_json(),
}
TEXT_TO_IMAGE = {"kind": "text-to-image", "architecture": "vit_nano_patch8", **IMAGES, **TEXTS, "embedding_width": 32}
TEXT_TO_IMAGE |= {"prototypes": 2, "test_feature": "global", "distance": "cosine"}
MMET = {"kind": "mmet", "architecture": "vit_nano_patch8", **IMAGES, **TEXTS, "modality": "multimodal"}
MMET |= {"multimodal_layers": 1, "test_feature": "after_neck", "distance": "cosine"}

PI_VL = {
    "kind": "pi-vl",
    "architecture": "tiny-vit",
    **IMAGES,
    "student": "none",
    "tower": read_architecture("tiny-vit", ""),
}
PI_VL |= {"stride": 16, "cameras": 4, "test_feature": "before_neck", "distance": "cosine"}


def build_searcher(table, seed=0):
    """Build a searcher of random weights, whose statistics are those of a few figures."""
    torch.manual_seed(seed)
    searcher = import_module(KINDS[table["kind"]]).rebuild(table) if "kind" in table else PooledSearcher(table)
    for name, tensor in searcher.state_dict().items():
        if tensor.is_floating_point() and not tensor.any() and not name.endswith("running_mean"):
            tensor.uniform_(0.1, 1)  # residual branches begin at zero
    figures = np.stack([tiny_reid.figure(person, 1, 0) for person in tiny_reid.TRAIN]).astype(np.float32) / 255
    images = (figures - np.float32(table["image_mean"])) / np.float32(table["image_std"])
    for module in searcher.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # take the statistics of one batch as they are
    with torch.no_grad():
        told = [torch.zeros(len(images), dtype=torch.int64)] if table.get("cameras") else []
        searcher.train().embed_images(torch.from_numpy(images).permute(0, 3, 1, 2), *told)
    return searcher.eval()


def write_run(folder: Path, table, *, seed=0) -> Path:
    """Write the export of a run, the configuration with its seed, and the numbers of ten epochs, the fourth of them best."""
    folder.mkdir(parents=True)
    searcher = build_searcher(table, seed)
    weights = searcher if "kind" in table else searcher.encoder.backbone
    save_encoder(folder, weights, {**table, "trained_on": "somewhere"})
    method = table.get("kind", "vtbr")
    (folder / "config.toml").write_text(
        f'[run]\nmethod = "{method}"\n[method]\ninit = "runs/vtbr"\n[loop]\nseed = {seed}\nepochs = 10\n'
    )
    (folder / "metrics.jsonl").write_text(
        '{"step": 20, "kind": "training", "epoch": 10.0}\n{"step": 20, "kind": "validation", "mAP": 0.5, "best_step": 8}\n'
    )
    return folder
