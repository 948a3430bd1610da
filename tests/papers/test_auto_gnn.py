"""Auto-GNN: the table as a space, encoders and REINFORCE, the conservative search, layers and parameter sharing."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from shared import graphs
from tests.notebooks import load_method

m = load_method("graphs/auto-gnn")
SPEC = dict(hidden=4, attention="gat", heads=2, aggregate="sum", combine="identity", activation="elu")


@pytest.fixture(scope="module")
def table():
    return m.Table("cora")


@pytest.fixture(scope="module")
def graph():
    """Features (30, 6), edges in both directions without loops."""
    g = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 30, (2, 60), generator=g)
    edges = edges[:, edges[0] != edges[1]]
    return torch.randn(30, 6, generator=g), torch.cat([edges, edges.flip(0)], 1).unique(dim=1)


def encoders(classes, sizes=(9,) * 5, searches=1, hidden=6, **options):
    return m.Encoders(sizes, classes, [np.random.default_rng(s) for s in range(searches)], hidden, **options)


def test_strings_of_equal_networks_share_a_row(table):
    rows = m.rows_of_strings()
    assert rows.shape == (9**5,)
    assert len(set(rows.tolist())) == 26_207  # with the all-skip network, which was not measured
    assert table.valid[rows[8]] > 0
    assert table.key((8, 8, 8, 8, 8)) == 26_206
    assert table.valid[26_206] == 0
    fork = m.data.nas.LINKS.index((0, 0, 0, 0))  # four operations side by side: their order is nothing
    assert len({table.key((fork, *order)) for order in itertools.permutations((0, 1, 2, 3))}) == 1


def test_the_best_network_is_in_the_top_of_all_and_ranks_are_by_validation(table):
    best = int(table.valid.argmax())
    assert table.valid[best] == pytest.approx(81.93, abs=0.01)
    assert table.test[best] == pytest.approx(82.63, abs=0.01)
    assert table.top[best] == pytest.approx(100 / 26_206)
    row = 12_345
    assert table.top[row] == pytest.approx(100 * ((table.valid[:-1] > table.valid[row]).sum() + 1) / 26_206)


def test_the_ledger_counts_different_networks_and_keeps_the_best(table):
    ledger = m.Ledger(table, budget=2)
    worse, better = sorted([(8, 1, 1, 8, 8), (8, 7, 7, 7, 7)], key=lambda a: table.valid[table.key(a)])
    for _ in range(3):
        ledger.measure(better)
    assert len(ledger.scores) == 1
    assert ledger.idle == 2
    ledger.measure(worse)
    assert ledger.done
    assert ledger.parent == better
    assert ledger.best == table.valid[table.key(better)]


def test_a_search_that_names_known_networks_only_comes_to_an_end(table):
    ledger = m.Ledger(table, budget=50)
    for _ in range(m.PATIENCE):
        assert not ledger.done
        ledger.measure((8, 1, 1, 1, 1))
    ledger.measure((8, 1, 1, 1, 1))
    assert ledger.done


def test_the_lstm_is_pytorchs():
    g = torch.Generator().manual_seed(0)
    cell = nn.LSTMCell(5, 5, bias=False)
    x, h, c = (torch.randn(3, 5, generator=g) for _ in range(3))
    weight = torch.cat([cell.weight_ih, cell.weight_hh], 1).T.expand(3, -1, -1)
    ours, theirs = m.lstm_step(torch.cat([x, h], 1), c, weight), cell(x, (h, c))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_damping_divides_before_it_squashes_and_absent_options_have_no_probability():
    weight = torch.tensor([[[5.0, 10.0, -5.0, 50.0]]])
    logs = m.log_policy(torch.ones(1, 1), weight, torch.tensor([3]))
    expected = torch.tensor([2.5 * math.tanh(v) for v in (1, 2, -1)]).softmax(0)
    assert torch.allclose(logs.exp()[0, :3], expected, atol=1e-6)
    assert logs.exp()[0, 3] == 0


def test_an_encoder_does_not_see_the_class_that_it_writes():
    one = encoders(m.Table.classes)
    group = torch.tensor([2])
    weights = [w[2:3] for w in one.weights]
    parents = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 8, 4, 5], [1, 2, 3, 4, 6]])
    entropy = [m.unroll(one, weights, group, parents[i : i + 1])[2].item() for i in range(3)]
    assert entropy[0] == pytest.approx(entropy[1], abs=1e-7)
    assert entropy[0] != pytest.approx(entropy[2], abs=1e-7)


def test_an_undecided_encoder_has_ln_9_for_every_slot_that_it_writes():
    one = encoders([(0,), (1, 2, 3, 4)], learn=False)
    start = torch.zeros(2, 5, dtype=torch.long)
    _, log_prob, entropy = m.unroll(one, one.weights, torch.arange(2), start)
    assert entropy.tolist() == pytest.approx([math.log(9), 4 * math.log(9)], abs=1e-5)
    assert (-log_prob).tolist() == pytest.approx(entropy.tolist(), abs=1e-5)


def test_log_probability_is_that_of_the_chain_rule():
    """The probabilities of all strings of a small class sum to 1, and the entropy agrees with a direct sum."""
    one = encoders([(0, 1)], sizes=(2, 3))
    group, strings = torch.zeros(6, dtype=torch.long), torch.tensor(list(itertools.product(range(2), range(3))))
    _, log_prob, _ = m.unroll(one, [w.expand(6, *w.shape[1:]) for w in one.weights], group, strings)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_samples_follow_the_policy():
    one = encoders([(0,)], sizes=(4,))
    rows, n = torch.zeros(20_000, dtype=torch.long), 20_000
    weights = [3 * w.expand(n, *w.shape[1:]) for w in one.weights]
    uniform = torch.rand(n, 1, generator=torch.Generator().manual_seed(0))
    drawn = m.unroll(one, weights, rows, torch.zeros(n, 1, dtype=torch.long), uniform)[0][:, 0]
    scores = m.unroll(one, [w[:4] for w in weights], rows[:4], torch.arange(4)[:, None])[1].exp()
    assert torch.allclose(drawn.bincount(minlength=4) / n, scores, atol=0.015)


def test_reinforce_is_adam_on_the_reward_weighted_log_probability_and_touches_used_rows_only():
    one = encoders(m.Table.classes, searches=2)
    before = [w.clone() for w in one.weights]
    rows, group, choices = torch.tensor([3]), torch.tensor([3]), torch.tensor([[1, 2, 3, 4, 5]])
    expected = [nn.Parameter(w[rows].clone()) for w in before]
    optimizer = torch.optim.Adam(expected, lr=0.01)
    for reward in (0.5, -0.2):
        optimizer.zero_grad()
        (-reward * m.unroll(one, expected, group, choices)[1]).sum().backward()
        optimizer.step()
        m.reinforce(one, rows, group, choices, torch.tensor([reward]), torch.tensor([0.01]))
    others = [r for r in range(10) if r != 3]
    for w, old, new in zip(one.weights, before, expected, strict=True):
        assert torch.equal(w[others], old[others])
        assert torch.allclose(w[rows], new, atol=1e-6)


def test_a_reward_makes_the_choice_more_likely_and_a_penalty_less():
    for reward in (1.0, -1.0):
        one = encoders(m.Table.classes)
        rows, group, choices = torch.tensor([1]), torch.tensor([1]), torch.tensor([[1, 2, 3, 4, 5]])
        before = m.unroll(one, [w[rows] for w in one.weights], group, choices)[1].item()
        m.reinforce(one, rows, group, choices, torch.tensor([reward]), torch.tensor([0.01]))
        after = m.unroll(one, [w[rows] for w in one.weights], group, choices)[1].item()
        assert (after - before) * reward > 0


def test_classes_are_drawn_in_proportion_to_the_exponential_of_their_entropy():
    entropy = torch.tensor([0.3, 2.2, 1.0])
    uniform = torch.rand(50_000, 3, generator=torch.Generator().manual_seed(0))
    once = m.guided_choice(entropy.expand(50_000, 3), uniform, 1).flatten().bincount() / 50_000
    assert torch.allclose(once, entropy.softmax(0), atol=0.01)
    twice = m.guided_choice(entropy.expand(50_000, 3), uniform, 2)
    assert (twice[:, 0] != twice[:, 1]).all()


@pytest.mark.parametrize(("at_once", "learn"), [(1, True), (2, True), (1, False)])
def test_children_differ_from_the_parent_in_so_many_classes(table, at_once, learn):
    seen = []

    class Watched(m.Ledger):
        def measure(self, choices):
            seen.append(sum(a != b for a, b in zip(choices, self.parent or choices, strict=True)))
            return super().measure(choices)

    ledger = Watched(table, 40)
    for start in ((8, 1, 1, 8, 8), (0, 1, 2, 3, 4)):
        ledger.measure(start)
    seen.clear()
    m.controller_search([ledger], [(0, 0)], m.Table.classes, 0.01, 4, at_once, learn)
    assert len(ledger.scores) == 40
    assert max(seen) == at_once


def test_searches_side_by_side_are_those_run_alone(table):
    def search(numbers):
        ledgers, _ = m.begin([table] * len(numbers), numbers, 40, 5)
        m.controller_search(ledgers, numbers, m.Table.classes, 0.01, 4)
        return [list(one.scores) for one in ledgers]

    assert search([(0, 0), (1, 0)]) == search([(0, 0)]) + search([(1, 0)])


def test_all_arms_start_from_the_same_networks(table):
    first, streams = m.begin([table], [(3, 1)], 60, 10)
    second, again = m.begin([table], [(3, 1)], 60, 10)
    m.random_search(first[0], streams[0])
    m.evolution(second[0], again[0])
    assert list(first[0].scores)[:10] == list(second[0].scores)[:10]
    assert len(first[0].scores) == len(second[0].scores) == 60


def test_evolution_lets_the_oldest_die_and_changes_one_slot():
    class Counting:
        sizes = (4,) * 6

        def __init__(self):
            self.asked = []

        def key(self, choices):
            self.asked.append(choices)
            return choices

        def score(self, key, parent):
            return float(sum(key))

    space = Counting()
    m.evolution(m.Ledger(space, 80), np.random.default_rng(0), population=10, sample=3)
    for i, child in enumerate(space.asked[10:], 10):
        near = [sum(a != b for a, b in zip(child, parent, strict=True)) for parent in space.asked[i - 10 : i]]
        assert 1 in near
    assert sum(map(sum, space.asked[-10:])) > sum(map(sum, space.asked[:10]))


@pytest.mark.parametrize("kind", m.CLASSES["attention"])
@pytest.mark.parametrize("aggregate", m.CLASSES["aggregate"])
def test_a_layer_agrees_with_dense_arithmetic(graph, kind, aggregate):
    x, edge_index = graph
    edges = m.Edges(edge_index, 30)
    layer = m.Layer(6, SPEC | dict(attention=kind, aggregate=aggregate, activation="tanh"), 0.0)
    with torch.no_grad():
        ours, z = layer(x, edges), layer.transform[1](x).view(30, 2, 4)
        near = torch.eye(30, dtype=torch.bool)
        near[edge_index[1], edge_index[0]] = True
        d, v = near.sum(1).float(), [vector[None, None] for vector in layer.attention.vectors]
        zi, zj = z[:, None], z[None]
        if kind == "const":
            e = near[..., None].float()
        elif kind == "gcn":
            e = (near / (d[:, None] * d[None]).sqrt())[..., None]
        else:
            if kind in ("gat", "sym-gat"):
                score = nn.functional.leaky_relu((zi * v[0] + zj * v[1]).sum(-1), 0.2)
                if kind == "sym-gat":
                    score = score + nn.functional.leaky_relu((zj * v[0] + zi * v[1]).sum(-1), 0.2)
            elif kind == "linear":
                score = (zj * v[0]).sum(-1).tanh().expand(30, 30, 2)
            elif kind == "cos":
                score = ((zi * v[0]) * (zj * v[1])).sum(-1)
            else:
                score = ((zi * v[0] + zj * v[1]).tanh() * v[2]).sum(-1)
            e = score.masked_fill(~near[..., None], -torch.inf).softmax(1)
        messages = e[..., None] * zj
        if aggregate == "max":
            h = messages.masked_fill(~near[..., None, None], -torch.inf).amax(1)
        else:
            h = (messages * near[..., None, None]).sum(1) / (d[:, None, None] if aggregate == "mean" else 1)
    assert torch.allclose(ours, h.flatten(1).tanh(), atol=1e-5)


def test_a_layer_agrees_with_gcnconv_and_gatconv_of_pyg(graph):
    from torch_geometric.nn import GATConv, GCNConv

    x, edge_index = graph
    edges = m.Edges(edge_index, 30)
    with torch.no_grad():
        ours = m.Layer(6, SPEC | dict(attention="gcn", activation="linear"), 0.0)
        gcn = GCNConv(6, 8)
        gcn.lin.weight.copy_(ours.transform[1].weight)
        assert torch.allclose(ours(x, edges), gcn(x, edge_index), atol=1e-5)
        for classes in (None, 4):  # a last layer averages its heads
            ours = m.Layer(6, SPEC | dict(activation="linear"), 0.0, classes=classes)
            gat = GATConv(6, 4, heads=2, concat=classes is None)
            gat.lin.weight.copy_(ours.transform[1].weight)
            for theirs, vector in zip((gat.att_dst, gat.att_src), ours.attention.vectors, strict=True):
                theirs.copy_(vector[None])
            assert torch.allclose(ours(x, edges), gat(x, edge_index), atol=1e-5)


def test_self_loops_in_the_data_are_not_doubled(graph):
    _, edge_index = graph
    loops = torch.cat([edge_index, torch.arange(30).expand(2, -1)], 1)
    assert torch.equal(m.Edges(loops, 30).degree, m.Edges(edge_index, 30).degree)


def networks(change, norm=False):
    """A parent, and a child whose first layer differs by `change`."""
    end = SPEC | dict(activation="linear")
    parent, child = (m.Network(6, 3, [first, end], 0.5, norm).eval() for first in (SPEC, SPEC | change))
    return parent, child


def test_a_copy_into_the_same_architecture_answers_like_its_parent_and_is_a_copy(graph):
    x, edges = graphs.SparseFeatures(graph[0].round()), m.Edges(graph[1], 30)
    parent, child = networks({})
    assert not torch.allclose(parent(x, edges), child(x, edges))
    assert set(m.inherit(child, parent)) == set(parent.state_dict())
    before = parent(x, edges).detach()
    assert torch.equal(before, child(x, edges))
    with torch.no_grad():
        for weight in child.parameters():
            weight.add_(1)
    assert torch.equal(before, parent(x, edges))


@pytest.mark.parametrize(
    ("change", "first"),
    [(dict(activation="relu"), 0), (dict(attention="cos"), 0), (dict(aggregate="max"), 4), (dict(combine="mlp"), 4)],
)
def test_only_homogeneous_layers_inherit(change, first):
    parent, child = networks(change)
    copied = m.inherit(child, parent)
    assert sum(name.startswith("layers.0.") for name in copied) == first
    assert sum(name.startswith("layers.1.") for name in copied) == 4
    free = m.inherit(child, parent, constrained=False)
    assert sum(name.startswith("layers.0.") for name in free) == 4  # two attention vectors, weight and bias all fit


def test_shapes_that_differ_and_normalisation_are_not_copied():
    parent, child = networks(dict(heads=1))
    assert "layers.0.transform.weight" not in m.inherit(child, parent)
    parent, child = networks({}, norm=True)
    with torch.no_grad():
        parent.layers[0].norm.weight.fill_(7)
    m.inherit(child, parent)
    assert (child.layers[0].norm.weight == 1).all()
    assert any("norm" in name for name in m.inherit(child, parent, constrained=False))


def test_the_papers_space_has_a_slot_in_every_layer_and_runs_the_same_search(monkeypatch):
    monkeypatch.setattr(m, "train", lambda graph, split, specs, *_: (specs, len(str(specs)), 0.0))
    space = m.Trained("cora", m.CLASSES, 0, 1, share=True)
    assert len(space.sizes) == 10
    assert [len(one) for one in space.classes] == [1, 2, 2, 2, 2, 1]
    assert math.prod(space.sizes) == 7 * 49 * 36 * 9 * 4 * 8
    specs = space.specs((3, 2, 1, 0, 5, 2, 0, 1, 0, 2))
    assert specs[0] == dict(hidden=32, activation="relu", attention="gat", heads=1, aggregate="max", combine="mlp")
    assert specs[1]["attention"] == "gcn"
    assert specs[1]["heads"] == 16
    ledgers, _ = m.begin([space], [(0, 0)], 15, 4)
    m.controller_search(ledgers, [(0, 0)], space.classes, 0.01, 4)
    assert len(ledgers[0].scores) == 15
    assert ledgers[0].parent in space.nets
