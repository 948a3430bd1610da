"""AdaMixUp: regions and draws, the joint loss against plain mixup and by hand, intrusions against scikit-learn."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import nn

from shared import data, device, mixing, tasks
from tests.notebooks import load_method

m = load_method("mixing/adamixup")


def standardised(name):
    """A table's rows (N, d) float32 and labels (N,)."""
    table = data.load(name)
    x = torch.tensor(table.x, dtype=torch.float32)
    return (x - x.mean(0)) / x.std(0), torch.tensor(table.y)


def small(policy=None, folds=2, inputs=4, classes=3):
    """A model with a small trunk; its policy is a function of (groups, generator) or None."""
    with device.fork(0):
        net = nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, classes))
        return m.AdaMixUp(net, policy, folds)


def always(*logits):
    """A policy with the same logits for all groups."""
    return lambda groups, generator: torch.tensor([logits]).expand(len(groups), -1)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(64, 4, generator=g), torch.randint(3, (64,), generator=g)


def test_zero_logits_give_a_third_each():
    least, size = m.region(torch.zeros(2, 3))
    assert least.tolist() == [[pytest.approx(1 / 3)] * 2] * 2
    assert size.tolist() == [[pytest.approx(1 / 3)]] * 2


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_weights_stay_in_their_region(folds):
    g = torch.Generator().manual_seed(1)
    least, size = m.region(3 * torch.randn(20_000, folds + 1, generator=g))
    weights = least + size * m.simplex_points(20_000, folds, g)
    assert torch.allclose(weights.sum(1), torch.ones(20_000), atol=1e-5)
    assert (weights >= least).all() and (weights <= least + size + 1e-6).all()


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_simplex_points_have_the_moments_of_a_flat_dirichlet(folds):
    points = m.simplex_points(200_000, folds, torch.Generator().manual_seed(0)).double()
    dirichlet = torch.distributions.Dirichlet(torch.ones(folds))
    assert torch.allclose(points.mean(0), dirichlet.mean.double(), atol=3e-3)
    assert torch.allclose(points.var(0), dirichlet.variance.double(), atol=2e-3)
    covariance = -1 / (folds**2 * (folds + 1))
    assert torch.cov(points.T)[0, 1] == pytest.approx(covariance, abs=2e-3)


def test_ratio_is_uniform_on_its_interval_and_differentiable_as_written():
    shares = torch.tensor([[0.2, 0.3, 0.5]])  # alpha, alpha', Delta
    least, size = m.region(shares.log().expand(50_000, -1).clone().requires_grad_())
    epsilon = m.simplex_points(50_000, 2, torch.Generator().manual_seed(0))[:, 0]
    gamma = least[:, 0] + size[:, 0] * epsilon
    assert gamma.min().item() == pytest.approx(0.2, abs=1e-3)
    assert gamma.max().item() == pytest.approx(0.7, abs=1e-3)
    assert gamma.mean().item() == pytest.approx(0.45, abs=3e-3)
    to_least, to_size = torch.autograd.grad(gamma.sum(), (least, size))
    assert torch.equal(to_least, torch.tensor([[1.0, 0.0]]).expand(50_000, -1))
    assert torch.equal(to_size[:, 0], epsilon)


def test_partners_are_the_sample_itself_and_permutations():
    rows = m.choose_partners(50, 3, torch.Generator().manual_seed(0))
    assert rows.shape == (50, 3)
    assert torch.equal(rows[:, 0], torch.arange(50))
    assert torch.equal(rows.sort(0).values, torch.arange(50)[:, None].expand(-1, 3))
    assert not torch.equal(rows[:, 1], rows[:, 2])


def test_two_fold_mixtures_are_mixups():
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(9, 3, 5, 5, generator=g), torch.randint(4, (9,), generator=g)
    rows, points = m.choose_partners(9, 2, g), m.simplex_points(9, 2, g)
    assert torch.allclose(m.combine(x, rows, points), mixing.blend(x, rows[:, 1], points[:, 0]), atol=1e-6)
    labels = m.combine(F.one_hot(y, 4).float(), rows, points)
    assert torch.allclose(labels, mixing.soft_labels(y, rows[:, 1], points[:, 0], 4), atol=1e-6)


def test_three_fold_mixture_by_hand():
    x = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    mixed = m.combine(x, torch.tensor([[0, 1, 2], [2, 2, 1]]), torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]))
    assert torch.allclose(mixed, torch.tensor([[0.3, 0.2], [0.7, 0.3]]))


@pytest.mark.parametrize("policy", [always(-60.0, -60.0, 60.0), None], ids=["forced", "no policy"])
def test_forced_policy_is_mixup_on_plain_and_mixed_samples(batch, policy):
    x, y = batch
    model = small(policy)
    loss = m.losses(model, x, y, torch.Generator().manual_seed(5))[0]
    g = torch.Generator().manual_seed(5)
    rows, points = m.choose_partners(64, 2, g)[:32], m.simplex_points(32, 2, g)
    half = mixing.Mixture(None, rows[:, 1], points[:, 0])
    inputs = points[:, :1] * x[:32] + points[:, 1:] * x[half.partner]
    log = model(inputs).log_softmax(1)
    mixed = -(points[:, 0] * log[range(32), y[:32]] + points[:, 1] * log[range(32), y[half.partner]]).mean()
    assert loss.item() == pytest.approx(((mixed + F.cross_entropy(model(x), y)) / 2).item(), abs=1e-6)


def test_rival_and_forced_policy_agree_on_average(batch):
    """Half of the batch mixed by the shared mixup, weighted half and half, is what the forced policy trains on."""
    x, y = batch
    net = small()

    def rival(seed):
        mixture = mixing.mixup(x, 1.0, torch.Generator().manual_seed(seed), per_sample=True)
        return m.classification_loss(net(m.together(mixture.x[:32], x)), mixture.targets(y, 3)[:32], y).item()

    forced = [m.losses(net, x, y, torch.Generator().manual_seed(seed))[0].item() for seed in range(400)]
    theirs = [rival(seed) for seed in range(400)]
    error = math.hypot(np.std(forced), np.std(theirs)) / math.sqrt(400)
    assert np.mean(forced) == pytest.approx(np.mean(theirs), abs=4 * error)


def test_intrusion_loss_by_hand_and_its_level_of_chance(batch):
    x, y = batch
    model = small(always(60.0, -60.0, -60.0))  # mixtures are the samples themselves
    nn.init.zeros_(model.discriminator.weight)
    nn.init.constant_(model.discriminator.bias, math.log(2))  # "real" with probability 2/3
    chance = -2 / 3 * math.log(2 / 3) - 1 / 3 * math.log(1 / 3)
    assert m.losses(model, x, y, torch.Generator().manual_seed(0))[1].item() == pytest.approx(chance, abs=1e-5)
    nn.init.constant_(model.discriminator.bias, 3.0)
    expected = 2 / 3 * math.log1p(math.exp(-3)) + 1 / 3 * math.log1p(math.exp(3))
    assert m.losses(model, x, y, torch.Generator().manual_seed(0))[1].item() == pytest.approx(expected, abs=1e-5)


def test_one_sum_trains_all_parts(batch):
    x, y = batch
    policy = m.Policy(nn.Sequential(nn.Linear(8, 6), nn.ReLU()), 6, 2, 1 / 3, noisy_average=False)
    model = small(policy)
    classification, intrusion = m.losses(model, x, y, torch.Generator().manual_seed(0))
    (classification + intrusion).backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in model.parameters())


def test_policy_is_cooperative(batch):
    """A step of the policy down its own gradient lowers the discriminator's loss: there is no reversal."""
    x, y = batch
    logits = torch.zeros(32, 3, requires_grad=True)
    model = small(lambda groups, generator: logits)
    nn.init.normal_(model.discriminator.weight, generator=torch.Generator().manual_seed(1))
    intrusion = m.losses(model, x, y, torch.Generator().manual_seed(0))[1]
    intrusion.backward()
    with torch.no_grad():
        logits -= 5 * logits.grad
    assert m.losses(model, x, y, torch.Generator().manual_seed(0))[1] < intrusion


def test_classification_alone_prefers_not_to_mix():
    """For a classifier that is sure of its samples, the plain end of the interval costs least."""
    x = torch.eye(3).repeat(20, 1) * 4
    y = torch.arange(3).repeat(20)
    net = nn.Sequential(nn.Identity(), nn.Linear(3, 3, bias=False))
    nn.init.eye_(net[1].weight)
    means = []
    for logits in ((0.0, 0.0, 0.0), (9.0, 0.0, 0.0)):
        model = m.AdaMixUp(net, always(*logits))
        means.append(m.losses(model, x, y, torch.Generator().manual_seed(0))[0].item())
    assert means[1] < means[0]


@pytest.mark.parametrize(("folds", "start"), [(2, 1 / 3), (2, 0.9), (3, 0.5)])
def test_policy_starts_with_the_given_size(folds, start):
    policy = m.Policy(nn.Flatten(), 5 * folds, folds, start, noisy_average=False)
    nn.init.zeros_(policy.head.weight)
    least, size = m.region(policy(torch.randn(7, folds, 5), torch.Generator()))
    assert torch.allclose(size, torch.full((7, 1), start))
    assert torch.allclose(least, torch.full((7, folds), (1 - start) / folds))


def test_policy_sees_the_order_of_a_pair():
    with device.fork(0):
        policy = m.Policy(nn.Sequential(nn.Linear(4, 16), nn.ReLU()), 16, 2, 1 / 3, noisy_average=False)
        nn.init.normal_(policy.head.weight)
    pairs = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(policy(pairs, None), policy(pairs.flip(1), None))


def test_noisy_average_is_fresh_and_truncated():
    policy = m.Policy(nn.Flatten(), 12, 2, 1 / 3, noisy_average=True)
    nn.init.normal_(policy.head.weight, generator=torch.Generator().manual_seed(0))
    g, images = torch.Generator().manual_seed(0), torch.ones(4, 2, 3, 2, 2)
    assert not torch.equal(policy(images, g), policy(images, g))
    noise = m.truncated_normal(torch.empty(200_000), g)
    assert noise.abs().max() <= 2
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * 2 * density / math.erf(2 / math.sqrt(2))
    assert noise.var().item() == pytest.approx(variance, rel=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)


def intrusions_by_sklearn(mixed, targets, x, y, count=5):
    """Equation (2) once more, with scikit-learn's neighbours and NumPy: (N,) bool."""
    finder = NearestNeighbors(n_neighbors=count, algorithm="kd_tree").fit(x)
    reach = np.quantile(finder.kneighbors()[0][:, -1], 0.9)  # without arguments: a row is not its own neighbour
    distances, rows = finder.kneighbors(mixed)
    histogram = np.stack([(y[rows] == c).mean(1) for c in range(targets.shape[1])], 1)
    return (distances[:, -1] <= reach) & (0.5 * np.abs(targets - histogram).sum(1) > 0.5 + 1e-6)


@pytest.mark.parametrize(
    ("name", "alpha", "rate"),
    [("banana", 1.0, 0.234), ("banana", 0.2, 0.129), ("twonorm", 1.0, 0.019)],
)
def test_intrusions_are_those_of_sklearns_neighbours(name, alpha, rate):
    x, y = standardised(name)
    some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:2000]
    mixture = mixing.mixup(x[some], alpha, torch.Generator().manual_seed(1), per_sample=True)
    targets = mixture.targets(y[some], 2)
    ours = m.intrudes(mixture.x, targets, x, y, m.usual_reach(x))
    theirs = intrusions_by_sklearn(mixture.x.numpy(), targets.numpy(), x.numpy(), y.numpy())
    assert (ours.numpy() != theirs).mean() <= 0.002  # ties at equal distances
    assert ours.double().mean().item() == pytest.approx(rate, abs=0.03)


def test_banana_is_not_the_truncated_array():
    assert len(np.unique(data.load("banana").x[:, 0])) > 1000


def test_intrusions_by_hand():
    x = torch.cat([torch.linspace(c - 0.3, c + 0.3, 7) for c in (0.0, 1.0, 2.0)])[:, None]
    y = torch.tensor([0] * 7 + [1] * 7 + [0] * 7)
    points = torch.tensor([[1.0], [0.0], [0.5], [1.0], [1.0]])
    labels = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0.5, 0.5], [0.52, 0.48]])
    assert m.intrudes(points, labels, x, y, m.usual_reach(x)).tolist() == [True, False, False, False, True]
    # all but the outermost two of the 21 samples have five others within 0.4
    assert m.usual_reach(x).item() == pytest.approx(0.4, abs=1e-5)


def test_loss_on_images_is_that_of_channels_last_batches():
    task = SimpleNamespace(centre=torch.zeros(3, 1, 1), classes=list(range(10)), recipe=tasks.RECIPES["cifar10"])
    net = tasks.network(task, 0)
    body = tasks.network(task, 1)[:-1]
    policy = m.Policy(body, net[-1].in_features, 2, 1 / 3, noisy_average=True)
    x, y = torch.randn(6, 3, 16, 16), torch.arange(6)
    classification, intrusion = m.losses(m.AdaMixUp(net, policy), x, y, torch.Generator().manual_seed(0))
    assert 1 < classification.item() < 6 and 0.3 < intrusion.item() < 1.5
    (classification + intrusion).backward()
    assert policy.body[0].weight.grad.norm() > 0
