"""Deep Interest Network: closed forms, invariants, and figures of an independent implementation."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from tests.notebooks import load_method


@pytest.fixture(scope="module")
def m():
    return load_method("graphs/din")


def wave(*shape, phase=0.0):
    """Numbers that anybody can make again: sin(0.7 i + phase), in float64."""
    return torch.sin(0.7 * torch.arange(math.prod(shape), dtype=torch.float64) + phase).reshape(shape)


def example(m, length=6, dim=4, candidates=3):
    """A unit in float64, behaviours (5, T, D), candidates (5, C, D) and a mask whose last history is empty."""
    torch.manual_seed(0)
    e, v = torch.randn(5, length, dim, dtype=torch.float64), torch.randn(5, candidates, dim, dtype=torch.float64)
    mask = torch.arange(length) < torch.tensor([length, 4, 1, 3, 0])[:, None]
    return m.ActivationUnit(dim).double(), e, v, mask


def user_vectors(m, pooling, unit, e, v, mask):
    with torch.no_grad():
        return (m.history_weights(pooling, unit, e, v, mask).double() @ e).expand_as(v)


# --- agreement with deepctr-torch 0.3.0 -------------------------------------------------------------------------------
# Its AttentionSequencePoolingLayer(att_hidden_units=(5, 4), att_activation="sigmoid", embedding_dim=3) was given, in
# the order of named_parameters(), wave(*shape, phase=0.3 i) as its i-th parameter, in float64; query
# wave(3, 1, 3, phase=1), keys wave(3, 4, 3), lengths 4, 2, 1. Its softmax form does not divide by sqrt(D).

PEER_RAW = [
    [0.01209653, 1.67257691, 2.54641823],
    [-0.08223825, -1.72970806, -2.56366915],
    [-2.32808227, -2.55906036, -1.58647237],
]
PEER_SOFTMAX = [
    [-0.00038387, 0.15637425, 0.23958712],
    [-0.02102599, -0.33638591, -0.49353827],
    [-0.88756703, -0.97562601, -0.60483282],
]


def peer_example(m):
    unit = m.DemoUnit(3, hidden=(5, 4)).double()
    layers = (unit.one, unit.two, unit.out)
    with torch.no_grad():
        for i, parameter in enumerate(p for layer in layers for p in (layer.weight, layer.bias)):
            parameter.copy_(wave(*parameter.shape, phase=0.3 * i))
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    return unit, wave(3, 4, 3), wave(3, 1, 3, phase=1.0), mask


def test_raw_weights_agree_with_deepctr_torch(m):
    unit, e, v, mask = peer_example(m)
    ours = user_vectors(m, "din", unit, e, v, mask)[:, 0] * 4  # ours divides by T
    torch.testing.assert_close(ours, torch.tensor(PEER_RAW, dtype=torch.float64), atol=1e-7, rtol=0)


def test_softmax_weights_agree_with_deepctr_torch(m):
    unit, e, v, mask = peer_example(m)
    with torch.no_grad():
        weights = m.masked_softmax(unit(e, v, mask), mask[:, None], 1.0)
    torch.testing.assert_close((weights @ e)[:, 0], torch.tensor(PEER_SOFTMAX, dtype=torch.float64), atol=1e-7, rtol=0)


# deepctr-torch 0.3.0's Dice(3) in float64, alpha (0.25, 0, -0.5): on wave(5, 3) in training, then on
# wave(2, 3, phase=2) with the running mean and variance that this one batch had left.
PEER_DICE = [
    [0.0, 0.43640141, 0.6461011],
    [0.69774627, 0.18681104, -0.00277513],
    [-0.32620625, -0.12322246, 0.07274223],
    [0.00975201, 0.44806459, 0.64888526],
    [0.68915555, 0.17588317, -0.00019005],
]
PEER_MEAN = [0.017260928056158347, 0.019456763716748093, 0.012501779381031844]
PEER_VAR = [0.9521606730000984, 0.9459154738483143, 0.9631323444507036]
PEER_DICE_EVAL = [[0.71415284, 0.25785758, -0.03787378], [-0.38752729, -0.25933177, 0.00899764]]


def test_dice_agrees_with_deepctr_torch(m):
    dice = m.Dice(3).double()
    dice.alpha.data = torch.tensor([0.25, 0.0, -0.5], dtype=torch.float64)
    torch.testing.assert_close(
        dice(wave(5, 3)).detach(), torch.tensor(PEER_DICE, dtype=torch.float64), atol=1e-7, rtol=0
    )
    torch.testing.assert_close(dice.mean, torch.tensor(PEER_MEAN, dtype=torch.float64))
    # theirs keeps the unbiased variance, n / (n - 1) of ours
    unbiased = 0.9 + (dice.var - 0.9) * 5 / 4
    torch.testing.assert_close(unbiased, torch.tensor(PEER_VAR, dtype=torch.float64))
    dice.eval()
    dice.var.copy_(unbiased)
    after = dice(wave(2, 3, phase=2.0)).detach()
    torch.testing.assert_close(after, torch.tensor(PEER_DICE_EVAL, dtype=torch.float64), atol=1e-7, rtol=0)


# --- pooling ----------------------------------------------------------------------------------------------------------


def test_constant_unit_gives_the_base_models(m):
    unit, e, v, mask = example(m)
    torch.nn.init.zeros_(unit.out.weight)
    torch.nn.init.ones_(unit.out.bias)
    total = (e * mask[..., None]).sum(1, keepdim=True).expand_as(v)
    count = mask.sum(1).clamp(min=1)[:, None, None]
    for pooling, expected in {
        "sum": total / 6,
        "din": total / 6,
        "mean": total / count,
        "softmax": total / count,
    }.items():
        torch.testing.assert_close(user_vectors(m, pooling, unit, e, v, mask), expected, msg=pooling)


@pytest.mark.parametrize(
    ("pooling", "factor"), [("din", 2.0), ("blind", 2.0), ("softmax", 1.0), ("sum", 2.0), ("mean", 1.0)]
)
def test_twice_the_history(m, pooling, factor):
    unit, e, v, mask = example(m)
    plain = user_vectors(m, pooling, unit, e, v, mask)
    doubled = user_vectors(m, pooling, unit, torch.cat([e, e], 1), v, torch.cat([mask, mask], 1))
    divisor = 2.0 if factor == 2.0 else 1.0  # weights that are not normalised are divided by the tensor's length
    torch.testing.assert_close(doubled * divisor, plain * factor)


@pytest.mark.parametrize("pooling", ["din", "softmax", "blind", "sum", "mean"])
def test_order_padding_and_empty_histories(m, pooling):
    unit, e, v, mask = example(m)
    plain = user_vectors(m, pooling, unit, e, v, mask)
    assert plain[4].eq(0).all()  # an empty history; softmax must not make NaN of it
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(user_vectors(m, pooling, unit, e[:, order], v, mask[:, order]), plain)
    padded = torch.cat([e, torch.full((5, 2, 4), 1e3, dtype=torch.float64)], 1)
    longer = user_vectors(m, pooling, unit, padded, v, F.pad(mask, (0, 2)))
    torch.testing.assert_close(longer * (8 / 6 if pooling in ("din", "blind", "sum") else 1), plain)


def test_only_a_unit_that_sees_the_candidate_tells_candidates_apart(m):
    unit, e, v, mask = example(m)
    differ = {
        pooling: bool((user_vectors(m, pooling, unit, e, v, mask).diff(dim=1).abs() > 1e-9).any())
        for pooling in ("sum", "mean", "blind", "din", "softmax")
    }
    assert differ == {"sum": False, "mean": False, "blind": False, "din": True, "softmax": True}


def test_each_candidate_is_scored_alone(m):
    unit, e, v, mask = example(m)
    together = unit(e, v, mask)
    for c in range(3):
        torch.testing.assert_close(together[:, c : c + 1], unit(e, v[:, c : c + 1], mask))


def test_unit_is_one_hidden_layer_of_the_stacked_input(m):
    unit, e, v, mask = example(m)
    torch.nn.init.constant_(unit.activation.alpha, 0.3)
    matrix = torch.cat([unit.behaviour.weight, unit.product.weight, unit.candidate.weight], 1)
    expected = torch.empty(5, 3, 6, dtype=torch.float64)
    for b in range(5):
        for c in range(3):
            for t in range(6):
                s = matrix @ torch.cat([e[b, t], e[b, t] * v[b, c], v[b, c]]) + unit.behaviour.bias
                s = torch.where(s > 0, s, 0.3 * s)
                expected[b, c, t] = (unit.out.weight[0] @ s + unit.out.bias[0]).detach()
    torch.testing.assert_close(unit(e, v, mask).detach(), expected)


# --- Dice, regularisation, metric -------------------------------------------------------------------------------------


def test_dice_worked_example_and_limits(m):
    dice = m.Dice(1)
    torch.nn.init.constant_(dice.alpha, 0.25)
    batch = torch.tensor([[-1.0], [0.0], [1.0]])
    torch.testing.assert_close(dice(batch).flatten().detach(), torch.tensor([-0.4203, 0.0, 0.8297]), atol=1e-4, rtol=0)
    dice.eval()
    dice.mean.fill_(2.0)
    assert dice(torch.tensor([[2.0]])).item() == pytest.approx(1.25)
    dice.var.fill_(1e-12)
    torch.testing.assert_close(dice(torch.tensor([[1.0], [3.0]])).detach(), torch.tensor([[0.25], [3.0]]))
    torch.nn.init.ones_(dice.alpha)
    torch.testing.assert_close(dice(batch).detach(), batch)


def test_prelu_is_pytorchs(m):
    ours, theirs = m.PReLU(4).double(), torch.nn.PReLU(4).double()
    s = wave(6, 4)
    torch.testing.assert_close(ours(s), theirs(s))
    ours.alpha.data = theirs.weight.data = torch.tensor([0.0, 0.5, 1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(ours(s), theirs(s))
    gradients = [torch.autograd.grad(f(s).square().sum(), f.parameters())[0] for f in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_padding_does_not_enter_dice(m):
    unit = m.ActivationUnit(4, activation=m.Dice)
    _, e, v, mask = (x.float() if torch.is_tensor(x) and x.dtype == torch.float64 else x for x in example(m))
    clean = unit(e, v, mask)
    state = unit.activation.var.clone()
    noisy = unit(torch.where(mask[..., None], e, 100.0), v, mask)
    torch.testing.assert_close(torch.where(mask[:, None], noisy, 0.0), torch.where(mask[:, None], clean, 0.0))
    expected = torch.lerp(torch.ones_like(state), (state - 0.9) / 0.1, 0.19)  # two batches of the same variance
    torch.testing.assert_close(unit.activation.var, expected)


def test_mba_sums_to_plain_l2_and_leaves_absent_rows_alone(m):
    table = wave(6, 3).requires_grad_()
    epoch = [[0, 1, 4], [0, 2], [0, 1], [0, 2, 3, 3]]
    counts = torch.bincount(torch.cat([torch.unique(torch.tensor(ids)) for ids in epoch]), minlength=6)
    total = sum(m.mba_penalty(table, torch.tensor(ids), counts) for ids in epoch)
    torch.testing.assert_close(total, 0.5 * table[:5].square().sum())
    gradient = torch.autograd.grad(m.mba_penalty(table, torch.tensor([[0, 3], [0, 3]]), counts), table)[0]
    expected = torch.zeros_like(gradient)
    expected[0], expected[3] = table[0] / 4, table[3]
    torch.testing.assert_close(gradient, expected.detach())


def test_loss_is_cross_entropy_and_the_penalty_of_what_the_batch_holds(m):
    torch.manual_seed(0)
    net = m.Network(small_log(m), "mean", 3, dim=4, dim_kind=2)
    row, candidates, labels = torch.tensor([3]), torch.tensor([[4, 3]]), torch.tensor([[0.0, 1.0]])
    plain = F.binary_cross_entropy_with_logits(net(row, candidates), labels)
    torch.testing.assert_close(m.loss_of(net, row, candidates, labels), plain)
    counts = torch.tensor([1, 2, 3, 4, 5])
    norms = net.embeddings.item.weight.square().sum(1) / counts  # history 0, 1, 2 and candidates 3, 4: all of them
    found = m.loss_of(net, row, candidates, labels, 0.3, counts)
    torch.testing.assert_close(found, plain + 0.3 * norms.sum() / 2)
    only = m.loss_of(net, row - 2, candidates, labels, 0.3, counts)  # history 0, candidates 3, 4
    bare = F.binary_cross_entropy_with_logits(net(row - 2, candidates), labels)
    torch.testing.assert_close(only, bare + 0.3 * norms[[0, 3, 4]].sum() / 2)


def test_gauc_agrees_with_scikit_learn(m):
    draw = np.random.default_rng(1)
    user, label = draw.integers(0, 30, 500), draw.integers(0, 2, 500)
    score = np.round(label + 2 * draw.standard_normal(500), 1)
    label[user == 3], label[user == 4] = 1, 0  # users with one label only do not count
    aucs = {u: roc_auc_score(label[user == u], score[user == u]) for u in np.unique(user) if u not in (3, 4)}
    expected = np.average(list(aucs.values()), weights=[(user == u).sum() for u in aucs])
    assert m.gauc(user, label, score) == pytest.approx(expected)
    assert m.gauc(user, label, score + 10 * user) == pytest.approx(expected)
    assert roc_auc_score(label, score + 10 * user) != pytest.approx(roc_auc_score(label, score))
    assert m.gauc(0 * user, label, score) == pytest.approx(roc_auc_score(label, score))
    assert math.isnan(m.gauc([0, 0], [1, 1], [0.1, 0.2]))


def test_rela_impr(m):
    assert m.rela_impr(0.8818, 0.8624) == pytest.approx(5.35, abs=0.01)
    assert m.rela_impr(0.8698, 0.8624) == pytest.approx(2.04, abs=0.01)
    assert m.rela_impr(0.7, 0.7) == 0


# --- the log and the network ------------------------------------------------------------------------------------------


def small_log(m):
    """Two users with 4 and 3 behaviours over 5 items of at most 2 kinds."""
    return m.Log(
        user=torch.tensor([0, 0, 0, 0, 1, 1, 1]),
        item=torch.tensor([0, 1, 2, 3, 4, 2, 0]),
        rating=torch.tensor([5, 3, 0, 1, 2, 4, 5]),
        start=torch.tensor([0, 0, 0, 0, 4, 4, 4]),
        kinds=torch.tensor([[1, 2], [1, 0], [2, 0], [3, 1], [0, 0]]),
    )


def test_history_is_the_past_of_the_same_user(m):
    log = small_log(m)
    rows, mask = log.history(torch.tensor([3, 4, 6]), 2)
    found = [log.item[r[k]].tolist() for r, k in zip(rows, mask, strict=True)]
    assert found == [[2, 1], [], [2, 4]]  # latest first; never the event itself, never the other user


def test_kinds_are_averaged(m):
    log = small_log(m)
    table = m.Embeddings(log.kinds, 2, 3)
    kind = table.kind.weight
    torch.testing.assert_close(table.table()[0, 2:], (kind[1] + kind[2]) / 2)
    torch.testing.assert_close(table.table()[1, 2:], kind[1])
    assert table.table()[4, 2:].eq(0).all()


@pytest.mark.parametrize("pooling", ["sum", "mean", "blind", "din", "softmax"])
def test_network_scores_candidates_independently(m, pooling):
    torch.manual_seed(0)
    net = m.Network(small_log(m), pooling, 3, dim=4, dim_kind=2, hidden=5, head=(6, 4)).eval()
    row, candidates = torch.tensor([3, 6]), torch.tensor([[0, 1, 4], [3, 1, 2]])
    logits = net(row, candidates)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(net(row, candidates.flip(1)), logits.flip(1))
    u, v, weights = net.pool(row, candidates)
    torch.testing.assert_close(net.score(net.scale * u + net.shift, v, candidates), logits)
    assert weights.shape[2] == 3 and u.shape == v.shape == (2, 3, 6)


def test_stars_scale_the_behaviours(m):
    torch.manual_seed(0)
    net = m.Network(small_log(m), "sum", 3, dim=4, dim_kind=2).eval()
    torch.nn.init.constant_(net.embeddings.rating.weight[3:4], -1.0)  # three stars now count for nothing
    u, _, _ = net.pool(torch.tensor([3]), torch.tensor([[0]]))
    table = net.embeddings.table()
    torch.testing.assert_close(u[0, 0], (table[0] + table[2]) / 3)


# --- events -----------------------------------------------------------------------------------------------------------


def reviews(users=12, items=60, seed=0):
    """Ratings with 8 to 19 distinct items a user; two share every time stamp."""
    draw = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        chosen = draw.permutation(items)[: 8 + user]
        rows += [(user + 100, item + 7, draw.integers(1, 6), k // 2) for k, item in enumerate(chosen)]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"]).sample(frac=1.0, random_state=seed)
    genres = [["a", "b"][: 1 + item % 2] for item in range(items)]
    return SimpleNamespace(ratings=frame, items=pd.DataFrame({"genres": genres}, index=np.arange(items) + 7))


def test_log_keeps_users_together_and_in_time(m):
    source = reviews()
    log = m.make_log(source, stars=True, whole_path=True, seed=1, device="cpu")
    assert (log.user.diff() >= 0).all() and (log.start.diff() >= 0).all()
    known = source.ratings.set_index(["user", "item"])
    for row in range(len(log.item)):
        one = known.loc[(int(log.user[row]) + 100, int(log.item[row]) + 7)]
        assert one.rating == log.rating[row] and one.timestamp == (row - log.start[row]) // 2
    last = m.make_log(source, stars=False, whole_path=False, seed=1, device="cpu")
    assert last.kinds.shape[1] == 1 and last.rating.eq(0).all()
    other = m.make_log(source, stars=True, whole_path=True, seed=2, device="cpu")
    assert not torch.equal(log.item, other.item)  # ties are broken by the seed


@pytest.mark.parametrize("how", ["popular", "uniform"])
def test_negatives_were_never_met(m, how):
    log = m.make_log(reviews(), stars=False, whole_path=True, seed=1, device="cpu")
    drawn = m.draw_unseen(log, how, seed=0)
    met = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    assert not met & set(zip(log.user.tolist(), drawn.tolist(), strict=True))
    assert len(set(drawn.tolist())) > 20


def test_next_events_are_split_by_time(m):
    log = m.make_log(reviews(), stars=False, whole_path=True, seed=1, device="cpu")
    task = m.next_task(log, "uniform", (1, 2), 3, (None, None, None), seed=0)
    size = torch.bincount(log.user)
    for events, count in ((task.valid, 1), (task.test, 2)):
        row, candidates, labels = events
        assert torch.bincount(log.user[row]).tolist() == [count] * 12
        assert torch.equal(candidates[:, 0], log.item[row]) and labels.tolist() == [[1.0, 0.0]] * len(row)
    assert torch.equal(torch.bincount(log.user[task.train[0]]), size - 3 - 3)  # least=3 histories, 3 held out
    assert task.train[0].max() < len(log.item) - 3
    shares = m.next_task(log, "uniform", (0.1, 0.2), 3, (5, None, None), seed=0)
    assert len(shares.train[0]) == 5
    assert torch.equal(torch.bincount(log.user[shares.test[0]]), (0.2 * size).ceil().long())


def test_stars_events_are_split_by_user(m):
    log = m.make_log(reviews(), stars=True, whole_path=True, seed=1, device="cpu")
    task = m.stars_task(log, (0.25, 0.25), 3, (None, None, None), seed=0)
    users = [set(log.user[events[0]].tolist()) for events in (task.train, task.valid, task.test)]
    assert [len(u) for u in users] == [6, 3, 3] and len(set.union(*users)) == 12
    assert torch.equal(task.test[2][:, 0], (log.rating[task.test[0]] >= 4).float())


def test_faulty_evaluations(m):
    """One vector for both candidates changes nothing for mean pooling; a scale and shift of 1 and 0 nothing for DIN."""
    log = m.make_log(reviews(), stars=False, whole_path=True, seed=1, device="cpu")
    task = m.next_task(log, "uniform", (1, 2), 3, (None, None, None), seed=0)
    for pooling, harmless in (("mean", "positive's"), ("din", "two norms")):
        torch.manual_seed(0)
        net = m.Network(log, pooling, 5, dim=4, dim_kind=2)
        right = m.scores(net, task.test)
        torch.testing.assert_close(m.scores(net, task.test, harmless), right)
        torch.nn.init.constant_(net.scale, 2.0)
        assert not torch.allclose(m.scores(net, task.test, "two norms"), m.scores(net, task.test))
    one, own = m.scores(net, task.test, "positive's"), m.scores(net, task.test)
    assert torch.equal(one[:, 0], own[:, 0]) and not torch.allclose(one[:, 1], own[:, 1])


def planted_net(m, task, epochs):
    torch.manual_seed(0)
    arm = dict(pooling="din", length=20, dim=4, dim_kind=1, hidden=16)
    return m.train(task, 0, lr=0.01, epochs=epochs, batch_size=128, patience=epochs, **arm)


def test_din_finds_planted_interests(m):
    task = m.planted_task(2600, 300, seed=0)
    net, value = planted_net(m, task, 20)
    assert value > 0.85
    assert m.within_users(task, task.test, m.scores(net, task.test)) > 0.85
    row, candidates, _ = task.test
    same = task.log.item[task.log.history(row, 20)[0]] // 40 == candidates[:, :1] // 40
    weights = net.pool(row, candidates)[2][:, 0].detach()
    both = same.any(1) & ~same.all(1)
    ours = (weights * same).sum(1)[both] / same.sum(1)[both]
    others = (weights * ~same).sum(1)[both] / (~same).sum(1)[both]
    assert (ours > others).float().mean() > 0.9


def test_training_is_reproducible_and_keeps_the_best_epoch(m):
    task = m.planted_task(1000, 300, seed=0)
    (net, value), (again, _) = planted_net(m, task, 3), planted_net(m, task, 3)
    assert value == m.within_users(task, task.valid, m.scores(net, task.valid))
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
