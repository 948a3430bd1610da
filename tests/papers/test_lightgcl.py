"""LightGCL: the graph, its low-rank view, the losses, the views, splits, and agreement with PyG and scikit-learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared import data, ranking
from tests.notebooks import load_method

m = load_method("graphs/lightgcl")

USERS, ITEMS, D = 12, 9, 5


@pytest.fixture
def edges():
    drawn = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(1)) < 0.35
    drawn[3] = False  # a user without edges
    return drawn.nonzero()


@pytest.fixture
def graph(edges):
    return m.Graph(edges, USERS, ITEMS)


@pytest.fixture
def start():
    g = torch.Generator().manual_seed(2)
    return tuple(torch.randn(n, D, generator=g, requires_grad=True) for n in (USERS, ITEMS))


def complete(graph):
    """The view with all singular triples, by another routine than the chapter's."""
    u, s, vt = np.linalg.svd(graph.rows.to_dense().double().numpy(), full_matrices=False)
    return m.LowRank(*(torch.tensor(t, dtype=torch.float32) for t in (u, s, vt.T.copy())))


def test_normalisation_entry_by_entry_and_both_directions(edges, graph):
    dense = torch.zeros(USERS, ITEMS)
    for u, i in edges.tolist():
        dense[u, i] = ((edges[:, 0] == u).sum() * (edges[:, 1] == i).sum()) ** -0.5
    assert torch.allclose(graph.rows.to_dense(), dense, atol=1e-6)
    assert torch.allclose(graph.columns.to_dense(), dense.T, atol=1e-6)
    assert graph.rows.layout == graph.columns.layout == torch.sparse_csr
    assert graph.rows.values().numel() == len(edges)  # zeros are not stored


def test_products_and_gradients_are_those_of_dense_matrices(graph):
    dense = graph.rows.to_dense().double()
    double = m.Graph.__new__(m.Graph)
    double.rows, double.columns = graph.rows.double(), graph.columns.double()
    items = torch.randn(ITEMS, 3, dtype=torch.float64, requires_grad=True)
    users = torch.randn(USERS, 3, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(double.to_users(items), dense @ items)
    assert torch.allclose(double.to_items(users), dense.T @ users)
    assert torch.autograd.gradcheck(double.to_users, items)
    assert torch.autograd.gradcheck(double.to_items, users)


def test_propagation_equals_lgconv_of_pyg(edges, graph, start):
    from torch_geometric.nn import LGConv

    both = torch.cat([edges.T + torch.tensor([[0], [USERS]]), edges.T.flip(0) + torch.tensor([[USERS], [0]])], dim=1)
    layer, x = LGConv(), torch.cat(start)
    expected = [x]
    for _ in range(3):
        expected.append(layer(expected[-1], both))
    layers, read = m.encode(graph, start, 3)
    for ours, theirs in zip(layers, expected):
        assert torch.allclose(torch.cat(ours), theirs, atol=1e-5)
    assert torch.allclose(torch.cat(m.total(layers)), sum(expected), atol=1e-5)
    assert all(a is b for z, e in zip(read, layers[1:]) for a, b in zip(z, e))


def test_the_form_of_the_paper_has_activation_and_residual(graph, start):
    layers, read = m.encode(graph, start, 2, paper=True)
    users, items = start
    dense = graph.rows.to_dense()
    for layer, z in zip(layers[1:], read):
        z_u, z_i = F.leaky_relu(dense @ items, 0.5), F.leaky_relu(dense.T @ users, 0.5)
        users, items = users + z_u, items + z_i
        for ours, theirs in zip((*z, *layer), (z_u, z_i, users, items)):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_low_rank_is_the_best_approximation(graph):
    dense = graph.rows.to_dense().double()
    s = np.linalg.svd(dense.numpy(), compute_uv=False)
    for q in (1, 3, 5):
        view = m.low_rank(graph, q)
        assert np.allclose(view.values.numpy(), s[:q], atol=1e-6)
        approximation = (view.left * view.values) @ view.right.T
        assert math.isclose((dense - approximation).square().sum().item(), (s[q:] ** 2).sum(), rel_tol=1e-5)
        items, users = torch.randn(ITEMS, 4), torch.randn(USERS, 4)
        assert torch.allclose(view.to_users(items), approximation @ items, atol=1e-5)
        assert torch.allclose(view.to_items(users), approximation.T @ users, atol=1e-5)
    assert torch.equal(m.low_rank(graph, 3).left, m.low_rank(graph, 3).left)  # the same signs always


def test_the_first_triple_is_popularity(edges, graph):
    view = m.low_rank(graph, 1)
    assert math.isclose(view.values.item(), 1, abs_tol=1e-6)
    for side, vector, n in ((0, view.left, USERS), (1, view.right, ITEMS)):
        share = torch.bincount(edges[:, side], minlength=n) / len(edges)
        assert torch.allclose(vector[:, 0].abs(), share.sqrt(), atol=1e-5)


def test_reach_counts_nodes():
    even, single = torch.full((25, 1), 0.2), torch.eye(25)[:, :1]
    half = torch.cat([torch.full((5, 1), 5**-0.5), torch.zeros(20, 1)])
    assert m.reach(torch.cat([even, single, -half], dim=1)).tolist() == pytest.approx([25, 1, 5], rel=1e-5)


def test_full_rank_view_equals_the_graph_layer_by_layer(graph, start):
    layers, read = m.encode(graph, start, 2)
    first, second = m.views("LightGCL", start, layers, read, complete(graph), 2)
    for one, other in zip(first, second):
        for a, b in zip(one, other):
            assert torch.allclose(a, b, atol=1e-5)
    nodes = torch.arange(USERS), torch.arange(ITEMS)
    itself = m.contrast(*m.views("self view", start, layers, read, None, 2), nodes, 0.2, "layers")
    assert torch.allclose(m.contrast(first, second, nodes, 0.2, "layers"), itself, atol=1e-4)


def test_the_global_view_reads_the_local_layers(graph, start):
    layers, read = m.encode(graph, start, 2)
    view = m.low_rank(graph, 2)
    _, second = m.views("LightGCL", start, layers, read, view, 2)
    approximation = (view.left * view.values) @ view.right.T
    assert second[0] is start
    for n in (1, 2):
        assert torch.allclose(second[n][0], approximation @ layers[n - 1][1], atol=1e-5)
        assert torch.allclose(second[n][1], approximation.T @ layers[n - 1][0], atol=1e-5)
        assert np.linalg.matrix_rank(second[n][0].detach().numpy(), tol=1e-4) == 2


def test_both_views_send_gradients_to_the_embeddings(graph, start):
    layers, read = m.encode(graph, start, 2)
    first, second = m.views("LightGCL", start, layers, read, m.low_rank(graph, 2), 2)
    nodes = torch.arange(USERS), torch.arange(ITEMS)
    cut = [tuple(x.detach() for x in pair) for pair in second]
    full = torch.autograd.grad(m.contrast(first, second, nodes, 0.2, "layers"), start, retain_graph=True)
    half = torch.autograd.grad(m.contrast(first, cut, nodes, 0.2, "layers"), start)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(full, half))


def test_sgl_contrasts_two_graphs_of_its_own(edges, graph, start):
    layers, read = m.encode(graph, start, 2)
    thin = [m.Graph(edges[k::2], USERS, ITEMS) for k in (0, 1)]
    found = m.views("SGL", start, layers, read, thin, 2)
    for one, view in zip(thin, found):
        for ours, theirs in zip(m.encode(one, start, 2)[0], view):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_thinning_drops_the_share_asked_for():
    many = torch.arange(40_000).view(-1, 2)
    kept = m.thinned(many, 0.2, torch.Generator().manual_seed(0))
    assert abs(len(kept) / len(many) - 0.8) < 0.01
    assert torch.isin(kept[:, 0], many[:, 0]).all() and len(kept.unique(dim=0)) == len(kept)


def test_info_nce_by_hand_and_against_cross_entropy():
    assert math.isclose(m.info_nce(torch.eye(2), torch.eye(2), 0.5).item(), math.log(1 + math.exp(-2)), rel_tol=1e-5)
    assert math.isclose(m.info_nce(torch.ones(7, 3), torch.ones(7, 3), 0.2).item(), math.log(7), rel_tol=1e-5)
    x, y = torch.randn(6, 4), torch.randn(6, 4)
    logits = torch.nn.CosineSimilarity(dim=2)(x[:, None], y[None]) / 0.3
    assert torch.allclose(m.info_nce(x, y, 0.3), F.cross_entropy(logits, torch.arange(6)), atol=1e-5)
    assert torch.allclose(m.info_nce(5 * x, 0.1 * y, 0.3), m.info_nce(x, y, 0.3), atol=1e-5)


def test_contrast_sums_sides_and_layers_and_takes_the_nodes_asked_for(graph, start):
    layers, read = m.encode(graph, start, 2)
    first, second = m.views("LightGCL", start, layers, read, m.low_rank(graph, 2), 2)
    nodes = torch.tensor([5, 0, 7]), torch.tensor([1, 8])
    by_hand = sum(m.info_nce(first[n][k][nodes[k]], second[n][k][nodes[k]], 0.2) for n in (1, 2) for k in (0, 1))
    assert torch.allclose(m.contrast(first, second, nodes, 0.2, "layers"), by_hand)
    sums = [[sum(view[n][k] for n in range(3)) for k in (0, 1)] for view in (first, second)]
    by_hand = sum(m.info_nce(sums[0][k][nodes[k]], sums[1][k][nodes[k]], 0.2) for k in (0, 1))
    assert torch.allclose(m.contrast(first, second, nodes, 0.2, "sums"), by_hand)


def test_released_loss_by_hand(start):
    g = [(torch.randn(USERS, D), torch.randn(ITEMS, D))]
    e = [tuple(x.detach() for x in start)]
    nodes = torch.tensor([5, 0, 7]), torch.tensor([1, 8])
    expected = 0.0
    for k in (0, 1):
        for n in nodes[k].tolist():
            own = max(-5.0, min(5.0, (g[0][k][n] @ e[0][k][n]).item() / 0.2))
            expected += (math.log(sum(math.exp((g[0][k][n] @ x).item() / 0.2) for x in e[0][k])) - own) / len(nodes[k])
    assert math.isclose(m.released_contrast(e, g, nodes, 0.2).item(), expected, rel_tol=1e-4)
    huge = [tuple(1e3 * x for x in e[0])]
    assert math.isfinite(m.released_contrast(huge, huge, nodes, 0.2).item())  # exp alone would overflow


def test_released_loss_only_pushes_beyond_the_clamp():
    one, other = torch.full((1, 1), 2.0, requires_grad=True), torch.ones(1, 1)
    node = torch.tensor([0])
    loss = m.released_contrast([(one, other)], [(other, other)], (node, node), 0.2)
    assert torch.autograd.grad(loss, one)[0].item() == pytest.approx(5)  # 1 / tau, upwards: g.e = 10 tau


def test_bpr_by_hand():
    users, items = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    zero, two, one = torch.tensor([0]), torch.tensor([2]), torch.tensor([1])
    assert m.bpr((users, items), zero, two, one).item() == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-4)


def test_the_objective_is_the_sum_of_its_parts(graph, start):
    from types import SimpleNamespace

    plan = SimpleNamespace(depth=2, anchors=4, paper=False)
    batch = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 3, 5, 6]), torch.tensor([7, 8, 0, 1])
    view = m.low_rank(graph, 2)

    def value(**setting):
        noise = torch.Generator().manual_seed(5)
        return m.objective("LightGCL", graph, start, batch, m.Setting(**setting), plan, noise, view)

    layers, read = m.encode(graph, start, 2)
    ranked = m.bpr(m.total(layers), *batch)
    penalty = sum(x.square().sum() for x in start)
    assert torch.allclose(value(decay=0.0), ranked)
    assert torch.allclose(value(decay=0.1), ranked + 0.1 * penalty)
    nodes = m.anchors(*batch, 4, torch.Generator().manual_seed(5))
    first, second = m.views("LightGCL", start, layers, read, view, 2)
    for form, loss in (
        ("layers", m.contrast(first, second, nodes, 0.2, "layers")),
        ("sums", m.contrast(first, second, nodes, 0.2, "sums")),
        ("released", m.released_contrast(first, second, nodes, 0.2)),
    ):
        assert torch.allclose(value(decay=0.0, weight=0.5, form=form), ranked + 0.5 * loss, atol=1e-5)


def test_anchors_are_distinct_nodes_of_the_batch():
    batch = torch.tensor([4, 4, 1, 9]), torch.tensor([2, 3, 2, 5]), torch.tensor([7, 3, 0, 8])
    users, items = m.anchors(*batch, 2, torch.Generator().manual_seed(0))
    assert len(users.unique()) == len(items.unique()) == 2
    users, items = m.anchors(*batch, 100, torch.Generator().manual_seed(0))
    assert sorted(users.tolist()) == [1, 4, 9] and sorted(items.tolist()) == [0, 2, 3, 5, 7, 8]


def test_negatives_are_unknown_and_uniform():
    known = torch.tensor([0, 1, 3, 10, 14])  # user 0: items 0, 1, 3; user 2: items 0, 4; five items
    user = torch.tensor([0, 1, 2]).repeat(6000)
    drawn = m.negatives(user, known, 5, torch.Generator().manual_seed(0))
    for u, free in ((0, {2, 4}), (1, {0, 1, 2, 3, 4}), (2, {1, 2, 3})):
        counts = torch.bincount(drawn[user == u], minlength=5)
        assert set(counts.nonzero()[:, 0].tolist()) == free
        assert counts[counts > 0].min() > 0.9 * 6000 / len(free)


def test_uniformity():
    assert m.uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-6)
    assert m.uniformity(torch.tensor([[1.0], [-3.0]])) == pytest.approx(-8, abs=1e-5)
    x = torch.randn(30, 6)
    unit = F.normalize(x, dim=1)
    assert m.uniformity(x) == pytest.approx((-2 * torch.pdist(unit) ** 2).exp().mean().log().item(), abs=1e-5)


def test_random_split_partitions_the_liked_films():
    films = data.load("ml100k")
    *parts, users, items = m.random_split(films, 0.2, 3)
    assert (users, items) == (943, 1682)
    assert [len(p) for p in parts] == [11_075, 5_538, 38_762]
    together = np.concatenate(parts)
    assert len(np.unique(together, axis=0)) == len(together) == (films.ratings["rating"] >= 4).sum()
    frame = films.ratings[films.ratings["rating"] >= 4]
    assert set(map(tuple, together)) == set(zip(frame["user"] - 1, frame["item"] - 1))
    assert np.array_equal(m.random_split(films, 0.2, 3)[0], parts[0])
    assert not np.array_equal(m.random_split(films, 0.2, 4)[0], parts[0])


def test_core_keeps_dense_corners_only():
    import pandas as pd

    block = [(u, i) for u in range(3) for i in range(3)]
    frame = pd.DataFrame([*block, (0, 7), (8, 0), (8, 7)], columns=["user", "item"])  # 8 and 7 hold each other up
    assert len(m.core(frame, 1)) == len(m.core(frame, 2)) == 12
    kept = m.core(frame, 3)
    assert list(zip(kept["user"], kept["item"])) == block
    assert len(m.core(frame, 4)) == 0


def toy_split():
    g = torch.Generator().manual_seed(4)
    pairs = (torch.rand(40, 60, generator=g) < 0.3).nonzero()
    pairs = pairs[torch.randperm(len(pairs), generator=g)]
    return m.Split(pairs[:400], pairs[400:500], pairs[500:], 40, 60)


def test_ranking_masks_what_was_seen_and_blocks_change_nothing():
    split = toy_split()
    g = torch.Generator().manual_seed(5)
    final = torch.randn(40, 4, generator=g), torch.randn(60, 4, generator=g)
    whole, parts = split.rank(final, "test"), split.rank(final, "test", block=7)
    assert len(parts) == 6
    assert torch.equal(torch.cat([t for t, _ in parts]), whole[0][0])
    assert m.score(whole) == m.score(parts)
    top = whole[0][0]
    met = torch.zeros(40, 60, dtype=torch.bool)
    for pairs in (split.train, split.valid):
        met[pairs[:, 0], pairs[:, 1]] = True
    assert not met.gather(1, top).any()
    valid = split.rank(final, "valid")[0]
    assert valid[1].sum() == len(split.valid)
    assert split.dense(split.valid, 0, 40).gather(1, valid[0]).any()  # not hidden while it is being looked for


def test_score_equals_scikit_learn():
    from sklearn.metrics import ndcg_score

    split = toy_split()
    g = torch.Generator().manual_seed(6)
    final = torch.randn(40, 4, generator=g), torch.randn(60, 4, generator=g)
    blocks = split.rank(final, "test")
    scores = (final[0] @ final[1].T).masked_fill(split.dense(torch.cat([split.train, split.valid]), 0, 40), -1e6)
    relevant = split.dense(split.test, 0, 40)
    users = relevant.any(1)
    theirs = ndcg_score(relevant[users].numpy(), scores[users].numpy(), k=20)
    assert m.score(blocks)["NDCG@20"] == pytest.approx(theirs, abs=1e-6)


def test_popularity_is_that_of_the_common_protocol():
    last = ranking.leave_last_out(data.load("ml100k"), 0)
    user = torch.arange(last.users)
    valid, test = (torch.stack([user, part], 1) for part in (last.valid, last.test))
    split = m.Split(last.train, valid, test, last.users, last.items)
    counts = torch.bincount(split.train[:, 1], minlength=split.items).float()
    ours = m.score(split.rank(lambda start, stop: counts.expand(stop - start, -1), "test"))
    assert ours == last.evaluate(ranking.popularity(last), "test")  # bit for bit


def test_training_learns_and_repeats_itself():
    from types import SimpleNamespace

    split = toy_split()
    plan = SimpleNamespace(width=8, depth=2, batch=100, epochs=6, every=2, anchors=16, drop=0.2, paper=False)
    view = m.low_rank(m.Graph(split.train, 40, 60), 3)
    setting = m.Setting(lr=0.05, decay=0.0, weight=0.1)
    for arm, extra in (("SGL", None), ("self view", None), ("LightGCL", view)):
        reached, final = m.fit(arm, split, setting, plan, 0, extra)
        again, same = m.fit(arm, split, setting, plan, 0, extra)
        assert reached == again and all(torch.equal(a, b) for a, b in zip(final, same))
        other = m.fit(arm, split, setting, plan, 1, extra)[1]
        assert not torch.equal(final[0], other[0])
        assert reached == m.score(split.rank(final, "valid"))["NDCG@20"]  # the embeddings of the best reading
    plain = m.fit("LightGCN", split, m.Setting(lr=0.05, decay=0.0), plan, 0)[1]
    margin = (plain[0] @ plain[1].T)[tuple(split.train.T)].mean() - (plain[0] @ plain[1].T).mean()
    assert margin > 0.5  # known items score higher
