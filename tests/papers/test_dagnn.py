"""DAGNN: propagation and its limit, gates, relatives, smoothness, and agreement with PyTorch Geometric."""

import warnings

import numpy as np
import pytest
import torch

from tests.notebooks import load_method

m = load_method("graphs/dagnn")


@pytest.fixture(scope="module")
def graph():
    g = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 30, (2, 60), generator=g)
    edges = edges[:, edges[0] != edges[1]]
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    x = torch.rand(30, 9, generator=g).round()
    return x, edges


def test_the_limit_keeps_degrees_only(graph):
    adjacency = m.normalized_adjacency(m.karate.edge_index, 34).to_dense().double()
    d = (adjacency > 0).sum(1).double()
    assert d.sum() == 190
    limit = (d[:, None] * d[None]).sqrt() / 190
    assert (torch.linalg.matrix_power(adjacency, 150) - limit).abs().max() < 1e-4  # 0.8961 to the 150th is 7e-8
    assert np.linalg.matrix_rank(limit.numpy()) == 1


def test_propagation_equals_sgconv_and_appnp_of_pyg(graph):
    from torch_geometric.nn import APPNP, SGConv

    x, edges = graph
    x = m.SparseFeatures(x)
    adjacency = m.normalized_adjacency(edges, 30)
    last = m.LastHop(9, 4, hops=6).eval()
    z = last.transform(x)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sgc = SGConv(4, 4, K=6, bias=False)
        sgc.lin.weight.copy_(torch.eye(4))
        assert torch.allclose(last(x, adjacency), sgc(z, edges), atol=1e-5)
        ours = m.APPNP(9, 4, hops=6).eval()
        ours.load_state_dict(last.state_dict())
        assert torch.allclose(ours(x, adjacency), APPNP(6, 0.1)(z, edges), atol=1e-5)


def test_the_gate_is_a_sigmoid_of_one_shared_projection(graph):
    x, edges = graph
    x = m.SparseFeatures(x)
    net = m.DAGNN(9, 4, hops=5).eval()
    h = net.stack(x, m.normalized_adjacency(edges, 30))
    assert h.shape == (30, 6, 4)
    by_hand = torch.sigmoid(h @ net.gate.weight[0] + net.gate.bias)
    assert torch.allclose(net.gates(h), by_hand, atol=1e-6)
    out = sum(by_hand[:, k, None] * h[:, k] for k in range(6))
    assert torch.allclose(net(x, m.normalized_adjacency(edges, 30)), out, atol=1e-5)
    assert not torch.allclose(net.gates(h).sum(1), torch.ones(30)), "gates are no softmax over hops"


def test_zero_gate_fixed_gate_and_hop_gates_start_alike(graph):
    x, edges = graph
    x = m.SparseFeatures(x)
    adjacency = m.normalized_adjacency(edges, 30)
    net = m.DAGNN(9, 4).eval()
    torch.nn.init.zeros_(net.gate.weight)
    torch.nn.init.zeros_(net.gate.bias)
    expected = net(x, adjacency)
    for kind in (m.FixedGate, m.HopGates):
        other = kind(9, 4).eval()
        other.load_state_dict(net.state_dict(), strict=False)
        assert torch.allclose(other(x, adjacency), expected, atol=1e-6)


def test_gradients_reach_what_should_learn(graph):
    x, edges = graph
    x = m.SparseFeatures(x)
    adjacency = m.normalized_adjacency(edges, 30)
    for kind, learned in [(m.DAGNN, {"gate"}), (m.FixedGate, set()), (m.HopGates, {"per_hop"})]:
        net = kind(9, 4)
        net(x, adjacency).pow(2).sum().backward()
        moved = {name.split(".")[0] for name, w in net.named_parameters() if w.grad is not None and w.grad.any()}
        assert moved == {"transform"} | learned


def test_propagation_gradient_passes_gradcheck():
    adjacency = m.normalized_adjacency(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 4).to(torch.float64)
    h = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: m.Propagate.apply(adjacency, v), (h,))
    for rows in (slice(None), torch.tensor([2, 0])):
        assert torch.autograd.gradcheck(lambda v, rows=rows: m.Hops.apply(adjacency, v, 3, rows), (h,))


@pytest.mark.parametrize("kind", ["DAGNN", "LastHop", "FixedGate", "HopGates", "APPNP", "GCN"])
def test_some_rows_are_rows_of_all(graph, kind):
    x, edges = m.SparseFeatures(graph[0]), graph[1]
    adjacency, rows = m.normalized_adjacency(edges, 30), torch.tensor([4, 0, 29])
    net = getattr(m, kind)(9, 4).eval()
    assert torch.allclose(net(x, adjacency, rows), net(x, adjacency)[rows], atol=1e-6)
    grads = []
    for some in (net(x, adjacency, rows), net(x, adjacency)[rows]):
        net.zero_grad()
        some.pow(2).sum().backward()
        grads.append([w.grad for w in net.parameters() if w.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*grads, strict=True))


def test_smoothness_ignores_scale_and_is_zero_for_parallel_rows():
    rows = torch.rand(6, 3)
    assert m.smoothness(rows) == pytest.approx(m.smoothness(rows * torch.rand(6, 1).clamp(min=0.1)), abs=1e-6)
    assert m.smoothness(torch.rand(6, 1) @ torch.rand(1, 3)) == pytest.approx(0, abs=1e-6)
    assert m.smoothness(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(1)
