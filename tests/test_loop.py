"""The loop of pre-training, with a real method that is tiny: it goes on where it was, alike on any number of ranks."""

import json
import multiprocessing
import os
import signal
import socket
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

import pytest
import tiny_method
import tiny_people
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from passerby.checkpoint import checkpoint_path, load_checkpoint, load_encoder
from passerby.optim import multiplier
from passerby.tokens import Tokenizer
from passerby.training.reading import outlive_termination
from passerby.training.run import train as train_job

FORKED = multiprocessing.get_context("fork")  # what tests import takes long to import again

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    """A run of 12 steps from end to end."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert train(root, run)
    return run


def train(root, run, *, is_resumed=False, on_progress=lambda now: None, on_note=lambda text: None, **sections):
    job = tiny_method.job(root, run, **sections)
    return train_job(job, is_resumed=is_resumed, on_progress=on_progress, on_note=on_note)


def metrics(run, kind="training"):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def losses(run):
    return {line["step"]: line["loss"] for line in metrics(run)}


def weights(run, step=12):
    return load_checkpoint(checkpoint_path(run, step))["model"]


def assert_same(run, other):
    assert losses(run) == pytest.approx(losses(other), abs=1e-6)
    assert [line["words_loss"] for line in metrics(run, "validation")] == pytest.approx(
        [line["words_loss"] for line in metrics(other, "validation")], abs=1e-6
    )
    for name, tensor in weights(other).items():
        assert torch.allclose(weights(run)[name], tensor, atol=1e-6), name


def test_a_run_learns_and_leaves_what_others_need(undisturbed, root):
    told = losses(undisturbed)
    assert [*told] == [*range(1, 13)]
    assert told[12] < 0.8 * told[1]
    assert [line["step"] for line in metrics(undisturbed, "validation")] == [6, 12]

    state, table = load_encoder(undisturbed)
    geometry = {"architecture": "tiny", "image_height": 32, "image_mean": [0.5, 0.5, 0.5]}
    assert table == {**geometry, "trained_on": str(root)}
    tower = {
        name.removeprefix("tower."): each for name, each in weights(undisturbed).items() if name.startswith("tower")
    }
    assert state.keys() == tower.keys()
    assert all(torch.equal(state[name], tower[name]) for name in state)

    checkpoint = load_checkpoint(checkpoint_path(undisturbed, 12))
    assert (checkpoint["method"], checkpoint["step"]) == ("tiny", 12)
    assert checkpoint["config"]["loop"]["steps"] == 12
    assert Tokenizer.from_json(checkpoint["data"]["tokenizer"]).encode("bright red", 9)[0][1] > 4

    curves = EventAccumulator(str(undisturbed / "tensorboard")).Reload()
    assert [event.value for event in curves.Scalars("training/loss")] == pytest.approx([*told.values()])


@pytest.mark.slow
def test_a_compiled_method_learns_the_same(root, tmp_path):
    options = {"method": {"dropout": 0.0}, "data": {"validation_share": 0.0, "epoch": "padded"}}

    train(root, tmp_path / "plain", **options, loop={"steps": 4})
    train(root, tmp_path / "compiled", **options, loop={"steps": 4, "compile": True})

    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_gpu_learns_about_the_same(root, tmp_path, precision):
    train(root, tmp_path / "run", device="cuda", loop={"precision": precision}, method={"dropout": 0.0})
    train(root, tmp_path / "cpu", method={"dropout": 0.0})

    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "cpu"), rel=0.05)


def test_the_newest_checkpoints_are_kept(undisturbed):
    assert sorted(path.name for path in undisturbed.glob("*.pt")) == [
        "checkpoint-00000010.pt",
        "checkpoint-00000012.pt",
    ]


def test_learning_rates_follow_the_schedule(undisturbed):
    expected = [0.01 * multiplier(step, 12, warmup_steps=2, schedule="cosine") for step in range(12)]

    assert [line["learning_rate"] for line in metrics(undisturbed)] == pytest.approx(expected)


def test_a_killed_run_goes_on_to_the_same_losses(root, tmp_path, undisturbed):
    def kill(now):
        if now.step == 8:  # the newest checkpoint is that of step 5, in the middle of an epoch
            os.kill(os.getpid(), signal.SIGKILL)

    run = tmp_path / "killed"
    process = FORKED.Process(target=train, args=(root, run), kwargs={"on_progress": kill})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert max(losses(run)) == 8
    assert [path.name for path in run.glob("*.pt")] == ["checkpoint-00000005.pt"]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "ki')  # as a crash leaves it

    assert train(root, run, is_resumed=True)

    assert_same(run, undisturbed)


def test_a_run_that_is_terminated_finishes_its_step_and_goes_on(root, tmp_path, undisturbed):
    def terminate(now):
        if now.step == 3:  # as `timeout` or Slurm do, to all processes of the run
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)

    notes = []
    assert not train(root, tmp_path / "run", workers=1, on_progress=terminate, on_note=notes.append)

    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == ["checkpoint-00000004.pt"]
    assert notes[-1] == "stopped after step 4; go on with --resume"
    assert train(root, tmp_path / "run", is_resumed=True)
    assert_same(tmp_path / "run", undisturbed)


def echo_as_reader(connection):
    outlive_termination(0)
    while True:
        connection.send("ready")
        connection.recv()


def test_a_reader_outlives_one_termination_and_not_a_second():
    """At its own end a process waits for the readers it told to end: one that never does would hold it for ever."""
    here, there = FORKED.Pipe()
    reader = FORKED.Process(target=echo_as_reader, args=(there,), daemon=True)
    reader.start()
    assert here.recv() == "ready"
    os.kill(reader.pid, signal.SIGTERM)
    here.send("go on")
    assert here.recv() == "ready"
    os.kill(reader.pid, signal.SIGTERM)
    reader.join(60)
    assert reader.exitcode == -signal.SIGTERM


def train_as_rank(rank, port, root, run, sections):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    tiny_method.SEEN.clear()
    train(root, run, **sections)
    return tiny_method.SEEN


def test_two_ranks_see_everything_once_and_learn_what_one_learns(root, tmp_path):
    sections = {"loop": {"batch_size": 7}, "method": {"dropout": 0.5}}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with ProcessPoolExecutor(2, FORKED) as pool:
        ranks = [pool.submit(train_as_rank, rank, port, root, tmp_path / "two", sections) for rank in range(2)]
    seen = [rank.result() for rank in ranks]

    tiny_method.SEEN.clear()
    train(root, tmp_path / "one", **{**sections, "loop": {"batch_size": 7, "accumulation": 2}})

    first_epoch = [line for line in metrics(tmp_path / "two") if line["epoch"] <= 1]
    keys = Counter(key for rank in seen for each in rank[: len(first_epoch)] for key in each["keys"])
    assert set(keys.values()) == {1}
    assert keys.keys() == {key for each in tiny_method.SEEN for key in each["keys"]}
    # Pass by pass the same keys and seeds; within a step the ranks share one seed and not the other.
    assert [each for pair in zip(*seen, strict=True) for each in pair] == tiny_method.SEEN
    (mask_seed, shared_seed), (other_mask_seed, other_shared_seed) = (rank[3]["seeds"] for rank in seen)
    assert shared_seed == other_shared_seed
    assert mask_seed != other_mask_seed
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-6)


def test_passes_add_up_to_the_gradient_of_one_batch(root, tmp_path):
    options = {"method": {"dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.5}, "augment": {}}

    train(root, tmp_path / "one", **options, loop={"batch_size": 6})
    train(root, tmp_path / "three", **options, loop={"batch_size": 6, "accumulation": 3})

    assert losses(tmp_path / "three") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


def test_gradients_are_clipped(root, tmp_path):
    options = {"method": {"optimizer": "sgd", "learning_rate": 1.0}, "data": {}}
    loop = {"steps": 2, "warmup_steps": 0, "save_every": 1, "schedule": "constant", "clip_norm": 0.001}

    train(root, tmp_path / "run", **options, loop=loop)

    before, after = (weights(tmp_path / "run", step) for step in (1, 2))
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before if name.startswith(("tower", "head"))])
    decayed = 0.01 * torch.cat(
        [before[name].flatten() for name in before if before[name].ndim > 1 and "picture" not in name]
    )
    assert float(moved.norm()) <= 0.001 + float(decayed.norm())
    assert all(line["gradient_norm"] > 0.001 for line in metrics(tmp_path / "run"))


def test_the_best_step_by_validation_is_exported(root, tmp_path):
    loop = {"validate_every": 1, "best_by": "words_loss", "schedule": "constant", "keep": 99}

    train(root, tmp_path / "run", method={"learning_rate": 0.3}, loop=loop)

    told = metrics(tmp_path / "run", "validation")
    values = [line["words_loss"] for line in told]
    best = values.index(min(values)) + 1
    assert any(later > earlier for earlier, later in pairwise(values))  # or the last would be best in any case
    assert told[-1]["best_step"] == best
    assert load_checkpoint(tmp_path / "run" / "best.pt")["step"] == best
    assert torch.equal(load_encoder(tmp_path / "run")[0]["0.weight"], weights(tmp_path / "run", best)["tower.0.weight"])


def test_best_by_must_be_a_number_of_the_validation(root, tmp_path):
    with pytest.raises(ValueError, match=r"loop.best_by is 'accuracy'; the validation gives words_loss"):
        train(root, tmp_path / "run", loop={"best_by": "accuracy"})


def test_a_loss_that_is_no_number_ends_the_run(root, tmp_path):
    with pytest.raises(RuntimeError, match=r"the loss is nan in step 8 .*: \d{4}_\d, \d{4}_\d"):
        train(root, tmp_path / "run", method={"explodes_at": 7})

    assert max(losses(tmp_path / "run")) == 7
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == ["checkpoint-00000005.pt"]


def test_a_folder_belongs_to_one_run(root, tmp_path, undisturbed):
    with pytest.raises(ValueError, match="undisturbed holds a run; go on with --resume"):
        train(root, undisturbed)
    with pytest.raises(ValueError, match=r"another configuration \(loop.seed: 0 there, 3 here\)"):
        train(root, undisturbed, is_resumed=True, loop={"seed": 3})
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ValueError, match=r"holds 'photo.jpg' and is no run of ours"):
        train(root, tmp_path, is_resumed=True)


def test_a_finished_run_is_left_as_it_is(root, undisturbed):
    before = (undisturbed / "metrics.jsonl").read_text()

    assert train(root, undisturbed, is_resumed=True)

    assert (undisturbed / "metrics.jsonl").read_text() == before
