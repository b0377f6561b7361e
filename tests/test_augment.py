"""What chance changes in a picture, it changes in its caption and its parsing map too."""

import random

import numpy as np
import pytest
import torch

from passerby.training.augment import Augmentation, augment, erase, mirror_words


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Seen from the left.", "Seen from the right."),
        ("Left: a bright bag, upright; RIGHT-handed, right.", "Right: a bright bag, upright; LEFT-handed, left."),
        ("A leftover frightened nobody.", "A leftover frightened nobody."),
    ],
)
def test_a_mirror_swaps_left_and_right_as_words(caption, expected):
    assert mirror_words(caption) == expected
    assert mirror_words(expected) == caption


def test_picture_text_and_map_are_mirrored_together():
    image = torch.zeros(3, 32, 16, dtype=torch.uint8)
    image[0, :, :8] = 200
    parsing = torch.zeros(1, 32, 16, dtype=torch.uint8)
    parsing[:, :, :8] = 14  # left arm
    generator = random.Random(0)

    mirrored, caption, mirrored_map = augment(
        image, "from the left", parsing, (32, 16), how=Augmentation(flip=1.0), generator=generator
    )

    assert torch.equal(mirrored, image.flip(2))
    assert caption == "from the right"
    assert mirrored_map[0, 0].tolist() == [0] * 8 + [15] * 8  # right arm


@pytest.mark.parametrize("crop", ["none", "pad", "resized"])
def test_image_and_map_see_the_same_window(crop):
    pixels = torch.arange(48 * 24).remainder(19).to(torch.uint8).view(1, 48, 24).repeat_interleave(4, 1)[:, :48]
    image = (pixels * 10).repeat(3, 1, 1)
    how = Augmentation(crop=crop)

    for seed in range(20):
        seen, _, seen_map = augment(image, "", pixels, (48, 24), how=how, generator=random.Random(seed))
        # the brightest and the darkest class lie in the same places
        assert np.corrcoef(seen[0].flatten().numpy(), seen_map[0].flatten().numpy())[0, 1] > 0.75


def test_an_erased_box_has_the_mean_colour():
    image = torch.randint(0, 256, (3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    erased = erase(image, random.Random(1))

    changed = (erased != image).any(0)
    rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
    height, width = (int(each.max() - each.min()) + 1 for each in (rows, columns))
    assert 0.02 * 0.8 < height * width / (64 * 32) < 0.4 * 1.1
    inside = erased[:, changed].float()
    assert torch.equal(inside.min(1).values, inside.max(1).values)
    assert torch.allclose(inside[:, 0], image.float().flatten(1).mean(1), atol=1)
