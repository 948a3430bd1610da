"""ExcelFormer: encoding, sorting, attention, the attenuated start, mixing, and agreement with pytorch-frame."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import device, training
from tests.notebooks import load_method

m = load_method("tabular/excelformer")


def make(columns=6, seed=0, **options):
    with device.fork(seed):
        return m.ExcelFormer(columns, 2, **dict(width=16, heads=4, layers=2) | options).eval()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=device.generator(seed))


class Shuffled:
    """Stands in for a random generator whose permutation is known."""

    def __init__(self, order):
        self.order = order

    def permutation(self, n):
        assert n == len(self.order)
        return self.order


def test_ordered_target_code_against_a_sum_over_the_rows_before():
    rng = np.random.default_rng(0)
    codes, y, order = rng.integers(0, 4, 40), rng.integers(0, 2, 40).astype(float), rng.permutation(40)
    encoded, _ = m.ordered_target_code(codes, y, codes, Shuffled(order))
    for position, i in enumerate(order):
        before = [k for k in order[:position] if codes[k] == codes[i]]
        assert encoded[i] == pytest.approx((y[before].sum() + y.mean()) / (len(before) + 1))


def test_ordered_target_code_by_hand_and_for_new_and_unseen_categories():
    codes, y = np.array([0, 0, 2, 0]), np.array([1.0, 0, 1, 0])  # category 1 has no rows
    encoded, new = m.ordered_target_code(codes, y, np.array([0, 1, 2, 3, 9]), Shuffled([0, 1, 2, 3]))
    assert encoded == pytest.approx([0.5, 1.5 / 2, 0.5, 1.5 / 3])
    assert new == pytest.approx([1.5 / 4, 0.5, 1.5 / 2, 0.5, 0.5])


def test_a_rows_own_label_never_enters_its_code_beyond_the_overall_mean():
    codes, y = np.array([0, 1, 0, 1, 0, 1]), np.array([0.0, 1, 1, 0, 0, 1])
    flipped = y.copy()
    flipped[[0, 1]] = flipped[[1, 0]]  # the overall mean stays
    for last in (0, 1):
        order = [k for k in range(6) if k != last] + [last]
        one, _ = m.ordered_target_code(codes, y, codes, Shuffled(order))
        two, _ = m.ordered_target_code(codes, flipped, codes, Shuffled(order))
        if last == 0:
            assert one[0] == two[0]
        else:
            assert one[1] == two[1]


@pytest.fixture(scope="module")
def table():
    """Two informative columns among four (the second and the fourth, the stronger), and a categorical one."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(600, 5)), rng.integers(0, 2, 600)
    x[:, 1] += y
    x[:, 3] += 3 * y
    x[:, 4] = rng.integers(0, 3, 600)
    return x, y, [*["numeric"] * 4, "categorical"]


def test_columns_are_sorted_by_information_and_normal(table):
    x, y, kinds = table
    (train, test), information, order = m.prepare(x[:400], y[:400], [x[400:]], kinds, 0)
    assert train.shape == (400, 5) and test.shape == (200, 5) and train.dtype == np.float32
    assert list(order[:2]) == [3, 1] and sorted(order) == [0, 1, 2, 3, 4]
    assert (np.diff(information) <= 0).all() and (information > 0).all()
    inner = np.abs(train[:, 0]) < 5  # the two ends are clipped at +-5.2
    assert inner.sum() == 398 and train[inner, 0].std() == pytest.approx(1, abs=0.03)
    ranks = [np.argsort(np.argsort(part)) for part in (x[:400, 3], train[:, 0])]
    assert np.array_equal(*ranks), "quantiles keep the order of the rows"


def test_nothing_is_fitted_on_the_other_rows(table):
    x, y, kinds = table
    one = m.prepare(x[:400], y[:400], [x[400:]], kinds, 0)
    other = np.where(np.arange(5) < 4, 100 * x[400:], 0)
    two = m.prepare(x[:400], y[:400], [other], kinds, 0)
    assert np.array_equal(one[0][0], two[0][0]) and np.array_equal(one[1], two[1])


def test_the_order_of_the_columns_in_the_table_does_not_matter(table):
    x, y, kinds = table
    shuffle = np.array([2, 4, 0, 3, 1])
    (one, _), information, order = m.prepare(x, y, [x[:5]], kinds, 0)
    (two, _), information2, order2 = m.prepare(x[:, shuffle], y, [x[:5, shuffle]], [kinds[j] for j in shuffle], 0)
    strong = information > 0.05  # a column that says nothing is ranked by chance
    assert strong.sum() == 2 and np.array_equal(order[strong], shuffle[order2[strong]])
    assert information2[strong] == pytest.approx(information[strong], rel=1e-3)
    assert np.array_equal(one[:, strong], two[:, strong])


def test_preparing_leaves_the_callers_arrays_alone(table):
    x, y, kinds = table
    before, rest = x[:400].copy(), x[400:].copy()
    m.prepare(before, y[:400], [rest], kinds, 0)
    assert np.array_equal(before, x[:400]) and np.array_equal(rest, x[400:])


@pytest.mark.parametrize("layers", [1, 3])
def test_no_token_depends_on_a_less_informative_column_and_every_token_on_all_others(layers):
    jacobian = m.token_jacobian(make(layers=layers, scale=1.0), normal(3, 6))
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian[torch.ones(6, 6).tril().bool()] > 0).all()
    full = m.token_jacobian(make(layers=layers, scale=1.0, permeable=True), normal(3, 6))
    assert (full > 0).all()


def test_attention_rows_are_distributions_over_the_columns_allowed():
    weights, _ = make(scale=1.0).blocks[0].attention.weights(normal(2, 6, 16))
    assert weights.shape == (2, 4, 6, 6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 6))
    assert (weights.triu(1) == 0).all() and (weights[..., -1, :] > 0).all()
    assert (weights[..., 0, :] == torch.tensor([1.0, 0, 0, 0, 0, 0])).all()


def test_an_attenuated_start_attends_evenly():
    weights, _ = make(scale=0.0).blocks[0].attention.weights(normal(1, 6, 16))
    even = torch.ones(6, 6).tril() / torch.arange(1, 7)[:, None]
    assert torch.allclose(weights, even.expand_as(weights))


def test_attention_dropout_keeps_the_mean_and_is_off_when_evaluating():
    attention, z = make(columns=4, scale=1.0).blocks[0].attention, normal(1, 4, 16)
    clean = attention(z)
    assert torch.equal(clean, attention(z))
    attention.train()
    with device.fork(0), torch.no_grad():
        noisy = attention(z.expand(40_000, 4, 16))
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.allclose(noisy.mean(0), clean[0], atol=0.02)


def test_the_start_is_uniform_within_its_bound():
    for scale in (0.01, 1.0):
        net = make(width=64, scale=scale)
        for weight in (net.blocks[0].attention.qkv.weight.detach(), net.blocks[1].feed.weight.detach()):
            assert weight.abs().max().item() == pytest.approx(scale / 8, rel=0.01) and weight.abs().max() <= scale / 8
            assert weight.var().item() == pytest.approx(scale**2 / (3 * 64), rel=0.05)
        for weight in (net.blocks[0].attention.out.weight, net.head[2].weight, net.tokens.weight, net.tokens.bias):
            assert weight.abs().max().item() == pytest.approx(1 / 8, rel=0.05)


def test_arms_start_from_the_same_numbers_and_attenuated_blocks_are_almost_the_identity():
    near, usual = make(scale=0.01), make(scale=1.0)
    assert torch.allclose(100 * near.blocks[1].feed.weight, usual.blocks[1].feed.weight)
    assert torch.equal(near.head[2].weight, usual.head[2].weight)
    z = near.tokens(normal(20, 6))
    moved = [((net.blocks(z) - z).norm() / z.norm()).item() for net in (near, usual)]
    assert moved[0] < 0.06 and moved[1] > 10 * moved[0]


def test_logits_by_hand():
    net, x = make(layers=1, scale=1.0), normal(3, 6)
    z = (x[..., None] * net.tokens.weight + net.tokens.bias) * torch.tanh(
        x[..., None] * net.tokens.gate_weight + net.tokens.gate_bias
    )
    block = net.blocks[0]
    z = z + block.attention(z)  # no norm before the first attention
    a, g = (F.layer_norm(z, (16,)) @ block.feed.weight.T + block.feed.bias).split(16, -1)
    z = z + a * torch.tanh(g)
    u = torch.einsum("i,bik->bk", net.pool.weight[0], z) + net.pool.bias
    u = F.layer_norm(u, (16,))
    logits = torch.where(u > 0, u, 0.25 * u) @ net.head[2].weight.T + net.head[2].bias
    assert torch.allclose(net(x), logits, atol=1e-6)


def copy_(ours, theirs):
    """Copy an attention's weights, which pytorch-frame keeps in three layers."""
    with torch.no_grad():
        for i, layer in enumerate((theirs.lin_q, theirs.lin_k, theirs.lin_v)):
            layer.weight.copy_(ours.qkv.weight.chunk(3)[i])
            layer.bias.copy_(ours.qkv.bias.chunk(3)[i])
        theirs.lin_out.weight.copy_(ours.out.weight)
        theirs.lin_out.bias.copy_(ours.out.bias)


def test_attention_agrees_with_pytorch_frame():
    conv = pytest.importorskip("torch_frame.nn.conv.excelformer_conv")
    ours = make(columns=7, scale=3.0).blocks[0].attention
    nn.init.normal_(ours.qkv.bias), nn.init.normal_(ours.out.bias)
    theirs = conv.DiaM(16, 7, 4, dropout=0.0)
    copy_(ours, theirs)
    z = normal(5, 7, 16)
    assert torch.allclose(ours(z), theirs(z), atol=1e-5)
    assert ours.weights(z)[0].std() > 0.1, "far from even attention, where a mistake would not show"


def test_feed_forward_agrees_with_pytorch_frame():
    conv = pytest.importorskip("torch_frame.nn.conv.excelformer_conv")
    block, theirs = make(scale=1.0).blocks[1], conv.AiuM(16, dropout=0.0)
    with torch.no_grad():
        block.attention.out.weight.zero_()  # what is left of the block is its feed-forward part
        theirs.lin_2.weight.copy_(block.feed.weight[:16])
        theirs.lin_1.weight.copy_(block.feed.weight[16:])
        nn.init.normal_(theirs.lin_1.bias), nn.init.normal_(theirs.lin_2.bias)
        block.feed.bias.copy_(torch.cat([theirs.lin_2.bias, theirs.lin_1.bias]))
    z = normal(5, 6, 16)
    assert torch.allclose(block(z) - z, theirs(block.norm2(z)), atol=1e-5)


def test_tokens_agree_with_pytorch_frame():
    """Its encoder standardises the columns itself, and its first map is the gate."""
    encoder = pytest.importorskip("torch_frame.nn.encoder.stype_encoder")
    frame = pytest.importorskip("torch_frame")
    stats = [{frame.data.stats.StatType.MEAN: 0.0, frame.data.stats.StatType.STD: 1.0 - 1e-6} for _ in range(6)]
    theirs = encoder.ExcelFormerEncoder(16, stats_list=stats, stype=frame.stype.numerical)
    ours, x = make().tokens, normal(5, 6)
    with torch.no_grad():
        theirs.W_2.copy_(ours.weight), theirs.b_2.copy_(ours.bias)
        theirs.W_1.copy_(ours.gate_weight), theirs.b_1.copy_(ours.gate_bias)
    assert torch.allclose(ours(x), theirs.encode_forward(x), atol=1e-5)
    assert sum(w.numel() for w in ours.parameters()) == sum(w.numel() for w in theirs.parameters())


def test_a_block_has_as_many_weights_as_pytorch_frames():
    conv = pytest.importorskip("torch_frame.nn.conv.excelformer_conv")
    count = lambda net: sum(w.numel() for w in net.parameters())  # noqa: E731
    assert count(make().blocks[1]) == count(conv.ExcelFormerConv(16, 6, 4))
    assert count(make().blocks[0]) == count(conv.ExcelFormerConv(16, 6, 4)) - 2 * 16  # without the first layer norm


def test_label_weights_agree_with_pytorch_frame(monkeypatch):
    """The same columns kept and the same partners give the same mixed labels as its `feature_mixup`."""
    model = pytest.importorskip("torch_frame.nn.models.excelformer")
    z, y, information = normal(60, 5, 3), torch.arange(60) % 3, torch.tensor([5.0, 3, 1, 0.5, 0.5])
    with device.fork(0):
        mixed, labels = model.feature_mixup(z, y, 3, 0.5, "feature", information)
    kept = (mixed == z).all(2)
    partner = torch.stack(
        [(row == z).all(2).float().mean(1).argmax() for row in torch.where(kept[..., None], 9, mixed)]
    )
    assert (~kept).any(1).float().mean() > 0.5
    # our mixing, made to draw these masks (uniform numbers are 1 where it keeps) and partners
    monkeypatch.setattr(m, "beta", lambda alpha, n, generator: torch.full((n,), 0.5))
    monkeypatch.setattr(torch, "rand", lambda *a, **k: kept.float())
    monkeypatch.setattr(torch, "randperm", lambda *a, **k: partner)
    ours, weight, _ = m.feat_mix(z, information / information.sum(), None)
    soft = weight[:, None] * F.one_hot(y, 3) + (1 - weight[:, None]) * F.one_hot(y[partner], 3)
    assert torch.equal(ours, mixed)
    assert torch.allclose(soft, labels, atol=1e-6)


def test_feat_mix_takes_whole_columns_from_one_partner():
    z, share = normal(500, 5, 3), torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1])
    mixed, weight, partner = m.feat_mix(z, share, device.generator(0))
    own, theirs = (mixed == z).all(2), (mixed == z[partner]).all(2)
    assert (own | theirs).all() and sorted(partner.tolist()) == list(range(500))
    moved = partner != torch.arange(500)
    assert torch.allclose(own[moved].float() @ share, weight[moved])
    assert 0.02 < weight.var() < 0.25 and weight.mean() == pytest.approx(0.5, abs=0.05)


def test_feat_mix_keeps_columns_with_probability_one_minus_lambda_and_hid_mix_with_lambda(monkeypatch):
    monkeypatch.setattr(m, "beta", lambda alpha, n, generator: torch.full((n,), 0.2))
    z = normal(2000, 10, 16)
    mixed, weight, _ = m.feat_mix(z, torch.full((10,), 0.1), device.generator(0))
    assert (mixed == z).float().mean() == pytest.approx(0.8, abs=0.01)
    assert weight.mean() == pytest.approx(0.8, abs=0.01)
    mixed, weight, _ = m.hid_mix(z, device.generator(0))
    assert (mixed == z).float().mean() == pytest.approx(0.2, abs=0.01)
    assert (weight == 0.2).all()


def test_equal_information_is_the_share_of_columns_and_none_leaves_the_label():
    z = normal(300, 4)
    mixed, weight, partner = m.feat_mix(z, torch.full((4,), 0.25), device.generator(0))
    moved = partner != torch.arange(300)
    assert torch.allclose((mixed == z).float().mean(1)[moved], weight[moved])
    mixed, weight, _ = m.feat_mix(z, torch.tensor([1.0, 0, 0, 0]), device.generator(0))
    only_noise_swapped = (mixed[:, 0] == z[:, 0]) & (mixed != z).any(1)
    assert only_noise_swapped.any() and (weight[only_noise_swapped] == 1).all()


def test_hid_mix_shares_one_mask_among_all_columns():
    z = normal(300, 5, 16)
    mixed, weight, partner = m.hid_mix(z, device.generator(0))
    own = mixed == z
    assert (own == own[:, :1]).all() and (own | (mixed == z[partner])).all()
    assert ((weight > 0) & (weight < 1)).all()


def test_mixing_columns_or_tokens_is_the_same():
    net, x, share = make(), normal(50, 6), torch.full((6,), 1 / 6)
    one = net.tokens(m.feat_mix(x, share, device.generator(3))[0])
    two, weight, _ = m.feat_mix(net.tokens(x), share, device.generator(3))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("kind", "mix"), [("feat", "feat_mix"), ("hid", "hid_mix")])
def test_the_mixed_loss_is_the_loss_of_mixed_labels(kind, mix):
    net, x, y, share = make(), normal(40, 6), torch.arange(40) % 2, torch.full((6,), 1 / 6)
    loss = m.mixing_step(kind, share)(net, x, y, device.generator(5))
    arguments = (net.tokens(x), share) if kind == "feat" else (net.tokens(x),)
    z, weight, partner = getattr(m, mix)(*arguments, device.generator(5))
    soft = weight[:, None] * F.one_hot(y, 2) + (1 - weight[:, None]) * F.one_hot(y[partner], 2)
    assert loss.item() == pytest.approx(F.cross_entropy(net.classify(z), soft).item(), rel=1e-5)


def test_without_mixing_the_step_is_plain_cross_entropy():
    net, x, y = make(), normal(40, 6), torch.arange(40) % 2
    loss = m.mixing_step(None, torch.full((6,), 1 / 6))(net, x, y, device.generator(0))
    assert loss.item() == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_beta_against_its_closed_forms(alpha):
    draws = m.beta(alpha, 100_000, device.generator(0))
    assert draws.mean() == pytest.approx(0.5, abs=0.005)
    assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.002)


def test_every_weight_learns_and_an_interaction_is_found():
    """The sign of a product of two columns: no column says anything alone."""
    x = normal(600, 3)
    y = (x[:, 0] * x[:, 1] > 0).long()
    net = make(columns=3, scale=0.01)
    before = {name: w.clone() for name, w in net.named_parameters()}
    training.fit(net, x[:500], y[:500], epochs=40, batch_size=50, lr=5e-3, optimizer="adamw", seed=0)
    assert all(not torch.equal(w, before[name]) for name, w in net.named_parameters())
    assert training.accuracy(net, x[500:], y[500:]) > 85
