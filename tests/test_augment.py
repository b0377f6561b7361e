"""What chance changes in a picture, it changes in its caption and its parsing map too."""

import random

import numpy as np
import pytest
import torch

from passerby.training.augment import BASELINE_COLOUR, Augmentation, augment, mirror_words

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


@pytest.mark.parametrize("fill", ["mean", "baseline", "noise"])
def test_a_box_is_painted_over_in_picture_and_map(fill):
    picture = torch.randint(0, 256, (3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    known = torch.full((1, 64, 32), 5, dtype=torch.uint8)
    how = Augmentation(erasing=1.0, erasing_fill=fill)

    erased, _, parsing = augment(picture, "", known, (64, 32), how=how, generator=random.Random(1))

    is_box = parsing[0] == 255
    assert torch.equal(erased[:, ~is_box], picture[:, ~is_box])
    assert known.eq(5).all(), "what was given is left as it was"
    rows, columns = is_box.any(1).nonzero(), is_box.any(0).nonzero()
    height, width = (int(each.max() - each.min()) + 1 for each in (rows, columns))
    assert is_box.sum() == height * width, "a box"
    assert 0.02 * 0.8 < height * width / (64 * 32) < 0.4 * 1.1
    inside = erased[:, is_box].float()
    means = {"mean": picture.float().flatten(1).mean(1), "baseline": torch.tensor([152.0, 142.0, 127.0])}
    if fill == "noise":
        normalised = (inside / 255 - torch.tensor(IMAGENET_MEAN)[:, None]) / torch.tensor(IMAGENET_STD)[:, None]
        assert normalised.mean(1).abs().max() < 0.2
        assert 0.8 < normalised.std(1).min() < normalised.std(1).max() < 1.2
    else:
        assert torch.allclose(inside, means[fill][:, None].expand_as(inside), atol=1)


def test_the_grey_of_the_baseline_is_the_mean_taken_for_normalised():
    literal = torch.tensor(IMAGENET_MEAN) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    assert torch.allclose(literal * 255, torch.tensor(BASELINE_COLOUR).float(), atol=0.5)
