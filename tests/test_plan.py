"""The order of training: everything once, alike on any number of ranks, resumable, mostly forwards."""

from collections import Counter

import numpy as np
import pytest

from passerby.shards.plan import Plan

SIZES = [(100, 10), (101, 10), (109, 10), (7, 7), (5, 8), (1000, 64)]


@pytest.mark.parametrize(("samples", "batch_size"), SIZES)
def test_an_epoch_holds_every_sample_exactly_once(samples, batch_size):
    batches = Plan(samples=samples, batch_size=batch_size, seed=3).batches(2)

    assert Counter(np.concatenate(batches).tolist()) == Counter(range(samples))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("samples", "batch_size"), SIZES)
def test_a_padded_epoch_is_filled_with_its_own_first_samples(samples, batch_size):
    plan = Plan(samples=samples, batch_size=batch_size, seed=3, mode="padded")

    flat = np.concatenate(plan.batches(0)).tolist()

    order = plan.order(0).tolist()
    missing = -samples % batch_size
    assert {len(batch) for batch in plan.batches(0)} == {batch_size}
    assert flat == order + (order * batch_size)[:missing]


@pytest.mark.parametrize(("world", "accumulation"), [(1, 1), (2, 1), (1, 2), (3, 2), (4, 1)])
def test_ranks_share_the_batches_that_one_rank_alone_reads(world, accumulation):
    plan = Plan(samples=101, batch_size=25, seed=1)
    expected = [*plan.batches(0), *plan.batches(1)]

    shares = [[*plan.parts(0, 10, rank=rank, world=world, accumulation=accumulation)] for rank in range(world)]

    assert {len(share) for share in shares} == {10 * accumulation}  # equally many passes on every rank
    for step, batch in enumerate(expected):
        read = [part.positions for share in shares for part in share if part.step == step]
        assert np.concatenate(read).tolist() == batch.tolist()
        assert max(map(len, read)) - min(map(len, read)) <= 1


def test_a_run_goes_on_with_what_was_left_on_another_number_of_ranks():
    plan = Plan(samples=103, batch_size=20, seed=5)
    done = [
        position for rank in range(2) for part in plan.parts(0, 4, rank=rank, world=2) for position in part.positions
    ]

    left = [
        position for rank in range(3) for part in plan.parts(4, 6, rank=rank, world=3) for position in part.positions
    ]

    assert Counter(done + left) == Counter(range(103))


def test_steps_and_epochs_are_counted_through():
    parts = [*Plan(samples=10, batch_size=4).parts(2, 7)]

    assert [(part.step, part.epoch) for part in parts] == [(2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]


def test_the_order_depends_on_seed_and_epoch_alone():
    plan = Plan(samples=1000, batch_size=10, seed=4)

    assert plan.order(1).tolist() == Plan(samples=1000, batch_size=99, seed=4, mode="padded").order(1).tolist()
    assert plan.order(1).tolist() != plan.order(2).tolist()
    assert plan.order(1).tolist() != Plan(samples=1000, batch_size=10, seed=5).order(1).tolist()


def test_a_window_reads_few_runs_of_neighbours():
    plan = Plan(samples=10_000, batch_size=10, run_length=50, window=1000)

    for window in np.split(plan.order(0), 10):
        places = np.sort(window)
        runs = 1 + np.count_nonzero(np.diff(places) > 1)
        assert runs <= 1000 / 50 + 3  # borders of the window cut two runs, the ends of the data set one

    scattered = np.sort(np.random.default_rng(0).permutation(10_000)[:1000])
    assert 1 + np.count_nonzero(np.diff(scattered) > 1) > 800  # what an ordinary shuffle reads


def test_a_batch_mixes_people_of_many_places():
    images_a_person = 100
    plan = Plan(samples=200_000, batch_size=128)

    people = [len({*(batch // images_a_person).tolist()}) for batch in plan.batches(0)]

    assert np.mean(people) > 70  # of 128; consecutive reading gives 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0, "batch_size": 4}, "samples must be 1 or more, got 0"),
        ({"samples": 4, "batch_size": 0}, "batch_size must be 1 or more, got 0"),
    ],
)
def test_numbers_are_positive(options, message):
    with pytest.raises(ValueError, match=message):
        Plan(**options)


def test_a_batch_too_small_for_all_ranks_is_refused():
    plan = Plan(samples=9, batch_size=4)  # batches of 3

    with pytest.raises(ValueError, match="a batch of 3 of the 9 samples cannot be shared by 2 ranks of 2 passes"):
        next(plan.parts(0, 1, world=2, accumulation=2))
