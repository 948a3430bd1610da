"""DAIN: influences, entity importance, new cells, pairing of the arms, the bias model; peers: captum, scikit-learn."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from shared import device
from tests.notebooks import load_method

m = load_method("graphs/dain")
SHAPE = (12, 15, 4)
RECIPE = m.Recipe(embedding=8, hidden=(32, 16), batch_size=32, epochs=6, patience=3, dropout=0.2, centred=True)


def toy_cells(count, seed):
    """Random cells of a small tensor whose values depend on the user; the last entity of each mode has none."""
    g = device.generator(seed)
    index = torch.stack([torch.randint(n - 1, (count,), generator=g) for n in SHAPE], 1)
    return m.Cells(index, 3 + index[:, 0].remainder(3) + 0.3 * torch.randn(count, generator=g))


TRAIN, VALID = toy_cells(200, 0), toy_cells(60, 1)


def autograd_influence(net, train, valid):
    """A quarter of the sum over validation cells of the dot products of autograd's gradients of w: (n_train,)."""
    net = net.eval()

    def loss(weight, index, value):
        parts = dict(net.named_parameters()) | {"output.weight": weight}
        return (torch.func.functional_call(net, parts, (index[None],))[0] - value).square()

    slopes = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    weight = net.output.weight.detach()
    of_train, of_valid = (slopes(weight, *cells).flatten(1) for cells in (train, valid))
    return (of_train @ of_valid.T).sum(1) / 4


def test_worked_example():
    e, z = torch.tensor([0.5]), torch.tensor([[1.0, 2.0]])
    assert m.influence((e, z), (torch.tensor([-1.0, 0.25]), torch.eye(2))).tolist() == [-0.25]


def test_influence_agrees_with_captum():
    """TracInCP of captum 0.9.0, layers=["output"], nn.MSELoss(reduction="none"), two checkpoints with rate 1, summed
    over the test rows: four times ours, since ours leaves out the factor 2 of both gradients."""
    x, y = torch.arange(15.0).double().mul(1.7).sin().reshape(5, 3), torch.arange(5.0).double().cos()
    x_valid, y_valid = torch.arange(9.0).double().mul(2.3).cos().reshape(3, 3), torch.arange(1.0, 4.0).double().sin()
    total = torch.zeros(5, dtype=torch.double)
    for k in (0, 1):
        hidden = (torch.arange(12.0).double() + k).sin().reshape(4, 3), (torch.arange(4.0).double() - k).cos()
        w = (2 * torch.arange(4.0).double() + k).sin()
        z, z_valid = (nn.functional.linear(part, *hidden).relu() for part in (x, x_valid))
        total += m.influence((z @ w - y, z), (z_valid @ w - y_valid, z_valid))
    peer = [6.553802486980787, 3.279175619522059, -7.4895705064477935, -7.338310299121181, -1.7050889777525529]
    assert (4 * total).tolist() == pytest.approx(peer, rel=1e-12)


def test_influence_is_summed_over_epochs_at_their_end():
    total = torch.zeros(200)
    for epochs in (1, 2, 3):
        fit = m.fit(SHAPE, TRAIN, VALID, dataclasses.replace(RECIPE, epochs=epochs), 0, trace=True)
        assert fit.epoch == epochs  # the error falls, so this is the network at the end of the epoch
        total += autograd_influence(fit.net, TRAIN, VALID)
        torch.testing.assert_close(fit.influence, total, rtol=1e-3, atol=1e-2)
        assert fit.error == pytest.approx(m.rmse(m.training.predict(fit.net, VALID.index), VALID.value), rel=1e-5)


def test_stops_early_and_keeps_the_best_epoch():
    recipe = dataclasses.replace(RECIPE, epochs=200, lr=0.02, dropout=0.0)
    noisy = m.Cells(TRAIN.index, torch.randn(200, generator=device.generator(3)))
    fit = m.fit(SHAPE, noisy, VALID._replace(value=0 * VALID.value), recipe, 0, trace=True)
    short = m.fit(SHAPE, noisy, VALID._replace(value=0 * VALID.value), dataclasses.replace(recipe, epochs=fit.epoch), 0,
                  trace=True)  # fmt: skip
    assert fit.epoch < 150
    assert torch.equal(fit.influence, short.influence)
    assert torch.equal(fit.net.output.weight, short.net.output.weight)
    assert fit.error == pytest.approx(m.rmse(m.training.predict(fit.net, VALID.index), 0), rel=1e-5)


def test_network_is_the_formula():
    net = m.CompletionNet(SHAPE, RECIPE, mean=3.5).eval()
    assert net.output.bias.item() == 3.5
    index = TRAIN.index[:7]
    h = torch.cat([net.tables[n].weight[index[:, n]] for n in range(3)], 1)
    for layer in (net.mlp[1], net.mlp[4]):
        h = (h @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(net.features(index), h)
    torch.testing.assert_close(net(index), h @ net.output.weight[0] + 3.5)


def test_recipe_sets_the_start():
    with device.fork(0):
        wide = m.CompletionNet((2000,), m.Recipe(), mean=3.5)
    with device.fork(0):
        small = m.CompletionNet((2000,), m.Recipe(scale=0.03), mean=3.5)
    assert wide.tables[0].weight.std().item() == pytest.approx(1, rel=0.02) and wide.output.bias.abs().item() < 0.1
    torch.testing.assert_close(small.tables[0].weight, 0.03 * wide.tables[0].weight)
    assert [layer.out_features for layer in wide.mlp if isinstance(layer, nn.Linear)] == [1024, 1024, 128]


def test_entity_importance():
    index = torch.tensor([[0, 2], [0, 1], [2, 1]])
    alpha = m.entity_importance(index, torch.tensor([1.0, 2.0, 5.0]), (4, 3))
    assert alpha[0].tolist() == [3 / 8, 0, 5 / 8, 0]
    assert alpha[1].tolist() == [0, 7 / 8, 1 / 8]


def test_places_of_each_kind():
    weights = torch.zeros(200)
    weights[[3, 7]] = torch.tensor([-1.0, 3.0])
    g = device.generator(0)
    drawn = m.new_index("DAIN", TRAIN, weights, SHAPE, 20_000, g)
    for mode in range(3):
        a, b = TRAIN.index[[3, 7], mode].tolist()
        share = (drawn[:, mode] == a).double().mean().item()
        assert share == pytest.approx(1.0 if a == b else 0.25, abs=0.02)
        assert set(drawn[:, mode].tolist()) == {a, b}
    mixed = {tuple(row) for row in drawn.tolist()}  # modes are drawn by themselves: combinations of the two cells
    assert len(mixed) == np.prod([len({*TRAIN.index[[3, 7], mode].tolist()}) for mode in range(3)])

    frequency = m.new_index("frequency", TRAIN, weights, SHAPE, 20_000, g)
    uniform = m.new_index("uniform", TRAIN, weights, SHAPE, 20_000, g)
    for mode, n in enumerate(SHAPE):
        shares = [torch.bincount(i[:, mode], minlength=n) / len(i) for i in (TRAIN.index, frequency, uniform)]
        assert (shares[0] - shares[1]).abs().max() < 0.02 and shares[1][-1] == 0
        assert (shares[2] - 1 / n).abs().max() < 0.02


def test_one_index_is_replaced():
    g = device.generator(0)
    replaced = m.new_index("one index replaced", TRAIN, torch.ones(200), SHAPE, 3000, g)
    gaps = (replaced[:, None] != TRAIN.index[None]).sum(2).min(1).values
    assert gaps.max() <= 1 and gaps.double().mean() > 0.2
    assert all((replaced[:, mode] == n - 1).any() for mode, n in enumerate(SHAPE))  # cold entities, too


def test_batches_share_out_the_new_cells():
    new = m.Cells(torch.arange(300).view(100, 3), torch.arange(1000.0, 1100.0))
    plain = list(m.batches(TRAIN, None, 64, device.generator(5), device.generator(6)))
    both = list(m.batches(TRAIN, new, 64, device.generator(5), device.generator(6)))
    assert len(plain) == len(both) == 4
    for a, b in zip(plain, both, strict=True):
        assert torch.equal(a.index, b.index[: len(a.value)]) and torch.equal(a.value, b.value[: len(a.value)])
    extra = torch.cat([b.value[len(a.value) :] for a, b in zip(plain, both, strict=True)])
    assert sorted(extra.tolist()) == new.value.tolist() and extra.tolist() != new.value.tolist()
    rows = torch.cat([b.index[len(a.value) :] for a, b in zip(plain, both, strict=True)])
    assert torch.equal(new.index[(extra - 1000).long()], rows)
    assert sorted(torch.cat([a.value for a in plain]).tolist()) == sorted(TRAIN.value.tolist())


def test_no_new_cells_is_no_augmentation():
    empty = m.Cells(TRAIN.index[:0], TRAIN.value[:0])
    torch.manual_seed(1)  # what was drawn before does not matter
    one = m.fit(SHAPE, TRAIN, VALID, RECIPE, 0, trace=True)
    torch.manual_seed(2)
    two = m.fit(SHAPE, TRAIN, VALID, RECIPE, 0, new=empty)
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b)
    other = m.fit(SHAPE, TRAIN, VALID, RECIPE, 0, new=VALID)
    assert not torch.equal(one.net.output.weight, other.net.output.weight)


def test_bias_model_is_ridge_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    one_hot = np.concatenate([np.eye(n)[TRAIN.index[:, mode]] for mode, n in enumerate(SHAPE)], 1)
    mean = TRAIN.value.mean().item()
    peer = linear_model.Ridge(alpha=4.0, fit_intercept=False).fit(one_hot, TRAIN.value.numpy() - mean)
    ours = m.BiasModel(SHAPE, TRAIN, 4.0, rounds=100)
    assert torch.cat(ours.biases).numpy() == pytest.approx(peer.coef_, abs=1e-4)
    assert ours(TRAIN.index).numpy() == pytest.approx(mean + peer.predict(one_hot), abs=1e-4)


def test_best_bias_model_is_chosen_on_validation_cells():
    best = m.best_bias_model(SHAPE, TRAIN, VALID)
    errors = [m.rmse(m.BiasModel(SHAPE, TRAIN, r)(VALID.index), VALID.value) for r in (2, 3, 4, 6, 8, 12)]
    assert m.rmse(best(VALID.index), VALID.value) == min(errors)
