"""The prototypes of PGU against a slow computation, one head and one prototype at a time; and the sizes of LGUR's code."""

import pytest
import torch

from passerby.nets.pgu import PGU

pytestmark = pytest.mark.usefixtures("one_thread")


def layer_norm(rows, norm):
    return (
        torch.stack([(row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt() for row in rows]) * norm.weight
        + norm.bias
    )


def slow_layer(queries, tokens, layer, heads, head_width):
    asked = layer_norm(queries, layer.attention_norm) @ layer.to_queries.weight.T
    seen = layer_norm(tokens, layer.attention_norm) @ layer.to_keys_values.weight.T
    inner = heads * head_width
    answers = torch.zeros(len(queries), inner)
    for head in range(heads):
        part = slice(head * head_width, (head + 1) * head_width)
        keys, values = seen[:, :inner][:, part], seen[:, inner:][:, part]
        for place, query in enumerate(asked[:, part]):
            weights = torch.stack([query @ key / head_width**0.5 for key in keys]).exp()
            answers[place, part] = sum(w * v for w, v in zip(weights / weights.sum(), values, strict=True))
    queries = queries + answers @ layer.to_output.weight.T + layer.to_output.bias
    norm, first, _, second = layer.feed_forward
    hidden = (layer_norm(queries, norm) @ first.weight.T + first.bias).clamp_min(0)
    return queries + hidden @ second.weight.T + second.bias


def slow_pgu(pgu, tokens, heads, head_width):
    found = pgu.prototypes
    for layer in pgu.layers:
        found = slow_layer(found, tokens, layer, heads, head_width)
    return torch.stack([head @ row for head, row in zip(pgu.heads, found, strict=True)])


@pytest.fixture(scope="module")
def pgu():
    torch.manual_seed(0)
    net = PGU(10, prototypes=3, layers=2, heads=2, head_width=4, hidden_width=7, part_width=5)
    for parameter in net.parameters():  # norms and biases too, which would else be 1 and 0
        parameter.data.normal_(std=0.7)
    return net


def test_every_prototype_asks_the_tokens_as_the_slow_computation_does(pgu):
    tokens = torch.randn(4, 6, 10)
    expected = torch.stack([slow_pgu(pgu, each, heads=2, head_width=4) for each in tokens])
    assert expected.shape == (4, 3, 5)
    torch.testing.assert_close(pgu(tokens), expected, rtol=1e-4, atol=1e-5)


def test_padding_is_not_seen(pgu):
    tokens = torch.randn(2, 6, 10)
    mask = torch.arange(6) < torch.tensor([[4], [6]])
    expected = torch.stack([slow_pgu(pgu, tokens[0, :4], 2, 4), slow_pgu(pgu, tokens[1], 2, 4)])
    torch.testing.assert_close(pgu(tokens, mask), expected, rtol=1e-4, atol=1e-5)


def test_prototypes_have_no_places_of_their_own_among_the_tokens(pgu):
    tokens = torch.randn(2, 6, 10)
    torch.testing.assert_close(pgu(tokens.flip(1)), pgu(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("width", "decoder", "everything"),
    [(384, 10_229_248, 11_411_200), (512, 13_638_656, 15_214_592), (768, 20_457_472, 22_821_376)],
)
def test_sizes_are_those_of_the_code_of_lgur(width, decoder, everything):
    with torch.device("meta"):
        net = PGU(width)
    assert sum(parameter.numel() for parameter in net.layers.parameters()) == decoder
    assert sum(parameter.numel() for parameter in net.parameters()) == everything
    assert net.heads.shape == (6, 512, width)


def test_weights_begin_as_in_the_code_of_lgur():
    torch.manual_seed(0)
    net = PGU(200)
    assert net.prototypes.std().item() == pytest.approx(1, abs=0.05)
    assert net.heads.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)  # fan-out
