"""Black-box interpretation: probes in closed form, rules, Shapley values, and independent implementations."""

from itertools import combinations
from math import factorial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.inspection import permutation_importance
from sklearn.tree import DecisionTreeClassifier
from xgboost import DMatrix, XGBRegressor

from shared import device
from tests.notebooks import load_method

m = load_method("tabular/black-box-interpretation")


class Linear(m.BlackBox):
    """Logits W x + b."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.as_tensor(weight)

    def forward(self, x):
        return x @ self.weight.T


def san(columns=20, classes=3, seed=0):
    """A SAN in evaluation mode whose attention is not uniform."""
    with device.fork(seed):
        net = m.SAN(columns, classes)
        with torch.no_grad():
            net.u.normal_()
            net.a.normal_()
    return net.eval()


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=device.generator(seed))


def wave(*shape, shift):
    """Numbers by formula, the same for every library."""
    return torch.sin(torch.arange(int(np.prod(shape)), dtype=torch.float64) * 0.7 + shift).reshape(shape)


def labelled_tree(seed=0, depth=4, d=6, n=400):
    """Rows (n, d), and a tree on a label that needs several columns."""
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 0.5)
    return x, DecisionTreeClassifier(max_depth=depth, random_state=0).fit(x, y)


# --- black boxes ---------------------------------------------------------------------------------------------------


def test_attention_is_equation_1_and_starts_as_the_identity():
    net, x = san(), rows(7, 20)
    logits = x @ (net.u @ net.v.T).T + net.a
    assert torch.allclose(net.attention(x), logits.softmax(1), atol=1e-5)
    assert torch.allclose(net(x), net.head(20 * x * logits.softmax(1)), atol=1e-4)
    fresh = m.SAN(20, 3).eval()
    assert torch.allclose(fresh.attention(x), torch.full((7, 20), 0.05))
    assert torch.allclose(fresh(x), fresh.head(x), atol=1e-5)


def test_dropout_acts_in_training_only():
    net, x = san(), rows(7, 20)
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize("kind", ["SAN", "CAE"])
def test_shifting_columns_is_changing_copies(kind):
    net = san() if kind == "SAN" else m.CAE(20, 3).eval()
    x, change, columns = rows(5, 20), rows(5, 3, seed=1), torch.tensor([19, 0, 7])
    answers = net.shifted(x, columns, change)
    for i, j in enumerate(columns):
        copy = x.clone()
        copy[:, j] += change[:, i]
        assert torch.allclose(answers[i], net(copy), atol=1e-4)


@pytest.mark.parametrize("columns", [9, 57, 784, 2308])
def test_the_decoder_mirrors_the_encoder_for_any_number_of_columns(columns):
    net = m.CAE(columns, 4)
    x = rows(3, columns)
    code = net.encoder(x)
    assert code.shape == (3, 64) and net.decoder(code).shape == x.shape and net(x).shape == (3, 4)


def test_the_autoencoder_is_trained_by_equation_2():
    net, x, y = m.CAE(20, 3), rows(6, 20), torch.tensor([0, 1, 2, 0, 1, 2])
    code = net.encoder(x)
    squared = ((net.decoder(code) - x) ** 2).sum(1).mean() / 20
    expected = F.cross_entropy(net.classifier(code), y) + 0.1 * squared
    assert m.autoencoder_loss(net, x, y, None).item() == pytest.approx(expected.item(), rel=1e-5)


# --- probes --------------------------------------------------------------------------------------------------------


def test_sensitivity_of_a_linear_black_box_has_a_closed_form():
    weight = torch.tensor([[1.0, -2.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.5]])
    x = rows(200, 4)
    p = (x @ weight.T).softmax(1).max(1).values
    expected = (1 - p).mean() * (weight[0] - weight[1]).abs()
    assert torch.allclose(m.sensitivity_probe(Linear(weight), x), expected, atol=1e-6)


def test_sensitivity_agrees_with_captum():
    """captum 0.9.0: Saliency(log_softmax of the network).attribute(x, target=argmax, abs=True), mean over rows."""

    class Net(m.BlackBox):
        def forward(self, x):
            return torch.tanh(x @ wave(4, 5, shift=0.1).T + wave(4, shift=0.5)) @ wave(3, 4, shift=0.9).T

    x = wave(6, 5, shift=2.0)
    assert Net()(x).argmax(1).tolist() == [0, 2, 2, 0, 2, 0]
    expected = [0.078268, 0.110618, 0.103067, 0.078852, 0.06742]
    assert m.sensitivity_probe(Net(), x).tolist() == pytest.approx(expected, abs=1e-6)


def test_perturbation_agrees_with_scikit_learns_permutation_importance():
    net, x = san(8), rows(60, 8)
    with torch.no_grad():
        log_p = F.log_softmax(net(x), 1)

    def minus_divergence(estimator, moved, _):
        with torch.no_grad():
            log_q = F.log_softmax(net(torch.as_tensor(moved)), 1)
        return -float((log_p.exp() * (log_p - log_q)).sum(1).mean())

    class Estimator:
        def fit(self, *_):
            """Nothing to fit: scikit-learn asks for the method."""

    theirs = permutation_importance(
        Estimator(), x.numpy(), np.zeros(60), scoring=minus_divergence, n_repeats=1, random_state=3
    ).importances_mean
    order = np.arange(60)  # scikit-learn draws one seed and shuffles every column with it
    np.random.RandomState(np.random.RandomState(3).randint(np.iinfo(np.int32).max + 1)).shuffle(order)
    ours = m.perturbation_probe(net, x, torch.as_tensor(order))
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-3, abs=1e-6)


def test_blocks_do_not_matter_and_nothing_moves_without_a_shuffle():
    net, x = san(), rows(30, 20)
    order = torch.randperm(30, generator=device.generator(1))
    whole, pieces = (m.perturbation_probe(net, x, order, numbers=n) for n in (10**9, 1500))
    assert torch.allclose(whole, pieces, atol=1e-6) and (whole > 0).all()
    assert m.perturbation_probe(net, x, torch.arange(30)).abs().max() < 1e-6


def test_a_column_without_weight_scores_zero():
    weight = rows(3, 6)
    weight[:, 4] = 0
    x, order = rows(50, 6, seed=2), torch.randperm(50, generator=device.generator(0))
    assert m.sensitivity_probe(Linear(weight), x)[4] == 0
    assert m.perturbation_probe(Linear(weight), x, order)[4] == 0


def test_attention_is_averaged_over_rows_that_are_classified_correctly():
    net, x = san(), rows(12, 20)
    y = net(x).argmax(1)
    y[:5] = (y[:5] + 1) % 3
    assert torch.allclose(m.attention_probe(net, x, y), net.attention(x[5:]).mean(0), atol=1e-6)
    assert m.attention_probe(net, x, y).sum().item() == pytest.approx(1, abs=1e-5)


def test_ranks_are_averaged_whatever_the_units():
    a, b = np.array([5.0, 1.0, 3.0]), np.array([0.1, 0.2, 0.3])
    assert m.combine(a, b) == pytest.approx([-2.0, -2.5, -1.5])
    assert m.combine(1000 * a, b**3) == pytest.approx(m.combine(a, b))
    assert m.combine(np.array([1.0, 1.0, 0.0])) == pytest.approx([-1.5, -1.5, -3.0]), "equal scores share their ranks"
    assert m.best(m.combine(a, b), 2).tolist() == [2, 0]
    assert m.best(np.array([1.0, 2.0, 2.0, 0.0]), 2).tolist() == [1, 2]


# --- fidelity ------------------------------------------------------------------------------------------------------


def test_fidelity_of_a_copy_of_the_mean_and_of_a_worked_example():
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    assert m.agreement(p, p) == 100 and m.r_squared(p, p) == 1
    assert m.r_squared(np.tile(p.mean(0), (3, 1)), p) == pytest.approx(0)
    q = np.array([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7]])
    assert m.agreement(q, p) == pytest.approx(200 / 3)
    assert m.r_squared(q, p) == pytest.approx(1 - 0.14 / 0.26)  # (0.09+0.04+0.01) / (0.16+0.01+0.09)
    never = np.column_stack([p, np.zeros(3)])
    assert m.r_squared(np.column_stack([q, np.zeros(3)]), never) == pytest.approx(1 - 0.14 / 0.26)


def test_probabilities_keep_their_class_when_some_are_absent():
    x = np.array([[0.0], [0.1], [1.0], [1.1]])
    for kind in ("tree", "boosted"):
        given = m.probabilities(m.make_surrogate(kind, 0), x, np.array([1, 1, 3, 3]), x, 5)
        assert given.shape == (4, 5) and given.sum(1) == pytest.approx(1)
        assert (given[:, [0, 2, 4]] == 0).all()
    given = m.probabilities(m.make_surrogate("tree", 0), x, np.array([2, 2, 2, 2]), x, 3)
    assert given.tolist() == [[0, 0, 1]] * 4


# --- rules ---------------------------------------------------------------------------------------------------------


def test_rules_divide_the_space_and_are_the_tree():
    x, tree = labelled_tree()
    found = m.leaves(tree.tree_)
    inside = np.array([m.covered(leaf, x) for leaf in found])
    assert (inside.sum(0) == 1).all() and len(found) == tree.get_n_leaves()
    values = np.array([leaf.value for leaf in found])
    assert np.allclose(values[inside.argmax(0)], tree.predict_proba(x))
    nodes = np.flatnonzero(tree.tree_.children_left == -1)  # scikit-learn's leaves, from left to right
    assert (nodes[inside.argmax(0)] == tree.apply(x)).all()


def test_a_rule_names_the_columns_on_scikit_learns_decision_path():
    x, tree = labelled_tree()
    found, path = m.leaves(tree.tree_), tree.decision_path(x[:50])
    for i, row in enumerate(x[:50]):
        leaf = next(leaf for leaf in found if m.covered(leaf, row[None])[0])
        nodes = path.indices[path.indptr[i] : path.indptr[i + 1]]
        assert set(leaf.box) == {int(j) for j in tree.tree_.feature[nodes] if j >= 0}


def test_the_shares_kept_for_a_leaf_multiply_to_its_support():
    x, tree = labelled_tree()
    for leaf in m.leaves(tree.tree_):
        assert np.prod(list(leaf.followed.values())) == pytest.approx(m.covered(leaf, x).mean())


def test_a_counterfactual_is_the_nearest_point_of_another_class():
    x, tree = labelled_tree(depth=3, d=3)
    found = m.leaves(tree.tree_)
    g = np.random.default_rng(1)
    for row in x[:20]:
        point, distance, leaf = m.counterfactual(found, row)
        own = tree.predict(row[None])[0]
        assert tree.predict(point[None])[0] == tree.classes_[leaf.value.argmax()] != own
        assert distance == pytest.approx(abs(point - row).sum(), abs=1e-6)
        assert all(point[j] == row[j] for j in range(3) if j not in leaf.box)
        steps = g.dirichlet(np.ones(3), 4000) * g.choice([-1, 1], (4000, 3)) * (distance - 0.01)
        assert (tree.predict(row + steps) == own).all(), "no nearer point has another class"


def test_no_counterfactual_without_a_second_class():
    leaf = m.Leaf({}, {}, np.array([1.0, 0.0]))
    assert m.counterfactual([leaf], np.zeros(2)) == (None, np.inf, None)


# --- Shapley values ------------------------------------------------------------------------------------------------


def expectation(tree, x, known, node=0):
    """The tree's answer when only the columns in `known` are known: other splits are averaged over training rows."""
    left, right = tree.children_left[node], tree.children_right[node]
    if left == right:
        return tree.value[node].ravel()
    if tree.feature[node] in known:
        return expectation(tree, x, known, left if x[tree.feature[node]] <= tree.threshold[node] else right)
    n = tree.weighted_n_node_samples
    return sum(n[c] / n[node] * expectation(tree, x, known, c) for c in (left, right))


def test_shapley_values_are_those_of_all_subsets():
    x, tree = labelled_tree(d=6, depth=4)
    found = m.leaves(tree.tree_)
    for row in x[:5]:
        phi = np.zeros((6, 3))
        for j in range(6):
            for size in range(6):
                for known in combinations([i for i in range(6) if i != j], size):
                    weight = factorial(size) * factorial(5 - size) / factorial(6)
                    gain = expectation(tree.tree_, row, {*known, j}) - expectation(tree.tree_, row, set(known))
                    phi[j] += weight * gain
        assert np.allclose(m.shapley(found, row), phi, atol=1e-12)
        answer = tree.predict_proba(row[None])[0]
        assert np.allclose(m.shapley(found, row).sum(0) + tree.tree_.value[0].ravel(), answer)


def as_arrays(booster):
    """XGBoost's first tree in scikit-learn's arrays."""
    frame = booster.trees_to_dataframe().sort_values("Node")
    number = {name: i for i, name in enumerate(frame["ID"])}
    inner = (frame["Feature"] != "Leaf").to_numpy()
    features = [int(name[1:]) if inside else -2 for name, inside in zip(frame["Feature"], inner, strict=True)]
    return SimpleNamespace(
        children_left=np.array([number.get(name, -1) for name in frame["Yes"]]),
        children_right=np.array([number.get(name, -1) for name in frame["No"]]),
        feature=np.array(features),
        threshold=np.nextafter(frame["Split"].to_numpy(np.float32), np.float32(-np.inf)),  # left is < there, <= here
        value=np.where(inner, 0.0, frame["Gain"].to_numpy(float))[:, None, None],
        weighted_n_node_samples=frame["Cover"].to_numpy(float),
    )


def test_shapley_values_agree_with_xgboost():
    x = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    y = np.where(x[:, 0] > 0, x[:, 1], x[:, 2] ** 2) + 0.5 * (x[:, 3] > 1)
    model = XGBRegressor(n_estimators=1, max_depth=4, learning_rate=1.0, reg_lambda=0.0, base_score=0.0, n_jobs=1)
    model.fit(x, y)
    theirs = model.get_booster().predict(DMatrix(x[:40]), pred_contribs=True)
    found = m.leaves(as_arrays(model.get_booster()))
    ours = np.array([m.shapley(found, row)[:, 0] for row in x[:40]])
    assert ours == pytest.approx(theirs[:, :5], abs=2e-5)
    assert abs(ours).max() > 0.3


# --- TabNet --------------------------------------------------------------------------------------------------------


def test_sparsemax_is_the_projection_onto_the_simplex():
    z = 2 * rows(50, 7)
    p = m.sparsemax(z)
    assert torch.allclose(p.sum(1), torch.ones(50), atol=1e-5) and (p >= 0).all() and (p == 0).any()
    low, high = z.min(1).values - 1, z.max(1).values  # the threshold tau with sum max(z - tau, 0) = 1, by bisection
    for _ in range(60):
        middle = (low + high) / 2
        above = (z - middle[:, None]).clamp(min=0).sum(1) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    assert torch.allclose(p, (z - low[:, None]).clamp(min=0), atol=1e-5)
    assert torch.allclose(m.sparsemax(z + 3.0), p, atol=1e-5)
    assert m.sparsemax(torch.tensor([[0.1, 5.0, 0.3]])).tolist() == [[0.0, 1.0, 0.0]]


def test_tabnet_reads_only_what_its_masks_let_through():
    with device.fork(0):
        net = m.TabNet(12, 3).eval()
    x = rows(9, 12)
    assert net(x).shape == (9, 3)
    with torch.no_grad():
        for attend in net.attend:  # each mask then has a single column, number 4
            attend[1].weight.zero_()
            attend[1].bias.copy_(torch.where(torch.arange(12) == 4, 99.0, 0.0))
    other = x.clone()
    other[:, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]] += 1
    assert torch.allclose(net(x), net(other), atol=1e-6)
    other[:, 4] += 1
    assert not torch.allclose(net(x), net(other), atol=1e-3)
