"""The contrastive loss against loops, hand-worked numbers, and itself on two ranks."""

import math

import pytest
import torch
from torch import distributed, multiprocessing

from pretrain.losses import Temperature, contrastive_loss, cosines, equal_rows, gather, masked_token_loss, one_way_loss


def features(rows, seed, width=5):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).double()


def slow_loss(images, texts, scale, is_ignored):
    """Equation 1 term by term."""
    n = len(images)

    def cosine(left, right):
        dot = sum(float(a) * float(b) for a, b in zip(left, right, strict=True))
        return dot / math.sqrt(sum(float(a) ** 2 for a in left)) / math.sqrt(sum(float(b) ** 2 for b in right))

    similarities = [[scale * cosine(image, text) for text in texts] for image in images]
    total = 0.0
    for i in range(n):
        others = [j for j in range(n) if i == j or not is_ignored[i][j]]
        of_image = math.exp(similarities[i][i]) / sum(math.exp(similarities[i][j]) for j in others)
        of_text = math.exp(similarities[i][i]) / sum(math.exp(similarities[j][i]) for j in others)
        total -= (math.log(of_image) + math.log(of_text)) / 2
    return total / n


@pytest.mark.parametrize("scale", [1.0, 1 / 0.07])
def test_contrastive_loss_is_equation_1(scale):
    images, texts = features(7, 0), features(7, 1)
    expected = slow_loss(images, texts, scale, [[False] * 7] * 7)
    assert float(contrastive_loss(images, texts, scale=scale)) == pytest.approx(expected, abs=1e-5)


def test_ignored_pairs_are_no_negatives():
    images, texts = features(6, 2), features(6, 3)
    captions = ["a", "b", "a", "c", "a", "b"]
    is_equal = [[left == right for right in captions] for left in captions]
    loss = contrastive_loss(images, texts, scale=5.0, is_ignored=torch.tensor(is_equal))
    assert float(loss) == pytest.approx(slow_loss(images, texts, 5.0, is_equal), abs=1e-5)
    assert float(loss) < float(contrastive_loss(images, texts, scale=5.0))


def test_contrastive_loss_of_cosines_worked_by_hand():
    # S = [[.9, .1], [.3, .8]]: rows 0.42259, columns 0.42034
    rows = [-math.log(1 / (1 + math.exp(0.1 - 0.9))), -math.log(1 / (1 + math.exp(0.3 - 0.8)))]
    columns = [-math.log(1 / (1 + math.exp(0.3 - 0.9))), -math.log(1 / (1 + math.exp(0.1 - 0.8)))]
    # Three numbers of length 1 each: images are e1 and e2, texts have these cosines with them.
    texts = torch.tensor([[0.9, 0.3, math.sqrt(1 - 0.81 - 0.09)], [0.1, 0.8, math.sqrt(1 - 0.01 - 0.64)]])
    loss = float(contrastive_loss(torch.eye(3)[:2] * 7, texts * 3, scale=1.0))
    assert loss == pytest.approx(sum(rows + columns) / 4, abs=1e-6)
    assert loss == pytest.approx(0.42146, abs=1e-5)


@pytest.mark.parametrize(("count", "uniform", "perfect"), [(64, 4.1589, 3.1854), (512, 6.2383, 5.2417)])
def test_without_temperature_even_perfect_features_have_a_high_loss(count, uniform, perfect):
    same = torch.ones(count, 4)
    assert float(contrastive_loss(same, same, scale=1.0)) == pytest.approx(uniform, abs=1e-4)
    assert float(contrastive_loss(torch.eye(count), torch.eye(count), scale=1.0)) == pytest.approx(perfect, abs=1e-4)


def test_cosines_are_exact_under_autocast():
    left, right = features(4, 0).float(), features(5, 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = cosines(left.bfloat16(), right.bfloat16())
    expected = torch.nn.functional.cosine_similarity(
        left.bfloat16().double()[:, None], right.bfloat16().double(), dim=2
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_anchors_can_be_fewer_than_candidates():
    anchors, candidates = features(3, 4), features(8, 5)
    targets = torch.tensor([6, 0, 3])
    logits = [
        [2 * float(torch.nn.functional.cosine_similarity(anchor, each, dim=0)) for each in candidates]
        for anchor in anchors
    ]
    expected = sum(
        math.log(sum(map(math.exp, row))) - row[target] for row, target in zip(logits, targets.tolist(), strict=True)
    )
    assert float(one_way_loss(anchors, candidates, targets, scale=2.0)) == pytest.approx(expected / 3, abs=1e-5)


def test_masked_token_loss_is_the_mean_over_tokens():
    logits, targets = features(4, 6), torch.tensor([0, 4, 2, 2])
    expected = [
        math.log(sum(map(math.exp, row))) - row[target]
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    assert float(masked_token_loss(logits, targets)) == pytest.approx(sum(expected) / 4, abs=1e-5)


def test_no_masked_token_is_no_loss_and_still_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = masked_token_loss(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_scale_stops_at_100_and_can_come_back():
    temperature = Temperature(0.0101, is_learned=True)
    optimizer = torch.optim.SGD(temperature.parameters(), lr=0.1)
    (-temperature()).backward()
    optimizer.step()
    assert temperature().item() == pytest.approx(100)
    optimizer.zero_grad()
    temperature().log().backward()
    optimizer.step()
    assert temperature().item() == pytest.approx(100 * math.exp(-0.1), rel=1e-4)


def test_a_temperature_that_is_not_learned_is_no_parameter():
    temperature = Temperature(0.5, is_learned=False)
    assert [*temperature.parameters()] == []
    assert temperature().item() == pytest.approx(2)


def test_alone_all_rows_are_ours():
    rows = features(3, 0)
    gathered, start = gather(rows)
    assert gathered is rows
    assert start == 0


def test_equal_rows_are_those_with_the_same_numbers():
    rows = [[1, 2, 0], [1, 2, 3], [1, 2, 0], [2, 1, 0]]
    expected = [[left == right for right in rows] for left in rows]
    assert equal_rows(torch.tensor(rows)).tolist() == expected


def towers():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3), torch.nn.Linear(6, 3)


def inputs(batch):
    return features(batch, 10, width=4).float(), features(batch, 11, width=6).float()


CAPTIONS = torch.tensor([[0, 7], [1, 7], [2, 7], [2, 8], [0, 7], [4, 7], [1, 7], [5, 7]])


def rank_loss(rows, *, is_gathered):
    image_tower, text_tower = towers()
    images, texts = inputs(len(CAPTIONS))
    is_equal = equal_rows(CAPTIONS[rows], is_gathered=is_gathered)
    loss = contrastive_loss(
        image_tower(images[rows]), text_tower(texts[rows]), scale=4.0, is_ignored=is_equal, is_gathered=is_gathered
    )
    loss.backward()
    return loss.detach(), [each.grad for module in (image_tower, text_tower) for each in module.parameters()]


def run_rank(rank, shares, port_file, results):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=len(shares))
    loss, gradients = rank_loss(torch.tensor(shares[rank]), is_gathered=True)
    for each in [loss, *gradients]:
        distributed.all_reduce(each)  # as DistributedDataParallel does, but for the division
    if rank == 0:
        torch.save([each / len(shares) for each in (loss, *gradients)], results)
    counts = torch.arange(3.0 + rank)
    rows, start = gather(counts)
    assert rows.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert start == 3 * rank
    distributed.destroy_process_group()


def test_two_ranks_with_gathered_negatives_are_one_with_the_whole_batch(tmp_path):
    shares = [[0, 1, 2, 3], [4, 5, 6, 7]]
    multiprocessing.spawn(run_rank, (shares, tmp_path / "meeting", tmp_path / "sums.pt"), nprocs=2)
    found = torch.load(tmp_path / "sums.pt")
    loss, gradients = rank_loss(torch.arange(8), is_gathered=False)
    for found_one, expected in zip(found, [loss, *gradients], strict=True):
        torch.testing.assert_close(found_one, expected, atol=1e-5, rtol=0)
    assert max(each.abs().max() for each in gradients) > 1e-3
