"""Mixup and neural collapse: the unconstrained-features model, its coordinates, and the measures of collapse."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve
from torch import nn

from shared import metrics
from tests.notebooks import load_method

m = load_method("mixing/mixup-neural-collapse")

RATIOS = [0.5, 0.6, 0.75, 0.9, 1.0]


def one_hot(classes):
    return torch.eye(classes, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_turn(dimensions, seed=0):
    return torch.linalg.qr(torch.randn(dimensions, dimensions, generator=seeded(seed), dtype=torch.float64))[0]


# ------------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("classes", [3, 4, 10, 100])
def test_simplex_etf_has_its_inner_products(classes):
    w = m.simplex_etf(classes, 1.7)
    expected = torch.full((classes, classes), -(1.7**2) / (classes - 1), dtype=torch.float64)
    torch.testing.assert_close(w @ w.T, expected.fill_diagonal_(1.7**2))
    torch.testing.assert_close(w.sum(0), torch.zeros(classes, dtype=torch.float64))


@pytest.mark.parametrize(
    ("classes", "ratio", "a", "b"),
    [(10, 1, 4.771, 0), (10, 0.5, 3.729, 3.729), (10, 0.75, 4.135, 3.099), (3, 0.5, 2.310, 2.310), (3, 1, 3.046, 0)],
)
def test_values_worked_out_by_hand(classes, ratio, a, b):
    ours = [number.item() for number in m.ufm([ratio], 1e-2, classes)]
    assert ours == pytest.approx([a, b], abs=6e-4)


def scipy_feature(target, w, penalty, bounds=None):
    """Problem (3) by a quasi-Newton method over all of h."""

    def objective(h):
        log_p = log_softmax(w @ h)
        return -target @ log_p + penalty / 2 * h @ h, penalty * h - w.T @ (target - np.exp(log_p))

    method = {"method": "L-BFGS-B", "bounds": bounds} if bounds else {"method": "BFGS"}
    return minimize(objective, np.zeros(w.shape[1]), jac=True, tol=1e-11, **method).x


@pytest.mark.parametrize("penalty", [1.0, 1e-1, 1e-3])
@pytest.mark.parametrize(("classes", "norm"), [(3, 1.0), (10, 2.0), (25, 0.7)])
def test_two_numbers_are_the_full_minimiser(classes, norm, penalty):
    w = (m.simplex_etf(classes, norm) @ random_turn(classes + 6)[:classes]).numpy()  # d is larger than C
    for ratio in RATIOS:
        a, b = (number.item() for number in m.ufm([ratio], penalty, classes, norm))
        target = ratio * np.eye(classes)[1] + (1 - ratio) * np.eye(classes)[2]
        assert scipy_feature(target, w, penalty) == pytest.approx(a * w[1] + b * w[2], abs=2e-6)


def test_two_numbers_are_the_full_minimiser_of_torch():
    """The same with torch's L-BFGS, all ratios in one problem."""
    w, ratios = m.simplex_etf(10), torch.tensor(RATIOS, dtype=torch.float64)
    targets = ratios[:, None] * one_hot(10)[4] + (1 - ratios)[:, None] * one_hot(10)[7]
    h = torch.zeros(len(ratios), 10, dtype=torch.float64, requires_grad=True)
    options = {"max_iter": 500, "tolerance_grad": 1e-12, "tolerance_change": 1e-16, "line_search_fn": "strong_wolfe"}
    solver = torch.optim.LBFGS([h], **options)

    def closure():
        solver.zero_grad()
        loss = -(targets * (h @ w.T).log_softmax(1)).sum() + 1e-2 / 2 * h.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    a, b = m.ufm(ratios, 1e-2)
    torch.testing.assert_close(h.detach(), a[:, None] * w[4] + b[:, None] * w[7], atol=1e-6, rtol=0)


@pytest.mark.parametrize("penalty", [1.0, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("classes", [3, 10])
def test_nonnegative_features_are_the_bounded_minimiser(classes, penalty):
    w = m.simplex_etf(classes).numpy()
    for ratio in [*RATIOS, 0.97]:  # near 1 the second number is held at zero
        ab = [number.item() for number in m.ufm([ratio], penalty, classes, nonnegative=True)]
        target = ratio * np.eye(classes)[0] + (1 - ratio) * np.eye(classes)[1]
        h = scipy_feature(target, w, penalty, [(0, None)] * classes) / math.sqrt(classes / (classes - 1))
        assert h == pytest.approx([*ab, *[0] * (classes - 2)], abs=1e-4)
    assert m.ufm([0.97], 0.1, 10, nonnegative=True)[1].item() == 0


@pytest.mark.parametrize("nonnegative", [False, True])
def test_stationarity_over_a_wide_range(nonnegative):
    ratios = torch.linspace(0, 1, 41, dtype=torch.float64)
    for penalty in (10.0, 1.0, 1e-2, 1e-4, 1e-8):
        for classes, norm in ((3, 1.0), (10, 3.0), (1000, 1.0)):
            a, b = m.ufm(ratios, penalty, classes, norm, nonnegative)
            p_i, p_j, q = m.probabilities(a, b, classes, norm)
            torch.testing.assert_close(p_i + p_j + (classes - 2) * q, torch.ones_like(q))
            spill = 0 if nonnegative else q
            for number, share, p in ((a, ratios, p_i), (b, 1 - ratios, p_j)):
                wanted = share - p + spill
                wanted = wanted.clamp(min=0) if nonnegative else wanted
                torch.testing.assert_close(penalty * number, wanted, atol=1e-10, rtol=0)


def test_same_class_blends_lie_on_their_row_whatever_the_ratio():
    """b = 0, and a solves the closed-form equation lambda_h a (C - 1 + exp(kappa a)) = C."""
    for classes, norm, penalty in ((3, 1.0, 1e-2), (10, 2.0, 1e-3), (10, 1.0, 1.0)):
        a, b = (number.item() for number in m.ufm([1.0], penalty, classes, norm))
        assert b == pytest.approx(0, abs=1e-12)
        assert penalty * a * (classes - 1 + math.exp(a * norm**2 * classes / (classes - 1))) == pytest.approx(classes)


def test_swapping_the_images_swaps_the_numbers():
    ratios = torch.linspace(0, 1, 11, dtype=torch.float64)
    for nonnegative in (False, True):
        a, b = m.ufm(ratios, 1e-2, nonnegative=nonnegative)
        c, d = m.ufm(1 - ratios, 1e-2, nonnegative=nonnegative)
        torch.testing.assert_close((a, b), (d, c))


def test_channel_is_the_limit_of_a_small_penalty_and_the_line_of_a_large_one():
    ratios = torch.tensor([0.55, 0.6, 0.75, 0.9], dtype=torch.float64)
    a, b = m.ufm(ratios, 1e-7, 10, 2.0)
    torch.testing.assert_close(a - b, 9 / 40 * (ratios / (1 - ratios)).log(), atol=1e-4, rtol=0)
    assert (a + b > 3).all()
    small = m.predicted_curves(ratios, 0.01)
    torch.testing.assert_close(small, m.straight_line(ratios), atol=0.01, rtol=0)


def test_a_penalty_has_to_be_positive():
    with pytest.raises(ValueError, match="positive penalty"):
        m.ufm([0.5], 0.0)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("classes", [3, 10])
def test_the_gap_gives_the_penalty_back(classes, nonnegative):
    for penalty in (1.0, 1e-1, 1e-3):
        a, b = m.ufm([1.0], penalty, classes, nonnegative=nonnegative)
        p_i, _, q = m.probabilities(a, b, classes)
        assert m.penalty_of((p_i / q).log().item(), classes, nonnegative) == pytest.approx(penalty)


def test_squared_error_makes_straight_lines_and_is_a_minimum():
    w = torch.randn(5, 8, generator=seeded(), dtype=torch.float64)
    i, j = one_hot(5)[0], one_hot(5)[3]
    ratios = torch.tensor(RATIOS, dtype=torch.float64)[:, None]
    ends, h = m.mse_ufm(torch.stack([i, j]), w, 0.1), m.mse_ufm(ratios * i + (1 - ratios) * j, w, 0.1)
    torch.testing.assert_close(h, ratios * ends[0] + (1 - ratios) * ends[1], atol=1e-14, rtol=0)
    h.requires_grad_()
    ((h @ w.T - ratios * i - (1 - ratios) * j).square().sum() + 0.1 * h.square().sum()).backward()
    torch.testing.assert_close(h.grad, torch.zeros_like(h), atol=1e-13, rtol=0)


# ------------------------------------------------------------------------------------------------------------ the ruler


def features_of(a, b, unit, w, per_cell=3, unseen=0.0, shift=0.0):
    """Features (R, C, C, K, d) that are a w_i + b w_j off the diagonal and unit * w_i on it."""
    classes = len(w)
    first, second = w[:, None].expand(-1, classes, -1), w[None].expand(classes, -1, -1)
    same = torch.eye(classes, dtype=torch.bool)[..., None]
    cells = torch.stack([torch.where(same, unit * first, x * first + y * second) for x, y in zip(a, b, strict=True)])
    features = cells[:, :, :, None].repeat(1, 1, 1, per_cell, 1) + shift
    noise = torch.randn(features.shape, generator=seeded(5), dtype=torch.float64)
    invisible = torch.eye(w.shape[1], dtype=torch.float64) - torch.linalg.pinv(w) @ w
    return features + unseen * noise @ invisible


@pytest.mark.parametrize("gap", [2.0, 6.0])
def test_the_ruler_reads_the_models_curves_off_its_features(gap):
    ratios = torch.tensor([0.5, 0.75, 0.9], dtype=torch.float64)
    a, b = m.ufm(ratios, m.penalty_of(gap, 10))
    unit, _ = m.ufm([1.0], m.penalty_of(gap, 10))
    w = m.simplex_etf(10) @ random_turn(16)[:10]
    shifted = w + 0.3  # all rows together may lie anywhere: logits differ by a constant
    lateral, along, measured = m.measured_curves(features_of(a, b, unit, w, unseen=2.0), shifted)
    assert measured == pytest.approx(gap)
    assert m.curve_error((lateral, along), m.predicted_curves(ratios, gap)) < 1e-12
    assert m.curve_error((lateral, along), m.straight_line(ratios)) > 0.02
    twice = m.measured_curves(2 * features_of(a, b, unit, w), 3 * w)
    assert m.curve_error(twice[:2], (lateral, along)) < 1e-12 and twice[2] == pytest.approx(6 * gap)


def test_the_ruler_reads_the_line_off_convex_combinations_in_any_geometry():
    """Class means anywhere, also all in one orthant as after a ReLU."""
    means = torch.rand(6, 12, generator=seeded(), dtype=torch.float64)
    w = means - means.mean(0)
    ratios = torch.tensor([0.5, 0.6, 0.9], dtype=torch.float64)
    lateral, along, _ = m.measured_curves(features_of(ratios, 1 - ratios, 1.0, means), w)
    torch.testing.assert_close(lateral, 2 * ratios - 1)
    # along is 1 in the mean over (i, j) and (j, i)
    torch.testing.assert_close(along, torch.ones(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_curve_error_by_hand():
    ours = (torch.tensor([0.0, 0.5]), torch.tensor([1.0, 1.0]))
    theirs = (torch.tensor([0.0, 0.5]), torch.tensor([1.0, 2.0]))
    assert m.curve_error(ours, theirs) == pytest.approx(0.5)


def test_pairs_come_from_their_classes():
    y = torch.arange(5).repeat(7)[torch.randperm(35, generator=seeded())]
    first, second = m.pairs_of_all_classes(y, 11, seeded(1))
    assert first.shape == second.shape == (5, 5, 11)
    assert torch.equal(y[first], torch.arange(5)[:, None, None].expand(5, 5, 11))
    assert torch.equal(y[second], torch.arange(5)[None, :, None].expand(5, 5, 11))
    assert len(first.unique()) > 30  # all images have their chance
    assert torch.equal(first, m.pairs_of_all_classes(y, 11, seeded(1))[0])


def test_blends_are_fed_in_their_cells():
    """With the identity for a body, the features are the blends themselves."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x = torch.randn(9, 1, 2, 2, generator=seeded())
    y = torch.arange(3).repeat(3)
    first, second = m.pairs_of_all_classes(y, 2, seeded())
    features = m.blend_features(net, x, first, second, (0.5, 0.8))
    assert features.shape == (2, 3, 3, 2, 4)
    expected = 0.8 * x[first[2, 1, 0]] + 0.2 * x[second[2, 1, 0]]
    torch.testing.assert_close(features[1, 2, 1, 0], expected.flatten())


def test_batch_statistics_are_those_of_the_blends_and_leave_the_network_alone():
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, y = 5 + 3 * torch.randn(30, 1, 2, 2, generator=seeded()), torch.arange(3).repeat(10)
    pairs = m.pairs_of_all_classes(y, 4, seeded())
    features = m.blend_features(net, x, *pairs, (0.5, 0.9), batch_statistics=True)
    for one in features:  # every ratio is a batch of its own
        assert one.mean().item() == pytest.approx(0, abs=1e-5)
        assert one.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert m.blend_features(net, x, *pairs, (0.5,)).mean().item() > 4
    assert not net[0].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# ------------------------------------------------------------------------------------------------------------- collapse


def test_nc1_by_its_definition_and_its_zero():
    labels = torch.arange(4).repeat(50)
    means = torch.randn(4, 6, generator=seeded(), dtype=torch.float64)
    noise = torch.randn(200, 6, generator=seeded(1), dtype=torch.float64)
    h = means[labels] + 0.1 * noise
    x = h.numpy()
    mu = np.stack([x[labels == c].mean(0) for c in range(4)])
    within = np.mean([np.outer(row - mu[c], row - mu[c]) for row, c in zip(x, labels, strict=True)], axis=0)
    between = np.mean([np.outer(one - mu.mean(0), one - mu.mean(0)) for one in mu], axis=0)
    assert m.nc1(h, labels) == pytest.approx(np.trace(within @ np.linalg.pinv(between)) / 4)
    assert m.nc1(means[labels], labels) == pytest.approx(0, abs=1e-12)
    # four times the noise variance, nearly: the means take part of the noise
    assert m.nc1(means[labels] + 0.2 * noise, labels) / m.nc1(h, labels) == pytest.approx(4, rel=0.2)


def test_etf_distance_is_zero_for_an_etf_only():
    etf = m.simplex_etf(10, 3.0) @ random_turn(12)[:10]
    assert m.etf_distance(etf + 5) == pytest.approx(0, abs=1e-12)  # scaled, turned, shifted
    assert m.etf_distance(torch.eye(10)) == pytest.approx(0, abs=1e-6)  # orthogonal rows, once centred
    lopsided = etf.clone()
    lopsided[0] *= 2
    assert m.etf_distance(lopsided) > 0.2


def test_alignment_sees_what_the_classifier_sees():
    w = m.simplex_etf(4) @ random_turn(9)[:4]
    labels = torch.arange(4).repeat(3)
    unseen = torch.randn(12, 5, generator=seeded(), dtype=torch.float64) @ random_turn(9)[4:]
    assert m.alignment(2 * w[labels] + unseen, labels, w + 1.0) == pytest.approx(1)
    assert m.alignment(-w[labels], labels, w) == pytest.approx(-1)
    assert m.alignment(w[(labels + 1) % 4], labels, w) == pytest.approx(-1 / 3)


# ------------------------------------------------------------------------------------------------ networks, calibration


def test_a_fixed_classifier_is_an_etf_and_is_not_trained():
    torch.manual_seed(0)
    net = m.linear_feature_net(1, 28, 10)
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10) and net[:-1](torch.zeros(2, 1, 28, 28)).shape == (2, 32)
    assert net[:-1](torch.randn(50, 1, 28, 28, generator=seeded())).min() < 0  # no ReLU at the end
    assert m.etf_distance(net[-1].weight.detach()) > 0.1
    m.fix_classifier(net, 1.5, seeded())
    w = net[-1].weight
    assert m.etf_distance(w.detach()) < 1e-6 and not w.requires_grad
    torch.testing.assert_close(w.norm(dim=1), torch.full((10,), 1.5))
    torch.testing.assert_close(w.sum(0), torch.zeros(32), atol=1e-5, rtol=0)


def test_calibration_error_is_what_scikit_learns_curve_gives():
    g = seeded()
    p = (3 * torch.randn(2000, 10, generator=g)).softmax(1).double()
    y = torch.randint(10, (2000,), generator=g)
    y = torch.where(torch.rand(2000, generator=g) < 0.5, p.argmax(1), y)
    confidence, correct = p.max(1).values.numpy(), (p.argmax(1) == y).numpy()
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15)
    counts = np.histogram(confidence, bins=np.linspace(0, 1, 16))[0]
    expected = 100 * (counts[counts > 0] / 2000 * np.abs(accuracy - mean)).sum()
    assert metrics.calibration_error(p, y) == pytest.approx(expected)
