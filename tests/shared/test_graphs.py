"""Sparse graph code that several chapters share: propagation, features, dropout, the GCN, splits and training."""

import pytest
import torch
from torch import nn

from shared import device
from shared import graphs as m


@pytest.fixture(scope="module")
def graph():
    g = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 30, (2, 60), generator=g)
    edges = edges[:, edges[0] != edges[1]]
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    x = torch.rand(30, 9, generator=g).round()
    return x, edges


def test_normalisation_agrees_with_pyg_and_does_not_double_self_loops(graph):
    from torch_geometric.nn.conv.gcn_conv import gcn_norm
    from torch_geometric.utils import to_dense_adj

    _, edges = graph
    index, weight = gcn_norm(edges, num_nodes=30)
    theirs = to_dense_adj(index, edge_attr=weight, max_num_nodes=30)[0]
    assert torch.allclose(m.normalized_adjacency(edges, 30).to_dense(), theirs, atol=1e-6)
    loops = torch.cat([edges, torch.arange(30).expand(2, -1)], 1)
    assert torch.allclose(m.normalized_adjacency(loops, 30).to_dense(), theirs, atol=1e-6)


def test_gcn_equals_pygs(graph):
    from torch_geometric.nn import GCN

    x, edges = graph
    x = m.SparseFeatures(x)
    ours = m.GCN(9, 4, depth=3, hidden=16).eval()
    theirs = GCN(9, 16, 3, 4).eval()
    with torch.no_grad():
        for layer, bias, conv in zip(ours.layers, ours.biases, theirs.convs, strict=True):
            conv.lin.weight.copy_(layer.weight if isinstance(layer, torch.nn.Linear) else layer.weight.T)
            conv.bias.copy_(torch.randn(len(bias)))
            bias.copy_(conv.bias)
        assert torch.allclose(ours(x, m.normalized_adjacency(edges, 30)), theirs(graph[0], edges), atol=1e-5)


def test_sparse_input_layer_equals_a_dense_one_and_drops_values(graph):
    dense, x = graph[0], m.SparseFeatures(graph[0])
    layer = m.SparseLinear(9, 5, dropout=0.5).eval()
    expected = dense @ layer.weight + layer.bias
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert layer.weight.abs().max() <= 1 / 3, "starts as nn.Linear does"
    ours, theirs = (torch.autograd.grad(o.pow(2).sum(), [layer.weight, layer.bias]) for o in (layer(x), expected))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    layer.train()
    torch.manual_seed(0)
    mean = torch.stack([layer(x) for _ in range(4000)]).mean(0)
    assert torch.allclose(mean, expected, atol=0.08), "inverted dropout keeps the mean"


def test_sparse_layer_uses_one_mask_forward_and_backward(graph):
    x = m.SparseFeatures(graph[0])
    layer = m.SparseLinear(9, 5, dropout=0.5, bias=False).train()
    torch.manual_seed(0)
    out = layer(x)
    torch.manual_seed(0)
    values = layer.dropout(x.values)
    masked = torch.zeros(30, 9)
    masked[tuple(graph[0].nonzero().T)] = values
    assert 0 < (values == 0).sum() < len(values) and set(values.tolist()) == {0.0, 2.0}
    assert torch.allclose(out, masked @ layer.weight, atol=1e-6)
    out.sum().backward()
    assert torch.allclose(layer.weight.grad, masked.sum(0)[:, None].expand(-1, 5), atol=1e-6)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_dropout_drops_its_share_evenly_and_keeps_the_mean(p):
    torch.manual_seed(0)
    layer = m.Dropout(p)
    x = torch.ones(1001, 401)
    out = layer(x)
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    for part in (out, *(out.flatten()[k::4] for k in range(4))):  # the four entries of one 64-bit draw
        assert (part == 0).double().mean() == pytest.approx(p, abs=0.005)
    dropped = (out == 0).double().flatten()
    pairs = dropped[: len(dropped) // 4 * 4].view(-1, 4).T
    assert (torch.corrcoef(pairs) - torch.eye(4)).abs().max() < 0.015
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(m.Dropout(0)(x), x)


def test_gcn_starts_from_glorots_initialisation():
    torch.manual_seed(0)
    for layer, fans in zip(m.GCN(1000, 7, depth=3).layers, (1064, 128, 71), strict=True):
        bound = (6 / fans) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert not any(bias.any() for bias in m.GCN(9, 4, depth=3).biases)


def test_depth_zero_does_not_see_the_graph(graph):
    x, edges = graph
    x = m.SparseFeatures(x)
    net = m.GCN(9, 4, depth=0).eval()
    assert torch.equal(net(x, m.normalized_adjacency(edges, 30)), net(x, m.normalized_adjacency(edges[:, :2], 30)))


def test_propagation_gradient_passes_gradcheck():
    adjacency = m.normalized_adjacency(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 4).to(torch.float64)
    h = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: m.Propagate.apply(adjacency, v), (h,))


@pytest.fixture(scope="module")
def planted():
    """120 nodes of three classes: a word of each class is frequent in it, and most edges stay inside."""
    g = torch.Generator().manual_seed(1)
    y = torch.arange(120) % 3
    x = (torch.rand(120, 30, generator=g) < 0.1).float()
    x[torch.arange(120), y] = (torch.rand(120, generator=g) < 0.6).float()
    ends = torch.randint(120, (2, 600), generator=g)
    ends = ends[:, (y[ends[0]] == y[ends[1]]) | (torch.rand(600, generator=g) < 0.1)]
    from torch_geometric.data import Data

    edge_index = torch.cat([ends, ends.flip(0)], 1).unique(dim=1)
    return Data(x=m.SparseFeatures(x), y=y, adjacency=m.normalized_adjacency(edge_index, 120), edge_index=edge_index)


def test_random_splits_have_so_many_labels_a_class_and_no_node_twice(planted):
    train, valid, test = m.few_labels(planted, 5, seed=3)
    assert torch.bincount(planted.y[train]).tolist() == [5, 5, 5]
    assert torch.bincount(planted.y[valid]).tolist() == [10, 10, 10]  # 40 a class are too few for 30
    assert sorted(torch.cat([train, valid, test]).tolist()) == list(range(120))
    assert torch.equal(train, m.few_labels(planted, 5, seed=3)[0])
    assert not torch.equal(train, m.few_labels(planted, 5, seed=4)[0])
    assert all(map(torch.equal, m.split_of(planted, 3), (train, valid, test))), "five labels where there is no split"


def test_the_public_split_is_taken_unless_labels_are_named():
    graph = m.load("cora")
    sizes = [len(part) for part in m.split_of(graph, 0)]
    assert sizes == [140, 500, 1000]
    assert all(map(torch.equal, m.split_of(graph, 0), m.split_of(graph, 1)))
    assert len(m.split_of(graph, 0, per_class=2)[0]) == 14
    sums = graph.x.product(graph.x.values, torch.ones(1433, 1))
    assert torch.allclose(sums, torch.ones(2708, 1), atol=1e-5), "rows divided by their sum"


def test_training_learns_reads_the_test_at_the_best_validation_loss_and_repeats(planted):
    split = m.few_labels(planted, 5, seed=0)

    def make(features, classes, dropout):
        return m.GCN(features, classes, hidden=16, dropout=dropout)

    schedule = dict(epochs=60, every=2, window=4)
    net, valid, test = m.trained(make, planted, split, (0.02, 5e-4, 0.5), 7, **schedule)
    assert test > 65 and valid > 65  # chance is 33
    again, *scores = m.trained(make, planted, split, (0.02, 5e-4, 0.5), 7, **schedule)
    assert scores == [valid, test]
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    other, *_ = m.trained(make, planted, split, (0.02, 5e-4, 0.5), 8, **schedule)
    assert not torch.equal(net.layers[0].weight, other.layers[0].weight)


class Scripted(nn.Module):
    """Logits that follow a script: node v's true class gets `script[epoch]`, and its weight never matters."""

    def __init__(self, y, script):
        super().__init__()
        self.weight, self.y, self.script, self.looks = nn.Parameter(torch.zeros(1)), y, iter(script), 0

    def forward(self, x, adjacency, rows):
        if self.training:
            return torch.zeros(len(rows), 3) + self.weight
        self.looks += 1
        return next(self.script) * (torch.eye(3)[self.y[rows]] - 0.5)


def test_the_best_epoch_counts_and_training_stops_when_validation_turns(planted):
    split = m.few_labels(planted, 5, seed=0)
    falling_then_bad = [0.5, 3.0, 1.0, -1.0] + [-9.0] * 16  # the lowest loss in the second look, wrong answers later
    net = Scripted(planted.y, falling_then_bad)
    assert m.fit(net, planted, split, 0.1, 0, epochs=6, window=3) == [100, 100]
    assert net.looks == 4, "after half of the epochs, the first loss above the mean of the last three ends it"
    net = Scripted(planted.y, [1.0 + k for k in range(20)])
    assert m.fit(net, planted, split, 0.1, 0, epochs=8, every=2, window=3) == [100, 100] and net.looks == 4


def test_a_custom_loss_replaces_the_cross_entropy(planted):
    split = m.few_labels(planted, 5, seed=0)
    with device.fork(0):
        net = m.GCN(30, 3, hidden=8, dropout=0)
    before = [w.detach().clone() for w in net.parameters()]
    m.fit(net, planted, split, 0.1, 0, epochs=2, loss=lambda net, graph, train: 0 * net.layers[0].weight.sum())
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_training_that_never_looks_at_validation_is_refused(planted):
    with pytest.raises(ValueError, match="never: make `every` smaller"):
        m.fit(nn.Linear(1, 1), planted, m.few_labels(planted, 5, 0), 0.1, 0, epochs=3, every=5)
