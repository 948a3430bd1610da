"""HyperTab: views, target networks, the hypernetwork, and agreement with the authors' package."""

import numpy as np
import pytest
import torch

from shared import device, training
from tests.notebooks import load_method

m = load_method("tabular/hypertab")


def make(columns=12, classes=3, kind=None, seed=0, **options):
    with device.fork(seed):
        return (kind or m.HyperTab)(columns, classes, generator=device.generator(seed), **options)


@pytest.mark.parametrize(("columns", "p", "size"), [(60, 0.5, 30), (33, 0.5, 16), (5, 0.1, 1), (7, 1.0, 7)])
def test_views_have_exactly_their_number_of_distinct_columns(columns, p, size):
    masks, chosen = m.draw_views(40, columns, p, device.generator(0))
    assert masks.shape == (40, columns) and chosen.shape == (40, size)
    assert (masks.sum(1) == size).all()
    assert (chosen.diff(dim=1) > 0).all(), "columns are in index order, without repeats"
    assert (masks.gather(1, chosen) == 1).all()


def test_views_are_uniform_and_miss_a_column_as_often_as_they_should():
    masks, _ = m.draw_views(20_000, 20, 0.2, device.generator(0))
    assert masks.mean(0) == pytest.approx(0.2 * np.ones(20), abs=4 * (0.16 / 20_000) ** 0.5)
    missed = (masks.view(1000, 20, 20).sum(1) == 0).float().mean().item()  # 20 views: a column is in none of them
    assert missed == pytest.approx(0.8**20, abs=0.003)


def test_sizes():
    assert m.count_weights(m.target_layers(30, 10, 2, 2)) == 442
    assert m.count_weights(m.target_layers(45, 10, 2, 15)) == 735
    assert m.count_weights(m.target_layers(30, 10, 1, 2)) == 332
    net = make(60, 2, hidden=10, depth=2)
    assert sum(w.numel() for w in net.parameters()) == 20_224 + 64 * 442 + 442


def test_a_batch_of_targets_equals_each_alone_and_permuting_views_changes_nothing():
    net, x = make(views=9, depth=2), torch.randn(4, 12)
    every = net.view_logits(x, torch.arange(9))
    for i in range(9):
        assert torch.allclose(net.view_logits(x, torch.tensor([i]))[0], every[i], atol=1e-6)
    order = torch.randperm(9)
    assert torch.allclose(net.view_logits(x, order).mean(0), net(x), atol=1e-6)


def test_an_unseen_column_cannot_matter_and_a_seen_one_does():
    net, x = make(), torch.randn(4, 12)
    for view in range(5):
        index = torch.tensor([view])
        before = net.view_logits(x, index)
        for column in range(12):
            changed = x.clone()
            changed[:, column] += 10
            same = torch.equal(net.view_logits(changed, index), before)
            assert same == (net.masks[view, column] == 0)


def test_only_the_hypernetwork_is_trained_and_every_part_of_it_gets_a_gradient():
    net = make(depth=2)
    m.group_loss(4)(net, torch.randn(6, 12), torch.arange(6) % 3, device.generator(0)).backward()
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"hypernetwork"}
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in net.parameters())


def test_group_loss_over_all_views_is_the_mean_of_their_losses():
    net, x, y = make(views=6), torch.randn(5, 12), torch.tensor([0, 1, 2, 1, 0])
    whole = m.group_loss(6)(net, x, y, device.generator(0))
    single = [torch.nn.functional.cross_entropy(net.view_logits(x, torch.tensor([i]))[0], y) for i in range(6)]
    assert whole.item() == pytest.approx(torch.stack(single).mean().item(), rel=1e-6)


def test_logit_average_is_not_probability_average_but_is_with_one_view():
    x = torch.randn(8, 12)
    for views, equal in [(1, True), (20, False)]:
        net = make(views=views)
        each = 5 * net.view_logits(x, torch.arange(views))
        assert torch.allclose(each.mean(0).softmax(1), each.softmax(2).mean(0), atol=1e-6) == equal


def test_independent_subnets_start_at_the_hypernetworks_weights_and_are_free():
    net, free = make(), make(kind=m.IndependentSubnets)
    assert torch.equal(net.weights(torch.arange(64)), free.weights(torch.arange(64)))
    assert [name for name, _ in free.named_parameters()] == ["theta"]
    training.fit(free, torch.randn(40, 12), torch.arange(40) % 3, epochs=1, batch_size=40, lr=0.1,
                 step=lambda n, x, y, g: n.view_logits(x, torch.tensor([0])).pow(2).mean())  # fmt: skip
    moved = (free.theta != net.weights(torch.arange(64))).any(1)
    assert moved[0] and not moved[1:].any(), "training one view must leave the others alone"


def test_the_package_of_the_authors_computes_the_same_ensemble():
    hypertab = pytest.importorskip("hypertab.hypernetwork", reason="the authors' package is not installed")
    net = make(14, 3, views=11, hidden=7, p=0.5)
    peer = hypertab.Hypernetwork(input_dims=14, target_architecture=net.layers, test_nodes=11, device="cpu")
    peer.test_mask = net.masks.clone()
    with torch.no_grad():
        for theirs, ours in zip(peer.model.parameters(), net.hypernetwork.parameters(), strict=True):
            theirs.copy_(ours)
    x = torch.randn(20, 14)
    peer.eval()
    with torch.no_grad():
        assert torch.allclose(peer(x), net(x), atol=1e-5)


def test_the_toy_with_one_informative_column_is_learned():
    g = device.generator(3)
    x, y = m.one_informative_column(50, 50, 5, g)
    x_new, y_new = m.one_informative_column(200, 50, 5, g)
    net = make(50, 5, views=120, p=0.2, hidden=5, seed=3)
    training.fit(net, x, y, epochs=30, batch_size=10, lr=3e-3, optimizer="adam", step=m.group_loss(32), seed=3)
    assert training.accuracy(net, x_new, y_new) > 80
