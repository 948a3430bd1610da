"""Metrix: the losses against pytorch-metric-learning's, mixtures and their labels, retrieval against scikit-learn."""

import functools

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import nn

from shared import device, nets
from tests.notebooks import load_method

m = load_method("mixing/metrix")

LOSSES = {
    "contrastive": functools.partial(m.contrastive, margin=0.5),
    "contrastive, margin 1": functools.partial(m.contrastive, margin=1.0),
    "MS": m.multi_similarity,
    "MS, released": functools.partial(m.multi_similarity, beta=17.97, gamma=75.66, margin=0.77),
    "Proxy Anchor": m.proxy_anchor,
}


def formula_inputs():
    """Embeddings (12, 6) of length 1, classes (12,) and proxies (3, 6), by formula and without a seed, float64."""
    k = torch.arange(72, dtype=torch.float64)
    f = F.normalize((torch.sin(1.7 * k) + torch.cos(0.3 * k * k / 50)).view(12, 6))
    proxies = torch.cos(2.3 * torch.arange(18, dtype=torch.float64) + 0.5).view(3, 6)
    return f, torch.arange(12) % 3, proxies


def random_batch(classes=4, each=5, d=6, seed=0):
    """Embeddings (classes * each, d) of length 1 and classes, in random order."""
    g = device.generator(seed)
    y = torch.arange(classes).repeat(each)[torch.randperm(classes * each, generator=g)]
    return F.normalize(torch.randn(len(y), d, generator=g, dtype=torch.float64)), y


# Made once with pytorch-metric-learning 2.9.0 (default reducers; ContrastiveLoss(neg_margin=...),
# MultiSimilarityLoss(alpha, beta, base), ProxyAnchorLoss(3, 6) with the proxies set) in float64 on formula_inputs():
# the loss, its slope in the second embedding, and the sum of all slopes' absolute values.
PEER = {
    "contrastive": (
        1.3453228373,
        [0.00595499, 0.05446255, 0.02309246, -0.05500596, -0.0425815, 0.00552068],
        5.99646208,
    ),
    "contrastive, margin 1": (
        1.5547537525,
        [-0.06112804, 0.03439939, 0.05764177, -0.03345522, -0.10310115, -0.11501545],
        5.03391425,
    ),
    "MS": (1.3425796167, [-0.02838184, 0.08008662, 0.05905577, -0.06784495, -0.10464228, -0.0870229], 4.03565519),
    "MS, released": (
        1.1025477881,
        [-0.01197964, 0.11531552, 0.06866271, -0.09786789, -0.12622075, -0.08388676],
        3.73557085,
    ),
    "Proxy Anchor": (
        27.5535622218,
        [4.36975614, -5.86930716, -1.20372928, 0.0687203, -5.10210002, 3.5861784],
        123.51424959,
    ),
}


@pytest.mark.parametrize("name", PEER)
def test_losses_agree_with_pytorch_metric_learning(name):
    value, slope, total = PEER[name]
    f, y, proxies = formula_inputs()
    raw = f.clone().requires_grad_()
    # the library normalises what it is given, so its slopes have no part along the embedding; neither have these
    f = F.normalize(raw)
    loss = LOSSES[name](m.plain_pairs(m.anchors_of(f, y, proxies if name == "Proxy Anchor" else None), f, y))
    slopes = torch.autograd.grad(loss, raw)[0]
    assert loss.item() == pytest.approx(value, abs=1e-9)
    assert slopes[1].tolist() == pytest.approx(slope, abs=1e-7)
    assert slopes.abs().sum().item() == pytest.approx(total, abs=1e-6)


def test_slope_in_the_proxies_agrees_with_the_library():
    f, y, proxies = formula_inputs()
    proxies.requires_grad_()
    loss = m.proxy_anchor(m.plain_pairs(m.anchors_of(f, y, proxies), f, y))
    assert torch.autograd.grad(loss, proxies)[0].abs().sum().item() == pytest.approx(62.88208646, abs=1e-6)


def test_worked_examples():
    def pairs(similarities, labels):
        s = torch.tensor([similarities], dtype=torch.float64)
        return m.Pairs(s, torch.tensor([labels], dtype=torch.float64), torch.ones_like(s, dtype=torch.bool))

    for y, value in ((1.0, 0.2), (0.0, 0.3), (0.7, 0.23)):
        assert m.contrastive(pairs([1 - 0.2**2 / 2], [y]), margin=0.5).item() == pytest.approx(value)
    assert m.multi_similarity(pairs([0.9, 0.3], [1.0, 0.0])).item() == pytest.approx(0.185551, abs=1e-6)
    assert m.multi_similarity(pairs([0.6], [0.7])).item() == pytest.approx(0.302893, abs=1e-6)


@pytest.mark.parametrize("kind", m.KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_mixed_loss_is_equation_2_term_by_term(name, kind):
    f, y = random_batch()
    ratio, loss = 0.3, LOSSES[name]
    i, j = m.couples(y, "embedding", None)
    v = F.normalize(m.mix(f, i, j, ratio))
    mixed = m.mixed_pairs(m.anchors_of(f, y), v, y, i, ratio, kind)
    rows = []
    for a in range(len(y)):
        mains = [a] if kind == "anchor-negative" else [p for p in range(len(y)) if p != a and y[p] == y[a]]
        blends = [ratio * f[p] + (1 - ratio) * f[n] for p in mains for n in range(len(y)) if y[n] != y[a]]
        rows.append(torch.stack([f[a] @ (b / b.norm()) for b in blends]))
    s = torch.stack(rows)
    by_hand = m.Pairs(s, torch.full_like(s, ratio), torch.ones_like(s, dtype=torch.bool))
    assert mixed.counts.sum() == s.numel()
    assert loss(mixed).item() == pytest.approx(loss(by_hand).item())


@pytest.mark.parametrize("name", LOSSES)
def test_labels_of_0_and_1_give_the_plain_loss(name):
    """Every example as a "mixture" at ratio 1 is a positive, at ratio 0 a negative."""
    f, y = random_batch()
    anchors = m.anchors_of(f, y)
    plain = m.plain_pairs(anchors, f, y)
    i, j = m.couples(y, "embedding", None)
    ones = m.mixed_pairs(anchors, F.normalize(m.mix(f, i, j, 1.0)), y, i, 1.0, "positive-negative")
    nothing = m.mixed_pairs(anchors, F.normalize(m.mix(f, i, j, 0.0)), y, i, 0.0, "positive-negative")
    for ends, label in ((ones, 1), (nothing, 0)):
        wanted = plain.similarity[plain.counts & (plain.label == label)]
        assert set(ends.similarity[ends.counts].round(decimals=9).tolist()) == set(wanted.round(decimals=9).tolist())
        s = torch.tensor([[0.4]], dtype=torch.float64)
        counts = torch.ones(1, 1, dtype=torch.bool)
        as_number, as_tensor = m.Pairs(s, float(label), counts), m.Pairs(s, torch.full_like(s, label), counts)
        assert LOSSES[name](as_number) == LOSSES[name](as_tensor)


def test_contrastive_is_linear_in_the_label_and_ms_is_not():
    s = torch.tensor([[0.95]], dtype=torch.float64)

    def at(loss, y):
        return loss(m.Pairs(s, y, torch.ones(1, 1, dtype=torch.bool))).item()

    for loss, linear in ((m.contrastive, True), (m.multi_similarity, False)):
        average = 0.7 * at(loss, 1.0) + 0.3 * at(loss, 0.0)
        assert (at(loss, 0.7) == pytest.approx(average, rel=1e-6)) is linear


def test_a_mixture_attracts_within_the_margin_only_above_one_half():
    for d, y, slope in ((0.3, 0.2, -0.6), (0.3, 0.8, 0.6), (0.8, 0.2, 0.2), (0.8, 0.8, 0.8)):
        s = torch.tensor([[1 - d**2 / 2]], dtype=torch.float64, requires_grad=True)
        loss = m.contrastive(m.Pairs(s, y, torch.ones(1, 1, dtype=torch.bool)), margin=0.5)
        assert torch.autograd.grad(loss, s)[0].item() * -d == pytest.approx(slope)


@pytest.mark.parametrize("level", ["input", "feature", "embedding"])
def test_couples_are_of_different_classes(level):
    y = torch.arange(5).repeat(10)
    i, j = m.couples(y, level, device.generator(0))
    assert (y[i] != y[j]).all()
    assert len(i) == (50 * 40 if level == "embedding" else 50)
    if level != "embedding":
        assert torch.equal(i, torch.arange(50))
        assert len(j.unique()) > 20


def test_mix_weighs_the_main_example_with_the_ratio():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert m.mix(x, torch.tensor([0]), torch.tensor([1]), 0.3).tolist() == [[pytest.approx(0.3), pytest.approx(0.7)]]


def embedder(with_proxies=False):
    """A small embedder with batch norm, always the same."""
    with device.fork(0):
        net = nets.convnet(1, 8, (4, 4, 8), (2, 2, 1))
        proxies = nn.Parameter(torch.randn(3, 8)) if with_proxies else None
    return m.Embedder(net, 6, proxies)


def test_embeddings_and_mixtures_have_length_1_and_levels_differ():
    net, g = embedder().eval(), device.generator(1)
    x, i, j = torch.randn(6, 1, 28, 28, generator=g), torch.arange(3), torch.arange(3, 6)
    hidden = net.hidden(x)
    f = net.embed(hidden)
    assert torch.equal(f, net(x))
    mixed = {
        level: m.mixed_embeddings(net, x, hidden, f, i, j, 0.4, level) for level in ("input", "feature", "embedding")
    }
    for v in mixed.values():
        torch.testing.assert_close(v.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(mixed["input"], net(0.4 * x[i] + 0.6 * x[j]))
    torch.testing.assert_close(mixed["embedding"], F.normalize(0.4 * f[i] + 0.6 * f[j]))
    assert not torch.allclose(mixed["feature"], mixed["embedding"], atol=1e-4)
    assert not torch.allclose(mixed["feature"], mixed["input"], atol=1e-4)


def test_mixtures_leave_no_trace_in_the_statistics():
    net, x = embedder().train(), torch.randn(6, 1, 28, 28, generator=device.generator(1))
    with m.statistics_kept(net):
        net(x)
    assert torch.equal(net.early[1].running_mean, torch.zeros(4))
    net(x)
    assert not torch.equal(net.early[1].running_mean, torch.zeros(4))


@pytest.mark.parametrize("level", ["input", "feature", "embedding"])
@pytest.mark.parametrize("name", ["contrastive", "MS", "Proxy Anchor"])
def test_a_step_adds_the_weighted_mixed_loss_and_trains_everything(name, level):
    net, g = embedder(with_proxies=name == "Proxy Anchor"), device.generator(2)
    x, y = torch.randn(12, 1, 28, 28, generator=g), torch.arange(12) % 3

    def value(weight):
        return m.batch_loss(net, x, y, device.generator(3), LOSSES[name], weight=weight, level=level)

    plain, half, whole = value(0.0), value(0.5), value(1.0)
    assert whole > plain
    torch.testing.assert_close(whole - half, half - plain, rtol=1e-3, atol=1e-5)
    whole.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_hard_labels_round_the_ratio(monkeypatch):
    seen = []

    def spy(pairs):
        seen.append(pairs.label)
        return pairs.similarity.mean()

    net, y = embedder(), torch.arange(12) % 3
    x = torch.randn(12, 1, 28, 28, generator=device.generator(2))
    for ratio in (0.3, 0.7):
        monkeypatch.setattr(m.mixing, "beta", lambda *_, ratio=ratio: torch.tensor([ratio]))
        for hard in (False, True):
            m.batch_loss(net, x, y, device.generator(0), spy, weight=1.0, hard=hard)
    assert seen[1::2] == [pytest.approx(0.3), 0.0, pytest.approx(0.7), 1.0]


def test_gradients_reach_anchor_positive_and_negative():
    f, y = random_batch(classes=2, each=2)
    f.requires_grad_()
    i, j = m.couples(y, "embedding", None)
    v = F.normalize(m.mix(f, i, j, 0.6))
    pairs = m.mixed_pairs(m.anchors_of(f, y), v, y, i, 0.6, "positive-negative")
    a = 0
    one = pairs._replace(counts=pairs.counts & (torch.arange(4) == a)[:, None])
    moved = torch.autograd.grad(m.contrastive(one, margin=0.0), f)[0].norm(dim=1) > 0
    assert moved.tolist() == [True] * 4  # the anchor, its positive, and both negatives


def test_recall_agrees_with_scikit_learn_and_leaves_the_query_out():
    g = device.generator(4)
    f, y = F.normalize(torch.randn(300, 5, generator=g)), torch.randint(6, (300,), generator=g)
    nearest = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(f.numpy()).kneighbors(f.numpy())[1][:, 1]
    assert m.recall_at_1(f, y) == pytest.approx(100 * (y[nearest] == y).double().mean().item())
    assert m.recall_at_1(torch.eye(4)[[0, 0, 1, 1]], torch.tensor([0, 1, 2, 2])) == 50.0


def test_utilization_and_uniformity():
    f = F.normalize(torch.randn(40, 5, generator=device.generator(5), dtype=torch.float64))
    by_hand = torch.cdist(f[:10], f[10:]).amin(1).square().mean().item()
    assert m.utilization(f[:10], f[10:]) == pytest.approx(by_hand)
    assert m.utilization(f[:10], f) == pytest.approx(0, abs=1e-12)
    assert m.utilization(f[:10], f[10:]) <= m.utilization(f[:10], f[10:25])
    off = ~torch.eye(40, dtype=torch.bool)
    assert m.uniformity(f) == pytest.approx(torch.exp(-2 * torch.cdist(f, f)[off] ** 2).mean().log().item())
    assert m.uniformity(torch.eye(3)[[0, 0]]) == pytest.approx(0, abs=1e-6)
