"""Ranks that hold a part of the method each (FSDP2) learn what ranks that hold all of it do, and go on where others stopped."""

import json
import multiprocessing
import os
import signal
import socket
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import pytest
import tiny_method
import tiny_people
import torch
from torch import distributed, nn
from torch.nn import functional

from passerby.checkpoint import checkpoint_path, load_checkpoint, load_encoder
from passerby.ranks import Ranks, join_ranks
from passerby.training.method import idle_loss
from passerby.training.run import train
from passerby.training.sharded import Sharded, find_blocks

FORKED = multiprocessing.get_context("fork")  # what tests import takes long to import again

pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.hidden, self.out = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, states):
        return states + self.out(functional.gelu(self.hidden(states)))


class Unusual(tiny_method.BagOfWords):
    """With blocks, one of them idle in half of all steps; a tied matrix; a single number; and what is frozen."""

    def __init__(self, config, words):
        super().__init__(config, words)
        width = 4 * config.width
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.blocks[1].out.bias.requires_grad_(False)

    def forward(self, batch):
        states = self.tower(batch["images"] - self.mean_picture)
        count = 2 + int(batch["shared_seed"]) % 2
        for block in self.blocks[:count]:
            states = block(states)
        logits = (self.scale * self.head(self.second(self.first(states)))).float()
        targets = torch.zeros_like(logits).scatter_(1, batch["token_ids"], batch["token_mask"].float())
        loss = functional.binary_cross_entropy_with_logits(logits, targets)
        return {"loss": loss + idle_loss(self), "loss_components": {"blocks": torch.tensor(float(count))}}


def build(config, tokenizer, *, generator_seed):
    torch.manual_seed(generator_seed)
    return Unusual(config, tokenizer.size)


MODULE = SimpleNamespace(Config=tiny_method.Config, build=build)
SECTIONS = {"method": {"dropout": 0.0}, "loop": {"steps": 8, "clip_norm": 0.3, "validate_every": 4}}
SECTIONS["data"] = {"epoch": "padded"}  # an odd batch would weigh the samples of two ranks differently


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    """A run of one rank from end to end."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert learn(root, run, SECTIONS)
    return run


def learn(root, run, sections, *, stop_after=0, **options):
    def stop(now):
        if now.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    job = tiny_method.job(root, run, module=MODULE, **sections)
    return train(job, **{"is_resumed": False, **options}, on_progress=stop, on_note=lambda text: None)


def as_rank(rank, port, work, *told, **options):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    return work(*told, **options)


def on_two_ranks(work, *told, **options):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with ProcessPoolExecutor(2, FORKED) as pool:
        ranks = [pool.submit(as_rank, rank, port, work, *told, **options) for rank in range(2)]
    return [rank.result() for rank in ranks]


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = ("loss", "gradient_norm", "learning_rate")  # validation's batches are of a pass, and so of other sizes
    return {(line["kind"], line["step"], name): line[name] for line in lines for name in told if name in line}


def assert_same(run, other, step=8):
    assert metrics(run) == pytest.approx(metrics(other), abs=1e-5)
    one, two = (load_checkpoint(checkpoint_path(each, step)) for each in (run, other))
    assert one["model"].keys() == two["model"].keys()
    assert all(torch.allclose(one["model"][name], tensor, atol=1e-5) for name, tensor in two["model"].items())
    states = [each["optimizer"]["state"] for each in (one, two)]
    assert states[0].keys() == states[1].keys()
    for number, values in states[1].items():
        assert all(torch.allclose(states[0][number][name], value, atol=1e-5) for name, value in values.items())
    assert one["optimizer"]["param_groups"] == two["optimizer"]["param_groups"]
    weights = load_encoder(other)[0]
    assert all(torch.allclose(tensor, weights[name], atol=1e-5) for name, tensor in load_encoder(run)[0].items())


def test_shared_and_whole_methods_learn_the_same(root, tmp_path):
    sections = {**SECTIONS, "loop": {**SECTIONS["loop"], "accumulation": 2, "best_by": "words_loss"}}

    assert on_two_ranks(learn, root, tmp_path / "whole", sections) == [True, True]
    assert on_two_ranks(learn, root, tmp_path / "shared", sections, is_sharded=True) == [True, True]

    assert {step for _, step, _ in metrics(tmp_path / "shared")} == {*range(1, 9)}
    assert_same(tmp_path / "shared", tmp_path / "whole")
    best = [load_checkpoint(tmp_path / name / "best.pt")["best"] for name in ("shared", "whole")]
    assert best[0] == {"step": best[1]["step"], "value": pytest.approx(best[1]["value"], abs=1e-5)}


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("ranks", [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(root, tmp_path, undisturbed, ranks, is_sharded):
    run = tmp_path / "run"

    def go(count, **options):
        if count == 1:
            return learn(root, run, SECTIONS, **options)
        return all(on_two_ranks(learn, root, run, SECTIONS, is_sharded=is_sharded, **options))

    assert not go(ranks[0], stop_after=3)
    assert checkpoint_path(run, 4).exists()
    assert go(ranks[1], is_resumed=True)

    assert_same(run, undisturbed)


def build_unusual():
    torch.manual_seed(0)
    return Unusual(tiny_method.Config(dropout=0.0), 11)


def look_at_parts(*, is_bf16):
    """Give the share of its numbers that this rank has of each parameter, and the types that blocks and heads compute with."""
    with join_ranks("cpu") as ranks:
        method = build_unusual()
        if not ranks.is_first:
            nn.init.zeros_(method.head[1].weight)  # the first rank's must take its place
        wholes = {name: each.numel() for name, each in method.named_parameters()}
        parallel = Sharded(method, ranks, is_bf16=is_bf16)
        shares = {}
        for name, each in method.named_parameters():
            local = each.to_local() if hasattr(each, "to_local") else each
            shares[name] = local.numel() / wholes[name]
        types = {}
        for name in ("blocks.0.hidden", "head.1"):
            method.get_submodule(name).register_forward_hook(
                lambda module, given, out, name=name: types.update({name: module.weight.dtype})
            )
        batch = {
            "images": torch.ones(2, 3, 32, 16),
            "token_ids": torch.tensor([[1], [2]]),
            "token_mask": torch.ones(2, 1, dtype=torch.bool),
            "shared_seed": torch.tensor(1),
        }
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16), parallel.passing(is_last=True):
            loss = parallel.forward(batch)["loss"]
            loss.backward()
        gradients = {str(each.grad.dtype) for each in method.parameters() if each.requires_grad}
        distributed.barrier()
        return shares, types, gradients, float(loss)


def test_a_rank_holds_half_of_what_two_ranks_share():
    for shares, types, _, _ in on_two_ranks(look_at_parts, is_bf16=False):
        assert shares.pop("scale") == 1  # a single number cannot be cut
        assert shares.pop("head.1.weight") == pytest.approx(0.5, abs=0.05)  # eleven rows: six and five
        assert shares.pop("head.1.bias") == pytest.approx(0.5, abs=0.05)
        assert {*shares.values()} == {0.5}
        assert {*types.values()} == {torch.float32}


def test_blocks_compute_with_halved_weights_and_gradients_stay_whole():
    told = on_two_ranks(look_at_parts, is_bf16=True)

    assert [types for _, types, _, _ in told] == [{"blocks.0.hidden": torch.bfloat16, "head.1": torch.float32}] * 2
    assert [gradients for _, _, gradients, _ in told] == [{"torch.float32"}] * 2
    exact = on_two_ranks(look_at_parts, is_bf16=False)
    assert exact[0][3] == exact[1][3]  # both begin with the first rank's weights
    assert told[0][3] == pytest.approx(exact[0][3], rel=0.02)


def test_blocks_are_what_repeats_and_has_parts():
    nested = nn.ModuleDict({"encoder": nn.Sequential(nn.Sequential(Block(4), Block(4)), nn.Linear(4, 4))})

    assert [name for name, _ in find_blocks(build_unusual())] == ["blocks.0", "blocks.1", "blocks.2"]
    assert [name for name, _ in find_blocks(nested)] == ["encoder.0"]


def test_what_cannot_be_shared_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="--fsdp shares a method among ranks, and this is one process"):
        learn(root, tmp_path / "run", SECTIONS, is_sharded=True)
    compiled = {**SECTIONS, "loop": {**SECTIONS["loop"], "compile": True}}
    with pytest.raises(ValueError, match=r"set loop\.compile=false"):
        on_two_ranks(learn, root, tmp_path / "run", compiled, is_sharded=True)
    method = build_unusual()
    method.blocks[2].out.weight = method.blocks[0].out.weight
    with pytest.raises(ValueError, match=r"cannot cut blocks\.2\.out\.weight, which is blocks\.0\.out\.weight too"):
        Sharded(method, Ranks(0, 2, torch.device("cpu")), is_bf16=False)
