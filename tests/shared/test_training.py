"""The training loop: batches, schedules, averaging, custom steps, errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import device, training


@pytest.fixture
def table():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=g)
    return x, (x @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0]) > 0).long()


def linear(seed=0, out=2):
    with device.fork(seed):
        return nn.Linear(5, out)


def test_minibatches_visit_everything_once_in_a_seeded_order():
    parts = list(training.minibatches(10, 4, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    again = list(training.minibatches(10, 4, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.cat(parts), torch.cat(again))
    assert [len(p) for p in training.minibatches(10, 4, torch.Generator().manual_seed(0), drop_last=True)] == [4, 4]


def test_learning_rate_schedules():
    assert training.lr_factor(0, 100, "cosine") == 1
    assert training.lr_factor(50, 100, "cosine") == pytest.approx(0.5)
    assert training.lr_factor(100, 100, "cosine") == pytest.approx(0)
    assert training.lr_factor(25, 100, "linear") == 0.75
    assert training.lr_factor(99, 100, "constant") == 1
    assert [training.lr_factor(i, 10, "constant", warmup=4) for i in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    with pytest.raises(ValueError, match="no schedule 'step'.*constant, linear, cosine"):
        training.lr_factor(0, 1, "step")


def test_plain_sgd_matches_the_update_written_out(table):
    x, y = table
    net, twin = linear(), linear()
    training.fit(net, x, y, epochs=1, batch_size=len(x), lr=0.1, momentum=0, schedule="constant")
    F.cross_entropy(twin(x), y).backward()
    assert torch.allclose(net.weight, twin.weight - 0.1 * twin.weight.grad, atol=1e-7)


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_classification_learns(table, optimizer):
    x, y = table
    net = linear()
    losses = training.fit(net, x, y, epochs=20, batch_size=50, lr=0.05, optimizer=optimizer)
    assert losses[-1] < losses[0]
    assert training.accuracy(net, x, y) > 93


def test_regression_with_several_inputs():
    x = torch.randn(200, 5)
    target = x.sum(1, keepdim=True)

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = linear(out=1)

        def forward(self, parts):
            return self.layer(torch.cat(parts, 1))

    net = Sum()
    losses = training.fit(net, (x[:, :2], x[:, 2:]), target, loss=F.mse_loss, epochs=60, batch_size=20, lr=0.05)
    assert losses[-1] < 1e-3
    assert training.predict(net, (x[:, :2], x[:, 2:]), batch_size=64).shape == (200, 1)


def test_the_order_of_batches_does_not_depend_on_what_an_arm_draws(table):
    x, y = table
    seen = {}

    def run(draws):
        seen[draws] = []

        def batch(xb, yb, g):
            torch.rand(draws + 1, generator=g)
            torch.rand(draws + 1)
            seen[draws].append(xb)
            return xb, yb

        training.fit(linear(), x, y, epochs=2, batch_size=64, lr=0.1, seed=3, batch=batch)

    run(0), run(5)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[5], strict=True))


def test_a_custom_step_gets_the_network_and_replaces_the_loss(table):
    x, y = table
    net = linear()
    before = net.weight.clone()
    losses = training.fit(net, x, y, epochs=2, batch_size=100, lr=0.1, step=lambda n, xb, yb, g: 0 * n(xb).sum())
    assert losses == [0, 0]
    assert torch.equal(net.weight, before)


def test_gradient_clipping_bounds_the_step(table):
    x, y = table
    net = linear()
    before = net.weight.clone(), net.bias.clone()
    training.fit(net, 1000 * x, y, epochs=1, batch_size=300, lr=1.0, momentum=0, schedule="constant", grad_clip=0.01)
    moved = math.hypot((net.weight - before[0]).norm().item(), (net.bias - before[1]).norm().item())
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_exponential_moving_average_of_one_step(table):
    x, y = table
    plain, averaged = linear(), linear()
    options = dict(epochs=2, batch_size=300, lr=0.5, momentum=0, schedule="constant")
    steps = []
    training.fit(plain, x, y, **options, on_epoch=lambda *_: steps.append(plain.weight.detach().clone()))
    training.fit(averaged, x, y, **options, ema=0.9)
    assert torch.allclose(averaged.weight, 0.9 * steps[0] + 0.1 * steps[1], atol=1e-6)


def test_autocast_trains_in_low_precision(table):
    x, y = table
    kinds = set()

    def step(net, xb, yb, g):
        logits = net(xb)
        kinds.add(logits.dtype)
        return F.cross_entropy(logits.float(), yb)

    training.fit(linear(), x, y, epochs=1, batch_size=100, lr=0.1, step=step, autocast=torch.bfloat16)
    assert kinds == {torch.bfloat16}


def test_a_diverged_run_says_so(table):
    x, y = table
    with pytest.raises(FloatingPointError, match="loss is (nan|inf).*lower lr"):
        training.fit(
            linear(),
            1e20 * x,
            y.float(),
            loss=lambda p, t: (p[:, 0] - t).pow(2).mean(),
            epochs=3,
            batch_size=50,
            lr=1e3,
        )


def test_predict_leaves_the_mode_and_equals_the_evaluation_pass(table):
    x, _ = table
    net = nn.Sequential(linear(), nn.Dropout(0.5)).train()
    out = training.predict(net, x, batch_size=7)
    assert net.training
    assert torch.allclose(out, net[0](x))
    assert not out.requires_grad


def test_unknown_optimizer(table):
    with pytest.raises(ValueError, match="no optimizer 'lion'"):
        training.fit(linear(), *table, epochs=1, batch_size=10, lr=0.1, optimizer="lion")
