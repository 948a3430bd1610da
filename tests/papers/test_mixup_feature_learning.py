"""Mixup and features: all-pairs loss and training against NumPy, growth rates, the planted data, pages, the switch."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared import device, mixing, tasks
from tests.notebooks import load_method

m = load_method("mixing/mixup-feature-learning")
MODEL = SimpleNamespace(patches=4, decoys=1, decoy=0.4, dim=9)


@pytest.fixture(scope="module")
def points():
    made = m.planted(8, 2, 2.0, MODEL, device.generator(0))
    return m.Points(made.x.double(), made.y, made.rare)


@pytest.fixture(scope="module")
def weights():
    return 0.4 * torch.randn(2, 3, 9, generator=device.generator(1), dtype=torch.float64)


def numpy_loss_and_slope(w, x, y, ratio_x, ratio_y):
    """Mean cross-entropy of all mixtures and its gradient, pair by pair, without Gram matrices."""
    loss, slope, n = 0.0, np.zeros_like(w), len(y)
    for i, j in itertools.product(range(n), repeat=2):
        patches = ratio_x * x[i] + (1 - ratio_x) * x[j]  # (P, d)
        target = ratio_y * np.eye(2)[y[i]] + (1 - ratio_y) * np.eye(2)[y[j]]
        inner = np.einsum("kmd,pd->kmp", w, patches)
        outputs = (inner**2).sum((1, 2))
        p = np.exp(outputs - outputs.max())
        p /= p.sum()
        loss -= (target * np.log(p)).sum() / n**2
        slope += np.einsum("k,kmp,pd->kmd", p - target, 2 * inner, patches) / n**2
    return loss, slope


RATIOS = [(0.7, 0.7), (0.6, 0.9), (1.0, 1.0), (0.7, 1.0), (1.0, 0.7)]


@pytest.mark.parametrize("pair", RATIOS)
def test_loss_and_gradient_agree_with_numpy(points, weights, pair):
    loss, slope = numpy_loss_and_slope(weights.numpy(), points.x.numpy(), points.y.numpy(), *pair)
    assert m.pair_loss(weights, points.x, points.y, *pair).item() == pytest.approx(loss, rel=1e-7)
    ours, residual = m.gradient(weights, points.x, m.pair_targets(points.y, pair[1]).double(), pair[0])
    assert np.allclose(ours.numpy(), slope, rtol=1e-6, atol=1e-9)
    assert residual.shape == (2, 8, 8)


def test_training_with_a_switch_agrees_with_numpy(points, weights):
    w, seen = weights.numpy().copy(), []
    for pair in 3 * [(0.7, 0.7)] + 4 * [(1.0, 1.0)]:
        w = w - 0.5 * numpy_loss_and_slope(w, points.x.numpy(), points.y.numpy(), *pair)[1]
    ours = m.descend(weights, points, (0.7, 0.7, 3), 0.5, lambda w, residual: seen.append(residual))
    ours = m.descend(ours, points, (1.0, 1.0, 4), 0.5)
    assert np.allclose(ours.numpy(), w, atol=1e-6)
    assert len(seen) == 3


def test_every_arm_trains_for_the_same_number_of_steps_and_stops_mixing_where_it_says():
    steps = m.regime.steps // 2 + 2 * (m.regime.steps // 4)
    arms = {arm: m.phases(arm) for arm in ("vanilla", "Mixup", "Mixup until 50%", "Mixup until 75%", "labels only")}
    assert all(sum(phase[2] for phase in phases) == steps for phases in arms.values())
    mixed = {arm: sum(phase[2] for phase in phases if phase[0] < 1) / steps for arm, phases in arms.items()}
    assert mixed["vanilla"] == mixed["labels only"] == 0 and mixed["Mixup"] == 1
    assert mixed["Mixup until 50%"] == pytest.approx(0.5, abs=0.01)
    assert mixed["Mixup until 75%"] == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("ratio", [0.55, 0.7, 0.9])
def test_equal_ratios_are_symmetric_and_bounded_by_the_entropy_of_labels(points, weights, ratio):
    args = points.x, points.y
    assert torch.isclose(m.pair_loss(weights, *args, ratio, ratio), m.pair_loss(weights, *args, 1 - ratio, 1 - ratio))
    entropy = -(ratio * np.log(ratio) + (1 - ratio) * np.log(1 - ratio))
    assert all(m.pair_loss(scale * weights, *args, ratio, ratio) > entropy / 2 for scale in (0, 0.3, 1, 3))


@pytest.mark.parametrize("pair", RATIOS)
def test_growth_rates_are_the_quadratic_form_of_the_linearised_gradient(points, pair):
    x, y = points.x.numpy(), points.y.numpy()
    directions = np.vstack([np.eye(9)[:4], x[0][1], np.ones(9)])
    for k in (0, 1):
        h = np.zeros((9, 9))
        for i, j in itertools.product(range(8), repeat=2):
            patches = pair[0] * x[i] + (1 - pair[0]) * x[j]
            h += (pair[1] * (y[i] == k) + (1 - pair[1]) * (y[j] == k) - 0.5) * patches.T @ patches / 64
        expected = np.einsum("fd,de,fe->f", directions, h, directions) / (directions**2).sum(1)
        ours = m.growth_rates(points, *pair, torch.tensor(directions), k)
        assert np.allclose(ours.numpy(), expected, atol=1e-9)


def test_planted_points_have_one_feature_one_decoy_and_noise_elsewhere():
    made = m.planted(400, 20, 5.0, SimpleNamespace(patches=5, decoys=2, decoy=0.4, dim=300), device.generator(2))
    features, rest = made.x[..., :4], made.x[..., 4:]
    full = (features == 1).nonzero()
    assert torch.equal(full[:, 0], torch.arange(400))  # exactly one in each point
    assert torch.equal(full[:, 2], made.y + 2 * made.rare)
    assert ((features > 0) & (features < 1)).sum((1, 2)).eq(2).all() and not (features[..., 2:] == 0.4).any()
    decoy = (features[..., :2] == 0.4).nonzero()
    assert abs((decoy[:, 2] == made.y[decoy[:, 0]]).double().mean() - 0.5) < 0.1  # it says nothing about the class
    noisy = (features == 0).all(-1)
    assert noisy.sum(1).eq(2).all() and (rest[~noisy] == 0).all()
    assert rest[noisy].square().sum(1).mean() == pytest.approx(5.0, rel=0.03)
    assert made.rare.sum() == 20 and made.y[made.rare].sum() == 10 and made.y.sum() == 200
    assert full[:, 1].bincount().min() > 50  # the feature may be in any patch


def test_strengths_add_up_to_the_network_output(weights):
    x = torch.zeros(1, 4, 9, dtype=torch.float64)
    x[0, 0, 2], x[0, 3, 0] = 1.0, 0.5
    known = m.strengths(weights, torch.eye(9, dtype=torch.float64)[:4])
    assert torch.allclose(m.logits(weights, x)[:, 0], known[:, 2] + 0.25 * known[:, 0])


def test_mix_batch_is_the_mixup_of_the_shared_code_bit_for_bit():
    x, y = torch.randn(10, 3, 5, 5), torch.arange(10) % 4
    shared = mixing.mixup(x, 1.0, device.generator(7))
    ours = m.mix_batch(x, y, 4, m.equal, device.generator(7))
    assert torch.equal(ours[0], shared.x) and torch.equal(ours[1], shared.targets(y, 4))


def test_ratios_of_inputs_and_labels_may_differ():
    x, y = torch.eye(6)[:, None, None], torch.arange(6)
    mixed, targets = m.mix_batch(x, y, 6, m.fixed(0.6, 0.8), device.generator(8))
    moved = targets.argmax(1) != mixed[:, 0, 0].argsort(1)[:, -2]
    assert torch.allclose(mixed[moved].amax((1, 2, 3)), torch.tensor(0.6))
    assert torch.allclose(targets[moved].amax(1), torch.tensor(0.8))
    assert torch.equal(mixed[:, 0, 0].argmax(1), y) and torch.equal(targets.argmax(1), y)
    draws = np.array([[part.item() for part in m.unequal(g)] for g in [device.generator(9)] for _ in range(3000)])
    assert draws.min() >= 0.5 and draws.mean(0) == pytest.approx([0.75, 0.75], abs=0.01)
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.06
    same = [part.item() for part in m.equal(device.generator(9))]
    assert same[0] == same[1]


def test_training_with_the_switch_after_all_batches_is_mixup_and_after_none_is_plain():
    task, _ = m.page_task(3, train=80, validation=20, test=20, epochs=1)

    def trained(mix):
        net = m.patch_network(task, 3)
        tasks.fit(task, net, 3, mix=mix)
        return torch.nn.utils.parameters_to_vector(net.parameters())

    def plain_mixup(x, y, generator):
        mixed = mixing.mixup(x, 1.0, generator)
        return mixed.x, mixed.targets(y, 2)

    whole, none = (trained(m.switched(m.equal, share, 2, 2)) for share in (1.0, 0.0))
    assert torch.equal(whole, trained(plain_mixup)) and torch.equal(none, trained(None))
    assert not torch.equal(whole, none) and not torch.equal(trained(m.switched(m.equal, 0.5, 2, 2)), whole)


def test_braille_cells_have_the_same_dots_mirrored():
    five, nine = m.braille(torch.tensor([0, 1]))
    assert five.shape == (14, 14) and five.sum() == nine.sum() == 8
    assert torch.equal(five.flip(1), nine) and not torch.equal(five, nine)
    # dots 1 and 5 of the cell: top left and the middle of the right column
    assert torch.equal(five.nonzero()[[0, -1]], torch.tensor([[2, 4], [7, 9]]))


def test_pages_of_a_seed():
    task, (train, validation, test) = m.page_task(5)
    (x, y), (tx, ty) = task.train, task.test
    assert x.shape == (400, 1, 28, 28) and train.sum() == 20 and y[train].sum() == 10 and y.sum() == 200
    assert len(tx) == 3200 and test.sum() == 1600 and ty[test].sum() == 800 and len(validation) == 1600
    ink = x * task.scale + task.centre
    tiles = ink.view(400, 2, 14, 2, 14).permute(0, 1, 3, 2, 4).reshape(400, 4, 14, 14)
    cells = m.braille(y)
    seen = (tiles - cells[:, None]).abs().amax((2, 3)).amin(1) < 1e-4
    assert torch.equal(
        seen, train
    )  # exactly the pages that say so have a tile with the cell of their class, and no ink else
    again, _ = m.page_task(5)
    assert torch.equal(again.test[0], tx) and not torch.equal(m.page_task(6)[0].train[0], x)


def test_the_patch_network_does_not_care_where_a_tile_is():
    task, _ = m.page_task(3, train=80, validation=20, test=20)
    net, x = m.patch_network(task, 3), task.test[0][:16]
    tiles = x.view(16, 2, 14, 2, 14).permute(1, 3, 0, 2, 4).reshape(4, 16, 1, 14, 14)
    moved = torch.cat([torch.cat([tiles[2], tiles[0]], 3), torch.cat([tiles[3], tiles[1]], 3)], 2)
    assert torch.allclose(net(x), net(moved), atol=1e-5) and not torch.allclose(net(x), net(x.flip(3)), atol=1e-3)
    assert F.cross_entropy(net(x), task.test[1][:16]).isfinite()
