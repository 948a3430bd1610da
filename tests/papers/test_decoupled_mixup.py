"""Decoupled mixup: the decoupled softmax, the loss and its gradient, the released weights, the two extensions."""

import pytest
import torch
import torch.nn.functional as F

from shared import mixing
from tests.notebooks import load_method

m = load_method("mixing/decoupled-mixup")


def batch(rows=40, classes=7, seed=0):
    """Logits (rows, classes), classes a and b, of which the first five pairs are equal, and ratios; in float64."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=g, dtype=torch.double)
    a = torch.randint(classes, (rows,), generator=g)
    b = (a + torch.randint(1, classes, (rows,), generator=g)) % classes
    b[:5] = a[:5]
    return logits, a, b, torch.rand(rows, generator=g, dtype=torch.double)


def gradient(loss, logits):
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


def one(*values):
    return (torch.tensor([value]) for value in values)


def test_worked_example():
    z, (a, b) = torch.tensor([[2.0, 1, 0, -1]], dtype=torch.double), one(0, 1)
    ratio = torch.tensor([0.7], dtype=torch.double)
    assert m.log_phi(z, a, b).exp().item() == pytest.approx(0.843795, abs=5e-7)
    assert m.log_phi(z, b, a).exp().item() == pytest.approx(0.665241, abs=5e-7)
    assert m.mixup_loss(z, a, b, ratio).item() == pytest.approx(0.740190, abs=5e-7)
    assert m.decoupled(z, a, b, 1, 1).item() == pytest.approx(0.577452, abs=5e-7)
    assert m.dm_loss(z, a, b, ratio, 0.1).item() == pytest.approx(0.797935, abs=1e-6)
    assert m.dm_loss(z, a, b, ratio, 0.1, power=1).item() == pytest.approx(0.764307, abs=5e-7)
    of_mixup = gradient(lambda z: m.mixup_loss(z, a, b, ratio), z)[0]
    of_term = gradient(lambda z: m.decoupled(z, a, b, 1, 1), z)[0]
    assert of_mixup.tolist() == pytest.approx([-0.0561, -0.0631, 0.0871, 0.0321], abs=5e-5)
    assert of_term.tolist() == pytest.approx([-0.1562, -0.3348, 0.3589, 0.1320], abs=5e-5)
    assert of_mixup.sum().abs() < 1e-12 and of_term.sum().abs() < 1e-12


def test_log_phi_is_torchs_cross_entropy_without_the_other_class():
    logits, a, b, _ = batch()
    masked = logits.masked_fill(F.one_hot(b, 7).bool(), -torch.inf)
    peer = -F.cross_entropy(masked[5:], a[5:], reduction="none")
    torch.testing.assert_close(m.log_phi(logits[5:], a[5:], b[5:]), peer)


def test_log_phi_ignores_the_other_logit_and_no_more():
    logits, a, b, _ = (part[5:] for part in batch())
    slope = gradient(lambda z: m.log_phi(z, a, b).sum(), logits)
    ignored = F.one_hot(b, 7).bool()
    assert (slope[ignored] == 0).all() and (slope[~ignored].abs() > 1e-9).all()


def test_loss_written_out():
    logits, a, b, ratio = batch()
    rows = []
    for z, i, j, share in zip(logits, a, b, ratio, strict=True):
        p, e = z.softmax(0), z.exp()
        row = -share * p[i].log() - (1 - share) * p[j].log()
        if i != j:
            row = row - 0.3 * ((e[i] / (e.sum() - e[j])).log() + (e[j] / (e.sum() - e[i])).log())
        rows.append(row)
    torch.testing.assert_close(m.dm_loss(logits, a, b, ratio, 0.3), torch.stack(rows).mean())


def test_gradient_is_the_closed_form():
    logits, a, b, _ = (part[5:] for part in batch())
    slope = gradient(lambda z: len(z) * m.decoupled(z, a, b, 1, 1), logits)
    torch.testing.assert_close(
        slope, torch.stack([m.regulariser_gradient(*row) for row in zip(logits, a, b, strict=True)])
    )
    mixed = F.one_hot(a, 7).bool() | F.one_hot(b, 7).bool()
    assert (slope[mixed] < 0).all() and (slope[~mixed] > 0).all()


def test_pairs_of_one_class_are_plain_and_cost_no_nan():
    logits, a, _, ratio = batch()
    logits[0, a[0]] = 800.0  # alone on a ballot without it, every other class has the probability 0
    plain = gradient(lambda z: F.cross_entropy(z, a), logits)
    for loss in (m.dm_loss, m.placebo_loss):
        torch.testing.assert_close(gradient(lambda z, loss=loss: loss(z, a, a, ratio, 0.5), logits), plain)


def test_limits():
    logits, a, b, ratio = batch()
    mixup = m.mixup_loss(logits, a, b, ratio)
    for loss in (m.dm_loss, m.placebo_loss):
        assert torch.equal(loss(logits, a, b, ratio, 0.0), mixup)
        torch.testing.assert_close(loss(logits + 100, a, b, ratio, 0.2), loss(logits, a, b, ratio, 0.2))
        torch.testing.assert_close(loss(logits, b, a, 1 - ratio, 0.2), loss(logits, a, b, ratio, 0.2))
    two, (i, j) = logits[:1, :2], one(0, 1)
    assert m.decoupled(two, i, j, 1, 1).item() == 0


def test_mixup_loss_is_that_of_soft_labels_bit_for_bit():
    """The plain arms have to give the numbers of other chapters."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(16, 3, 8, 8, generator=g), torch.randint(10, (16,), generator=g)
    mixture, logits = mixing.cutmix(x, 1.0, g), torch.randn(16, 10, generator=g)
    ours = m.mixup_loss(logits, y, y[mixture.partner], mixture.ratio)
    assert torch.equal(ours, F.cross_entropy(logits, mixture.targets(y, 10)))


def test_placebo_is_a_label_pulled_to_the_middle():
    logits, a, b, ratio = (part[5:] for part in batch())
    middle = m.mixup_loss(logits, a, b, torch.full_like(ratio, 0.5))
    expected = m.mixup_loss(logits, a, b, ratio) + 2 * 0.3 * middle
    torch.testing.assert_close(m.placebo_loss(logits, a, b, ratio, 0.3), expected)


def test_weights():
    ratio = torch.tensor([0.2, 0.8], dtype=torch.double)
    root = (0.1 * 0.2**0.5, 0.1 * 0.8**0.5)
    expected = {
        ("both", 0): [[0.1, 0.1], [0.1, 0.1]],
        ("both", 1): [[0.02, 0.08], [0.08, 0.02]],
        ("less", 0.5): [[root[0], 0], [0, root[0]]],
        ("more", 0.5): [[0, root[1]], [root[1], 0]],
    }
    for options, rows in expected.items():
        weights = torch.stack(m.term_weights(ratio, 0.1, *options), 1)
        torch.testing.assert_close(weights, torch.tensor(rows, dtype=torch.double))
    assert m.rescale(ratio, 2, 0.5).tolist() == pytest.approx([0.16, 1])
    with pytest.raises(ValueError, match="both, less, more"):
        m.term_weights(ratio, 0.1, "most")


# Made once with the authors' code (Westlake-AI/openmixup, commit 37e1372): `soft_mix_cross_entropy` of
# openmixup/models/losses/cross_entropy_loss.py in float64, with the weights that `ClsMixupHead.loss` computes, on the
# logits 2 sin(1.3 i + 0.5), i = 0, 1, ... (6 x 7). Columns: own class of the first row, ratio, mode, eta, power, loss,
# sum of the absolute values of the gradient.
OWN, OTHER = [1, 2, 3, 4, 2], [1, 3, 5, 6, 6, 2]
OFFICIAL = [
    (0, 0.3, "both", 0.1, 0, 3.17980744, 1.76284552),
    (0, 0.3, "both", 0.1, 1, 2.97093391, 1.62037529),
    (0, 0.3, "less", 0.1, 0.5, 2.90992728, 1.56725224),
    (0, 0.3, "more", 0.01, 0.5, 2.79978191, 1.49666980),
    (0, 0.7, "both", 0.1, 0, 3.47167854, 1.78525065),
    (0, 0.7, "both", 0.1, 1, 3.28652371, 1.66931419),
    (0, 0.7, "less", 0.1, 0.5, 3.16932021, 1.58737257),
    (0, 0.7, "more", 0.01, 0.5, 3.09661414, 1.55115855),
    (5, 0.3, "both", 0.1, 0, 3.15509213, 1.74170707),
    (5, 0.3, "both", 0.1, 1, 2.97244127, 1.60862526),
    (5, 0.3, "less", 0.1, 0.5, 2.85912310, 1.53815715),
    (5, 0.3, "more", 0.01, 0.5, 2.78649174, 1.48045915),
    (5, 0.7, "both", 0.1, 0, 3.42328843, 1.76411220),
    (5, 0.7, "both", 0.1, 1, 3.21887014, 1.62945225),
    (5, 0.7, "less", 0.1, 0.5, 3.15712566, 1.60094459),
    (5, 0.7, "more", 0.01, 0.5, 3.05013505, 1.52849895),
]


@pytest.mark.parametrize(("first", "share", "mode", "eta", "power", "loss", "size"), OFFICIAL)
def test_released_loss(first, share, mode, eta, power, loss, size):
    """The released weights change places for the whole batch when the first row's own class is the higher number."""
    logits = 2 * torch.sin(1.3 * torch.arange(42, dtype=torch.double) + 0.5).view(6, 7)
    a, b = torch.tensor([first, *OWN]), torch.tensor(OTHER)
    ratio = torch.full((6,), share, dtype=torch.double)
    weights = m.term_weights(ratio, eta, mode, power)
    if a[0] > b[0]:
        weights = weights[::-1]

    def ours(z):
        return m.mixup_loss(z, a, b, ratio) + m.decoupled(z, a, b, *weights)

    assert ours(logits).item() == pytest.approx(loss, abs=1e-8)
    assert gradient(ours, logits).abs().sum().item() == pytest.approx(size, abs=1e-8)
    same_order = m.dm_loss(logits, a, b, ratio, eta, mode, power).item()
    assert (same_order == pytest.approx(loss, abs=1e-8)) == (a[0] < b[0] or power == 0)


def test_binary_version():
    logits, a, b, ratio = batch()
    soft = F.one_hot(b, 7).double().lerp(F.one_hot(a, 7).double(), ratio[:, None])
    p = logits.sigmoid()
    expected = -(soft * p.log() + (1 - soft) * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(m.dm_bce_loss(logits, a, b, ratio, 1.0), expected)
    two_hot = torch.maximum(F.one_hot(a, 7), F.one_hot(b, 7)).double()
    slope = gradient(lambda z: len(z) * m.dm_bce_loss(z, a, b, ratio), logits)
    torch.testing.assert_close(slope, p - two_hot)


def test_pseudo_labels():
    classes, sure = m.pseudo_labels(torch.tensor([[0.02, 0.98], [0.5, 0.5], [0.95, 0.05]]))
    assert classes.tolist()[::2] == [1, 0] and sure.tolist() == [True, False, True]


def test_asymmetric_version():
    logits, a, b, ratio = batch()
    ratio, sure = ratio.maximum(1 - ratio), torch.arange(40) % 3 != 0
    rows = []
    for z, i, j, share in zip(logits[sure], a[sure], b[sure], ratio[sure], strict=True):
        row = m.mixup_loss(z[None], i[None], j[None], share[None])
        if i != j:
            row = row - 0.7 * (share**0.5 * m.log_phi(z[None], i[None], j[None])[0])
            row = row - 0.7 * (1 - share) * m.log_phi(z[None], j[None], i[None])[0]
        rows.append(row)
    ours = m.asymmetric_dm_loss(logits, a, b, sure, ratio, 0.7, power=0.5)
    torch.testing.assert_close(ours, torch.stack(rows).sum() / 40)
    nothing = gradient(lambda z: m.asymmetric_dm_loss(z, a, b, ~sure & sure, ratio, 0.7), logits)
    assert (nothing == 0).all()


def test_finds_both():
    logits = torch.tensor([[3.0, 2, 1], [1, 2, 3], [3, 1, 2]])
    assert m.finds_both(logits, torch.tensor([0, 0, 2]), torch.tensor([1, 1, 0])).tolist() == [True, False, True]


def test_settles_where_it_should():
    for eta, expected in ((0, [0.908, 0.039, 0.0067]), (0.1, [0.907, 0.063, 0.0038]), (1, [0.901, 0.091, 0.0009])):
        p = m.settled(lambda *args, eta=eta: m.dm_loss(*args, eta=eta), 0.95)
        assert p[:3].tolist() == pytest.approx(expected, abs=6e-4)
        assert torch.allclose(p[2:], p[2].expand(8), atol=1e-6)


def test_mixed_precision():
    logits, a, b, ratio = batch()
    rough = m.dm_loss(logits.bfloat16(), a, b, ratio.float(), 0.1)
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(
        m.dm_loss(logits, a, b, ratio, 0.1).item(), rel=0.02
    )
