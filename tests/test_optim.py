"""Learning rates, groups of parameters, devices, and checkpoints that are not what they should be."""

from pathlib import Path

import pytest
import torch

from passerby.checkpoint import load_checkpoint
from passerby.optim import adamw, check_groups, decay_groups, multiplier
from passerby.ranks import find_device


@pytest.mark.parametrize("content", [b"no checkpoint", b"", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "checkpoint-00000001.pt"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"checkpoint-00000001.pt is no checkpoint, or a damaged one"):
        load_checkpoint(path)


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, tmp_path / "trap.pt")

    with pytest.raises(ValueError, match=r"trap.pt is no checkpoint, or a damaged one, or holds more than data$"):
        load_checkpoint(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (1, 1e-4),
        (5000, 0.5),
        (9999, 0.9999),
        (10_000, 1.0),
        (132_500, 0.853553),
        (255_000, 0.5),
        (377_500, 0.146447),
    ],
)
def test_the_cosine_is_that_of_virtex(step, expected):
    # golden: VirTex's scheduler for 500,000 steps with 10,000 of warm-up
    assert multiplier(step, 500_000, warmup_steps=10_000, schedule="cosine") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [1, 0.75, 0.5, 0.25]), ("step", [1, 1, 0.1, 0.01]), ("constant", [1, 1, 1, 1])],
)
def test_other_schedules(schedule, expected):
    values = [multiplier(step, 4, warmup_steps=0, schedule=schedule, milestones=(0.5, 0.7)) for step in range(4)]

    assert values == pytest.approx(expected)


def test_vectors_do_not_decay():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))

    matrices, vectors = decay_groups(module.named_parameters(), learning_rate=0.1, weight_decay=0.5)

    assert [tuple(each.shape) for each in matrices["params"]] == [(2, 3)]
    assert [tuple(each.shape) for each in vectors["params"]] == [(2,), (2,), (2,)]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.5, 0.0)
    assert [group["eps"] for group in adamw([matrices, vectors], betas=(0.9, 0.98), eps=1e-6).param_groups] == [
        1e-6,
        1e-6,
    ]


def test_every_parameter_is_in_one_group():
    module = torch.nn.Linear(3, 2)
    check_groups(module, [{"params": [module.weight]}, {"params": [module.bias]}])

    with pytest.raises(ValueError, match="the parameter bias is in 0 groups"):
        check_groups(module, [{"params": [module.weight]}])
    with pytest.raises(ValueError, match="the parameter weight is in 2 groups"):
        check_groups(module, [{"params": [module.weight, module.bias]}, {"params": [module.weight]}])


def test_devices_are_found_or_refused():
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="'gpu' is no device; allowed are auto, cpu, cuda"):
        find_device("gpu")
    with pytest.raises(ValueError, match="there is no cuda:99: this machine has"):
        find_device("cuda:99")
