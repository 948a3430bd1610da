"""GBNN: losses, weak models, boosting, the merge, switching off, and the authors' package's numbers."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.neural_network import MLPClassifier, MLPRegressor

from tests.notebooks import load_method

m = load_method("tabular/gbnn")
LOSSES = {0: m.Squared, 2: m.Binary, 4: m.Softmax}


@pytest.fixture(params=[0, 2, 4], ids=["regression", "two classes", "four classes"])
def task(request):
    """x (80, 3), encoded targets, the loss, and the number of classes."""
    rng = np.random.default_rng(request.param)
    x = rng.normal(size=(80, 3))
    s = x[:, 0] - x[:, 1] * x[:, 2]
    y = s if request.param == 0 else np.digitize(s, np.quantile(s, np.arange(1, request.param) / request.param))
    return x, *m.encode(y, request.param), request.param


def test_the_authors_package_gives_the_same_start_residuals_and_steps():
    """Numbers computed once with the classes log_exponential_loss and multi_class_loss of the package GBNN 0.0.2."""
    i = np.arange(12.0)
    y = np.where(np.sin(3 * i) > 0, 1.0, -1.0)[:, None]
    f, h = np.cos(i)[:, None], np.sin(i + 0.5)[:, None]
    r = m.Binary().residual(y, f)
    assert r[:4, 0] == pytest.approx([-1.76159416, 0.50678323, -0.60632061, 1.75735912], abs=1e-8)
    assert m.Binary().start(y) == pytest.approx(0)
    assert m.Binary().step(y, r, h) == pytest.approx(-0.6137724649137499, rel=1e-12)
    y, f = np.eye(3)[np.arange(12) % 3], np.cos(np.outer(i + 1, [1, 2, 3]))
    r = m.Softmax().residual(y, f)
    assert r[0] == pytest.approx([0.37528375, -0.24005028, -0.13523348], abs=1e-8)
    assert m.Softmax().step(y, r, np.sin(np.outer(i + 1, [2, 1, 0.5]))) == pytest.approx(1.0316452986423619, rel=1e-12)


def test_worked_example_with_three_positives_and_one_negative():
    y = np.array([[1.0], [1], [1], [-1]])
    start = m.Binary().start(y)
    r = m.Binary().residual(y, np.tile(start, (4, 1)))
    assert start == pytest.approx(0.5 * np.log(3))
    assert r.ravel() == pytest.approx([0.5, 0.5, 0.5, -1.5])
    assert m.Binary().step(y, r, r) == pytest.approx(4 / 3)
    r = m.Softmax().residual(np.eye(3), np.zeros((3, 3)))
    assert m.Softmax().step(np.eye(3), r, r) == pytest.approx(4.5)


def test_residuals_sum_to_zero_at_the_start(task):
    _, y, loss, classes = task
    r = loss.residual(y, np.tile(loss.start(y), (len(y), 1)))
    assert r.sum(0) == pytest.approx(np.zeros(y.shape[1]), abs=1e-10)


def test_the_newton_step_is_a_minimum_of_the_quadratic_model(task):
    x, y, loss, classes = task
    if classes == 0:
        pytest.skip("the squared loss has no line search")
    rng = np.random.default_rng(9)
    f, h = rng.normal(size=y.shape), rng.normal(size=y.shape)
    if classes == 2:
        p = expit(2 * y * f)
        curvature = 4 * p * (1 - p)
    else:
        p = softmax(f, axis=1)
        curvature = p * (1 - p)
    r = loss.residual(y, f)
    assert loss.step(y, r, h) == pytest.approx((r * h).sum() / (curvature * h**2).sum())


def test_separated_rows_do_not_divide_by_zero():
    y = np.array([[1.0], [-1]])
    r = m.Binary().residual(y, 400 * y)
    assert np.isfinite(m.Binary().step(y, r, y))


def test_squared_error_and_its_gradient_by_finite_differences():
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    lines = np.vstack([x.T, np.ones(12)])
    flat = rng.normal(size=3 * 4 + 4 + 4 * 2 + 2)
    penalty = rng.uniform(size=len(flat))
    value, gradient = m.squared_error(flat, lines, r.T, 4, penalty)
    by_hand = ((m.unpack(flat, 3, 4, 2)(x) - r) ** 2).sum() + (penalty * flat**2).sum()
    assert value == pytest.approx(by_hand / 24)
    for j in range(len(flat)):
        step = np.eye(len(flat))[j] * 1e-6
        up, down = (m.squared_error(flat + s, lines, r.T, 4, penalty)[0] for s in (step, -step))
        assert gradient[j] == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_the_penalty_spares_the_biases():
    rng = np.random.default_rng(0)
    x, r = rng.normal(size=(40, 3)), 5 + rng.normal(size=(40, 2))
    net = m.fit_neurons(x, r, 2, rng, l2=1e6)
    assert net(x) == pytest.approx(np.tile(r.mean(0), (40, 1)), abs=1e-3)


def test_many_neurons_reach_scikit_learns_optimum():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = x[:, 0] ** 2 - x[:, 1]
    options = dict(hidden_layer_sizes=(4,), activation="logistic", solver="lbfgs", alpha=0.5, tol=1e-9, max_iter=5000)
    peer = [MLPRegressor(random_state=s, **options).fit(x, y).loss_ for s in range(5)]
    penalty, lines = np.repeat([0.5, 0, 0.5, 0], [8, 4, 4, 1]), np.vstack([x.T, np.ones(60)])
    ours = []
    for s in range(5):
        net = m.fit_neurons(x, y[:, None], 4, np.random.default_rng(s), l2=0.5, iterations=2000)
        flat = np.concatenate([part.ravel() for part in (net.w, net.b, net.v, net.c)])
        ours.append(m.squared_error(flat, lines, y[None], 4, penalty)[0])
    assert min(ours) == pytest.approx(min(peer), rel=1e-5)


def test_one_neuron_recovers_one_neuron():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2))
    truth = 3 * expit(x @ np.array([2.0, -1.0]) + 0.5) - 1
    fits = [m.fit_neurons(x, truth[:, None], 1, np.random.default_rng(s), l2=1e-6)(x)[:, 0] for s in range(3)]
    assert min(np.abs(fit - truth).max() for fit in fits) < 0.05


def test_merge_equals_the_staged_sum_at_every_truncation(task):
    x, y, loss, _ = task
    start, terms = m.boost(x, y, loss, np.random.default_rng(0), steps=6, per_step=2, iterations=30)
    staged = np.tile(start, (len(x), 1))
    for t, (scale, net) in enumerate(terms, 1):
        staged = staged + scale * net(x)
        merged = m.merge(start, terms, t)
        assert merged.w.shape == (3, 2 * t)
        assert np.abs(merged(x) - staged).max() < 1e-11
    with pytest.raises(ValueError, match="at least one term"):
        m.merge(start, terms, 0)


def test_boosting_lowers_the_loss_and_full_rows_never_raise_squared_error(task):
    x, y, loss, classes = task
    options = dict(steps=10, subsample=1.0, iterations=200, eta=1.0 if classes == 0 else 0.5)
    start, terms = m.boost(x, y, loss, np.random.default_rng(0), **options)
    sizes = [np.abs(loss.residual(y, np.tile(start, (len(x), 1)))).mean()]
    sizes += [np.abs(loss.residual(y, m.merge(start, terms, t)(x))).mean() for t in range(1, 11)]
    assert sizes[-1] < 0.6 * sizes[0]
    if classes == 0:
        errors = [((y - m.merge(start, terms, t)(x)) ** 2).mean() for t in range(1, 11)]
        assert all(b <= a + 1e-6 for a, b in zip(errors, errors[1:], strict=False))


def test_the_subsample_is_random_and_of_its_size_and_the_seed_fixes_it(task, monkeypatch):
    x, y, loss, _ = task
    seen = []
    original = m.fit_neurons
    monkeypatch.setattr(m, "fit_neurons", lambda xs, *a, **k: seen.append(xs) or original(xs, *a, **k))
    first = m.merge(*m.boost(x, y, loss, np.random.default_rng(4), steps=3, subsample=0.25, iterations=10))
    assert [len(xs) for xs in seen] == [20, 20, 20]
    assert not np.array_equal(seen[0], seen[1])
    assert len(np.unique(seen[0], axis=0)) == 20, "without replacement"
    again = m.merge(*m.boost(x, y, loss, np.random.default_rng(4), steps=3, subsample=0.25, iterations=10))
    assert np.array_equal(first(x), again(x))


def test_boosting_ends_when_nothing_is_left():
    x = np.linspace(-1, 1, 30)[:, None]
    _, terms = m.boost(x, np.full((30, 1), 2.0), m.Squared(), np.random.default_rng(0), steps=5)
    assert terms == []


def test_a_network_reads_back_what_scikit_learn_computes():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 4)), np.arange(90) % 3
    peer = MLPClassifier(hidden_layer_sizes=(7,), activation="logistic", max_iter=5, random_state=0)
    with pytest.warns(Warning):
        peer.fit(x, y)
    net = m.from_sklearn(peer)
    assert softmax(net(x), axis=1) == pytest.approx(peer.predict_proba(x))


def test_dropped_neurons_stay_at_their_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    net = m.Network(rng.normal(size=(3, 6)), rng.normal(size=6), rng.normal(size=(6, 2)), np.zeros(2))
    order = m.by_size(net, x)
    assert sorted(order) == list(range(6))
    assert np.allclose(m.keep(net, x, order, 1.0)(x), net(x))
    half = m.keep(net, x, order, 0.5)
    assert half.w.shape == (3, 3)
    assert np.allclose(half(x).mean(0), net(x).mean(0)), "the mean output is kept"
    best = ((half(x) - net(x)) ** 2).sum()
    assert best < ((m.keep(net, x, order[::-1], 0.5)(x) - net(x)) ** 2).sum(), "the largest neurons matter most"
