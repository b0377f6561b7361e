"""Batches of people and images: who is in them, how often, and the same on any number of ranks."""

from collections import Counter

import numpy as np
import pytest

from finetune.sampler import PersonPlan

LABELS = np.repeat(np.arange(12), [9, 8, 8, 7, 6, 5, 4, 4, 4, 3, 2, 1])


def plan(**changes) -> PersonPlan:
    return PersonPlan(**({"person_numbers": LABELS, "people": 4, "images": 4, "epochs": 6, "seed": 3} | changes))


def test_a_batch_has_as_many_images_of_each_of_its_people():
    for batch in plan().batches(0):
        assert len(batch) == 16
        groups = LABELS[batch].reshape(4, 4)
        assert (groups == groups[:, :1]).all()
        assert len({*groups[:, 0].tolist()}) == 4


def test_an_image_comes_once_an_epoch_unless_its_person_has_too_few():
    for epoch in range(6):
        counts = Counter(np.concatenate(plan().batches(epoch)).tolist())
        assert {count for position, count in counts.items() if LABELS[position] < 9} == {1}
        for person in (9, 10, 11):  # they have three, two and one
            drawn = sum(count for position, count in counts.items() if LABELS[position] == person)
            assert drawn in (0, 4), "one group, drawn with replacement"


def test_an_epoch_ends_when_too_few_people_have_a_group_left():
    for epoch in range(6):
        batches = plan().batches(epoch)
        groups = {person: max(1, int((person == LABELS).sum()) // 4) for person in range(12)}
        for batch in batches:
            for person in {*LABELS[batch].tolist()}:
                groups[person] -= 1
        assert min(groups.values()) >= 0
        assert sum(left > 0 for left in groups.values()) < 4


def test_every_person_is_drawn_as_often_as_another():
    alike = plan(person_numbers=np.repeat(np.arange(40), 4), epochs=1)
    first = Counter(LABEL for epoch in range(400) for LABEL in (alike.batches(epoch)[0][::4] // 4).tolist())
    expected = 400 * 4 / 40
    assert sum((first[person] - expected) ** 2 / expected for person in range(40)) < 70, (
        "chi-square, 39 degrees: p > 0.001"
    )


def test_ranks_and_passes_share_batches_and_no_person():
    whole = [part.positions for part in plan().parts(0, 5)]
    for world, accumulation in ((2, 1), (1, 2), (2, 2), (4, 1)):
        shares = [[*plan().parts(0, 5, rank=rank, world=world, accumulation=accumulation)] for rank in range(world)]
        for step in range(5):
            parts = [part for share in shares for part in share if part.step == step]
            assert np.array_equal(np.concatenate([part.positions for part in parts]), whole[step])
            people = [{*LABELS[part.positions].tolist()} for part in parts]
            assert sum(map(len, people)) == len(set.union(*people))


def test_it_goes_on_at_any_step_and_epochs_differ():
    steps_an_epoch = plan().steps_an_epoch
    every = [*plan().parts(0, 3 * steps_an_epoch)]
    later = [*plan().parts(5, 3 * steps_an_epoch)]
    assert [(part.step, part.epoch) for part in later] == [(part.step, part.epoch) for part in every[5:]]
    assert all(np.array_equal(one.positions, other.positions) for one, other in zip(later, every[5:], strict=True))
    assert every[-1].epoch == 2
    assert not np.array_equal(every[0].positions, every[steps_an_epoch].positions)
    assert not np.array_equal(every[0].positions, next(plan(seed=4).parts(0, 1)).positions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"people": 13}, "a batch takes 13 people, and there are 12 to learn from; set loop.batch_size to 48 or less"),
        ({"images": 0}, "images is 0; it must be 1 or more"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(ValueError, match="4 people a batch cannot be shared by 3 ranks of 1 passes"):
        next(plan().parts(0, 1, world=3))
