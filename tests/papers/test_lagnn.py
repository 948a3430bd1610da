"""LA-GNN: pairs, generator and its loss, sources, consistency, U-score, and agreement with PyTorch Geometric."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import device, graphs
from tests.notebooks import load_method

m = load_method("graphs/lagnn")


@pytest.fixture(scope="module")
def graph():
    g = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 29, (2, 60), generator=g)
    edges = edges[:, edges[0] != edges[1]]
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    words = torch.rand(30, 12, generator=g).round()
    words[29] = 0  # an isolated node without words, and the last one
    x = graphs.SparseFeatures(words / words.sum(1, keepdim=True).clamp(min=1))
    return words, edges, x, graphs.normalized_adjacency(edges, 30)


def test_pairs_are_the_directed_edges_and_held_out_in_both_directions(graph):
    _, edges, *_ = graph
    loops = torch.cat([edges, torch.arange(30).expand(2, -1)], 1)
    for given in (edges, loops):
        pairs, held = m.neighbour_pairs(given, 0.3, seed=1)
        assert sorted(torch.cat([pairs, held], 1).T.tolist()) == sorted(edges.T.tolist())
        assert 0 < held.shape[1] < edges.shape[1]
        for part in (pairs, held):
            there = set(map(tuple, part.T.tolist()))
            assert there == {(u, v) for v, u in there}


def test_bags_are_products_with_the_words(graph):
    words, _, x, _ = graph
    bags, table = m.Bags(x.rows), torch.randn(12, 5)
    for nodes in (torch.arange(30), torch.tensor([29, 3, 3, 29]), torch.tensor([7, 29])):
        listed, offsets = bags[nodes]
        assert torch.allclose(F.embedding_bag(listed, table, offsets, mode="sum"), words[nodes] @ table, atol=1e-5)


def test_generator_conditions_encoder_and_decoder_as_equation_1_says(graph):
    words, _, x, _ = graph
    net, bags = m.CVAE(12, hidden=16, latent=4), m.Bags(x.rows)
    u, v, z = torch.tensor([1, 2, 29]), torch.tensor([4, 29, 6]), torch.randn(3, 4)
    weight = torch.cat([net.neighbour.weight, net.centre.weight])
    hidden = (torch.cat([words[u], words[v]], 1) @ weight + net.bias).relu()
    mean, log_variance = net.encode(bags[u], bags[v])
    assert torch.allclose(torch.cat([mean, log_variance], 1), net.moments(hidden), atol=1e-5)
    both = torch.cat([z, words[v]], 1) @ torch.cat([net.latent.weight.T, net.condition.weight]) + net.latent.bias
    assert torch.allclose(net.decode(z, bags[v]), net.words(both.relu()), atol=1e-5)
    assert max(bag.weight.abs().max() for bag in (net.neighbour, net.centre, net.condition)) <= 24**-0.5


def test_bound_is_reconstruction_plus_divergence_by_torch_distributions(graph):
    words, _, x, _ = graph
    net, bags = m.CVAE(12, hidden=16, latent=4), m.Bags(x.rows)
    u, v = torch.tensor([1, 2, 29]), torch.tensor([4, 29, 6])
    mean, log_variance = net.encode(bags[u], bags[v])
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(m.divergence(mean, log_variance), expected, atol=1e-5)
    logits = torch.randn(3, 12)
    by_hand = -torch.distributions.Bernoulli(logits=logits).log_prob(words[u]).sum(1)
    assert torch.allclose(m.reconstruction(logits, words[u]), by_hand, atol=1e-5)
    torch.manual_seed(0)
    found = m.bound(net, bags, words, centre=v, neighbour=u)
    torch.manual_seed(0)
    z = mean + torch.randn(3, 4) * (log_variance / 2).exp()
    logits = net.decode(z, bags[v])
    assert found[0].item() == pytest.approx(m.reconstruction(logits, words[u]).mean().item(), rel=1e-5)
    assert found[1].item() == pytest.approx(expected.mean().item(), rel=1e-5)
    assert m.divergence(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0
    assert m.divergence(torch.tensor([[3.0, 0]]), torch.zeros(1, 2)).item() == pytest.approx(4.5)


def test_a_generator_learns_a_conditional():
    """Two kinds of nodes with words of their own, neighbours always of the other kind: draws must say so."""
    g = torch.Generator().manual_seed(0)
    kind = torch.arange(60) % 2
    words = torch.zeros(60, 20)
    words[kind == 0, :10] = (torch.rand(30, 10, generator=g) < 0.6).float()
    words[kind == 1, 10:] = (torch.rand(30, 10, generator=g) < 0.6).float()
    edges = torch.stack([torch.arange(60).repeat_interleave(6), torch.randint(0, 30, (360,), generator=g) * 2])
    edges[1] += 1 - kind[edges[0]]
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    view = graphs.SparseFeatures(words)
    made = type("Graph", (), {"x": view, "edge_index": edges, "y": kind})
    net, bags, dense, held, kept = m.train_generator(made, hidden=16, epochs=12, batch=32, lr=0.01, keep_every=10)
    assert torch.equal(dense, words)
    assert [step for step, _ in kept[:3]] == [10, 20, 30] and kept[0][1].keys() == net.state_dict().keys()
    assert not torch.equal(kept[0][1]["words.bias"], kept[-1][1]["words.bias"]), "kept states are copies"
    right = m.prior_loss(net, bags, dense, *held)
    wrong = m.prior_loss(net, bags, dense, held[1], held[1])  # the condition is of the wrong kind
    assert right < 0.7 * wrong
    drawn = m.draw(net, bags, torch.arange(60))
    share = drawn[:, :10].sum(1)
    assert share[kind == 1].min() > 0.8 and share[kind == 0].max() < 0.2


def test_draws_are_fresh_normalised_detached_and_never_nan(graph):
    _, _, x, _ = graph
    net, bags, nodes = m.CVAE(12, hidden=16), m.Bags(x.rows), torch.arange(30)
    first, second = m.draw(net, bags, nodes), m.draw(net, bags, nodes)
    assert torch.allclose(first.sum(1), torch.ones(30)) and (first > 0).all()
    assert not torch.allclose(first, second)
    assert not first.requires_grad


def test_sharpening_and_consistency_by_hand():
    p = torch.tensor([[0.6], [0.3], [0.1]])
    assert m.sharpen(p, 0.5)[:, 0].tolist() == pytest.approx([0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46])
    assert torch.equal(m.sharpen(p, 1), p)
    target = (0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46)
    one = sum((a - b) ** 2 for a, b in zip((0.6, 0.3, 0.1), target, strict=True))
    assert m.consistency(p[None]).item() == pytest.approx(one)
    certain = torch.tensor([[1.0, 0], [0, 1.0], [0, 0]])  # two nodes, (C, n)
    assert m.consistency(certain.expand(4, 3, 2)).item() == 0
    nodes = torch.cat([p, certain[:, :1]], 1)[None]  # the mean over nodes
    assert m.consistency(nodes).item() == pytest.approx(one / 2)
    passes = torch.stack([torch.tensor([[0.9], [0.1]]), torch.tensor([[0.3], [0.7]])])
    mean = 0.36 / (0.36 + 0.16)
    by_hand = ((0.9 - mean) ** 2 * 2 + (0.3 - mean) ** 2 * 2) / 2
    assert m.consistency(passes).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_target_of_the_consistency_loss_is_held_fixed():
    logits = torch.randn(3, 4, 5, requires_grad=True)
    m.consistency(logits.softmax(1)).backward()
    p = logits.detach().requires_grad_()
    target = m.sharpen(p.detach().softmax(1).mean(0))
    (p.softmax(1) - target).square().sum(1).mean().backward()
    assert torch.allclose(logits.grad, p.grad, atol=1e-7)


def test_the_loss_is_equation_6(graph):
    _, edges, x, adjacency = graph
    made = type("Graph", (), {"x": [m.Real(x)], "adjacency": adjacency, "y": torch.arange(30) % 3})
    net, train = m.LAGCN(12, 3, 1, 8, dropout=0.5).train(), torch.tensor([1, 5, 20])
    torch.manual_seed(0)
    value = m.augmented_loss(4, 0.7)(net, made, train)
    torch.manual_seed(0)
    p = [net(made.x, adjacency).softmax(1) for _ in range(4)]
    assert not torch.allclose(p[0], p[1]), "every pass has its own dropout"
    nll = sum(-q[train, made.y[train]].log().mean() for q in p) / 4
    target = (sum(p) / 4) ** 2
    target = target / target.sum(1, keepdim=True)
    agreement = sum((q - target).square().sum(1).mean() for q in p) / 4
    assert value.item() == pytest.approx((nll + 0.7 * agreement).item(), rel=1e-5)
    torch.manual_seed(0)
    assert m.augmented_loss(4, 0)(net, made, train).item() == pytest.approx(nll.item(), rel=1e-5)


def test_u_score_by_hand_and_its_sign():
    two = torch.tensor([[[0.9, 0.1]], [[0.3, 0.7]]]).log()
    assert m.u_score(two, torch.tensor([0])).item() == pytest.approx(0.5108 - 0.6547, abs=1e-4)
    # two nodes: the second is certain in every pass, so the score is half of the first one's
    both = torch.cat([two, torch.tensor([[[0.2, 0.8]]]).log().expand(2, 1, 2)], 1)
    assert m.u_score(both, torch.tensor([0, 1])).item() == pytest.approx(-0.1438 / 2, abs=1e-4)
    g = device.generator(0)
    for scale in (0.1, 1, 5):
        log_p = (scale * torch.randn(10, 40, 5, generator=g)).log_softmax(2)
        assert m.u_score(log_p, torch.arange(40) % 5) <= 0


def test_u_choice_takes_the_highest_score_and_its_rows_reach_every_label(graph):
    _, _, x, adjacency = graph
    made = type("Graph", (), {"x": x, "adjacency": adjacency, "y": torch.arange(30) % 3})
    net, bags, train = m.CVAE(12, hidden=16), m.Bags(x.rows), torch.tensor([1, 5, 20])
    states = []
    for step in range(4):
        with device.fork(step):
            states.append((step, m.CVAE(12, hidden=16).state_dict()))
    best, scores = m.u_choice(net, bags, made, train, states, passes=5, updates=2)
    assert len(scores) == 4 and max(scores) <= 0
    assert best[0] == scores.index(max(scores))
    near = m.within_two_edges(adjacency, train)
    gcn, dense = m.LAGCN(12, 3, 1, 8, 0.5).eval(), torch.rand(30, 12)
    whole, part = m.Rows(dense, torch.arange(30), 30), m.Rows(dense[near], near, 30)
    assert len(near) < 30
    assert torch.allclose(gcn([whole], adjacency, train), gcn([part], adjacency, train), atol=1e-6)
    steps = torch.linalg.matrix_power((adjacency.to_dense() > 0).double(), 2)[train].sum(0).nonzero()[:, 0]
    assert torch.equal(near, steps)


def test_two_branches_equal_pygs_convolutions(graph):
    from torch_geometric.nn import GCNConv

    words, edges, x, adjacency = graph
    other = torch.rand(30, 12)
    net = m.LAGCN(12, 4, branches=2, width=8, dropout=0.5).eval()
    first, last = [GCNConv(12, 8) for _ in range(2)], GCNConv(16, 4)
    with torch.no_grad():
        net.biases[0].normal_(), net.biases[1].normal_()
        for k, conv in enumerate(first):
            conv.lin.weight.copy_(net.first[k].T)
            conv.bias.copy_(net.biases[0][8 * k : 8 * k + 8])
        last.lin.weight.copy_(net.last.T)
        last.bias.copy_(net.biases[1])
        real = words / words.sum(1, keepdim=True).clamp(min=1)
        hidden = torch.cat([conv(part, edges).relu() for conv, part in zip(first, (other, real), strict=True)], 1)
        ours = net([m.Rows(other, torch.arange(30), 30), m.Real(x)], adjacency)
        assert torch.allclose(ours, last(hidden, edges), atol=1e-5)
        some = torch.tensor([4, 0, 29])
        assert torch.allclose(net([m.Rows(other, torch.arange(30), 30), m.Real(x)], adjacency, some), ours[some])


def test_attention_equals_pygs(graph):
    from torch_geometric.nn import GATConv

    words, edges, x, adjacency = graph
    net = m.LAGAT(12, 4, branches=2, width=6, dropout=0.5, heads=3).eval()
    first, last = [GATConv(12, 2, heads=3, dropout=0.5).eval() for _ in range(2)], GATConv(12, 4, concat=False).eval()
    with torch.no_grad():
        net.biases[0].normal_(), net.biases[1].normal_()
        for k, conv in enumerate(first):
            conv.lin.weight.copy_(net.first[k].T)
            conv.bias.copy_(net.biases[0][6 * k : 6 * k + 6])
        last.lin.weight.copy_(net.last.T)
        last.bias.copy_(net.biases[1])
        for conv, mine in zip((*first, last), (*net.attend, net.attend_last), strict=True):
            conv.att_src[0].copy_(mine.source)
            conv.att_dst[0].copy_(mine.target)
        real = words / words.sum(1, keepdim=True).clamp(min=1)
        hidden = torch.cat([F.elu(conv(real, edges)) for conv in first], 1)
        assert torch.allclose(net([m.Real(x)] * 2, adjacency), last(hidden, edges), atol=1e-5)


def test_one_branch_is_the_gcn_of_the_other_chapters_step_for_step(graph):
    _, _, x, adjacency = graph
    gcn, ours = graphs.GCN(12, 3, hidden=8, dropout=0.5), m.LAGCN(12, 3, 1, 8, dropout=0.5)
    with torch.no_grad():
        ours.first[0].copy_(gcn.layers[0].weight)
        ours.last.copy_(gcn.layers[1].weight.T)
    losses = []
    for net, given in ((gcn, x), (ours, [m.Real(x)])):
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(net.train().parameters(), lr=0.02)
        for _ in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(given, adjacency), torch.arange(30) % 3)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_glorot_start():
    torch.manual_seed(0)
    net = m.LAGCN(1000, 7, branches=2, width=16, dropout=0.5)
    for w, fans in ((net.first[0], 1016), (net.first[1], 1016), (net.last, 39)):
        bound = (6 / fans) ** 0.5
        assert 0.9 * bound < w.abs().max() <= bound
    assert not any(bias.any() for bias in net.biases)


def test_random_neighbours_are_uniform_over_neighbours(graph):
    _, edges, *_ = graph
    pick = m.random_neighbour(edges[:, torch.randperm(edges.shape[1], generator=device.generator(0))], 30)
    torch.manual_seed(0)
    counts = torch.zeros(30, 30)
    for _ in range(3000):
        counts[torch.arange(30), pick()] += 1
    expected = torch.zeros(30, 30)
    expected[edges[0], edges[1]] = 1
    assert torch.equal((expected.sum(1) == 0).nonzero()[:, 0], torch.tensor([29]))
    expected[29, 29] = 1
    expected = expected / expected.sum(1, keepdim=True)
    assert (counts / 3000 - expected).abs().max() < 0.05


def test_rearranged_sources_move_rows_and_pass_gradients(graph):
    _, _, x, _ = graph
    order, w = torch.randperm(30), torch.randn(12, 4, requires_grad=True)
    off = m.Dropout(0.5).eval()
    moved = m.Rearranged(m.Real(x), lambda: order).product(w, off)
    assert torch.allclose(moved, m.Real(x).product(w, off)[order])
    moved.sum().backward()
    assert w.grad.any()


def test_pool_has_the_moments_of_exact_draws():
    g = torch.Generator().manual_seed(0)
    words = (torch.rand(150, 300, generator=g) < 0.06).float()
    with device.fork(1):
        net, bags, nodes = m.CVAE(300, hidden=16), m.Bags(graphs.SparseFeatures(words).rows), torch.arange(150)
        nn.init.normal_(net.latent.weight, std=3.0)  # so that z matters
        nn.init.normal_(net.words.weight, std=0.5)
        w = torch.randn(300, 4)
        pool, exact = m.Pool(net, bags, nodes, draws=60, rank=140), m.Generated(net, bags, nodes)
        for layer in (m.Dropout(0.5).eval(), m.Dropout(0.5).train(), m.Dropout(0.8).train()):
            ours = torch.stack([pool.product(w, layer) for _ in range(800)])
            theirs = torch.stack([exact.product(w, layer) for _ in range(800)])
            assert (ours.mean(0) - theirs.mean(0)).abs().mean() < 0.15 * theirs.std(0).mean()
            assert (ours.std(0) / theirs.std(0)).mean() == pytest.approx(1, abs=0.12)
    assert 0.9 < pool.kept <= 1 + 1e-5
    assert torch.allclose(pool.basis @ pool.basis.T, torch.eye(140), atol=1e-4)


def test_pool_mixes_draws_node_by_node():
    words = (torch.rand(25, 60, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    with device.fork(0):
        net, bags = m.CVAE(60, hidden=16), m.Bags(graphs.SparseFeatures(words).rows)
        pool = m.Pool(net, bags, torch.arange(25), draws=3, rank=25)
        out = pool.product(torch.eye(60), m.Dropout(0.5).eval())
    of_draw = [(out - rows @ pool.basis).abs().max(1).values < 1e-6 for rows in pool.rows.split(25)]
    assert all(0 < hit.sum() < 25 for hit in of_draw)
    assert torch.stack(of_draw).sum(0).min() == 1


def test_no_gradient_reaches_the_generator(graph):
    _, _, x, adjacency = graph
    generator = m.CVAE(12, hidden=16)
    bags, nodes = m.Bags(x.rows), torch.arange(30)
    for source in (m.Generated(generator, bags, nodes), m.Pool(generator, bags, nodes, draws=2, rank=8)):
        net = m.LAGCN(12, 3, 2, 8, dropout=0.5).train()
        net([source, m.Real(x)], adjacency).square().sum().backward()
        assert all(w.grad.any() for w in net.first)
        assert all(w.grad is None for w in generator.parameters())


def test_entropy_is_what_a_single_pass_minimises():
    """With S = 1 the term vanishes at certainty and is largest in between: a nudge to certainty, no agreement."""
    values = [m.consistency(torch.tensor([[[p], [1 - p]]])).item() for p in (1.0, 0.9, 0.7, 0.5)]
    assert values[0] == 0 and values[3] == pytest.approx(0, abs=1e-12) and values[1] > 0 and values[2] > values[1]
    assert math.isclose(values[2], 2 * (0.7 - 0.49 / 0.58) ** 2, rel_tol=1e-5)
