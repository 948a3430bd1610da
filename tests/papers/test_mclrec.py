"""MCLRec: operations on histories, the encoder, contrast and regulariser, the two steps, splits and ranking."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import ranking
from shared.data.containers import Ratings
from shared.device import fork, generator
from tests.notebooks import load_method

m = load_method("graphs/mclrec")


@pytest.fixture
def ratings():
    """60 users with 22 to 60 films of 90, some seconds shared by several ratings."""
    draw = np.random.default_rng(0)
    rows = []
    for user in range(60):
        films = draw.permutation(90)[: draw.integers(22, 61)]
        rows += [(user * 3 + 5, film * 2 + 1, 3.0, int(t)) for film, t in zip(films, draw.integers(0, 30, len(films)))]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    index = pd.Index(np.arange(90) * 2 + 1, name="item")
    return Ratings("toy", frame, pd.DataFrame(index=sorted(frame.user.unique())), pd.DataFrame(index=index))


def histories(rows, longest, g):
    length = torch.randint(1, longest + 1, (rows,), generator=g)
    items = torch.randint(1, 1000, (rows, longest), generator=g)
    return items * (torch.arange(longest) < length[:, None]), length


def test_crop_of_two_keeps_one_and_every_place_is_as_likely():
    items, length = torch.tensor([[7, 8, 0]]).repeat(4000, 1), torch.full((4000,), 2)
    first = m.crop(items, length, generator(0))
    assert torch.equal(first[:, 1:], torch.zeros(4000, 2, dtype=torch.long))
    assert abs((first[:, 0] == 7).double().mean() - 0.5) < 0.03
    items = (torch.arange(9) + 1).repeat(6000, 1)
    starts = m.crop(items, torch.full((6000,), 9), generator(1))[:, 0]
    counts = torch.bincount(starts, minlength=7)[1:]  # four items kept: six places to begin
    assert len(counts) == 6 and ((counts - 1000).abs() < 130).all()


def test_operations_against_a_loop_over_rows():
    g = generator(2)
    items, length = histories(500, 13, g)
    cropped, masked, shuffled = (f(items, length, g) for f in (m.crop, m.mask, m.reorder))
    for row, n, a, b, c in zip(items.tolist(), length.tolist(), *(x.tolist() for x in (cropped, masked, shuffled))):
        keep = n // 2
        assert any(a == row[s : s + keep] + [0] * (13 - keep) for s in range(n - keep + 1))
        assert sum(x == 0 for x in b[:n]) == n // 2 and all(x in (0, y) for x, y in zip(b, row)) and b[n:] == row[n:]
        size = math.floor(0.8 * n + 1e-9)
        assert any(
            c[:s] == row[:s] and c[s + size :] == row[s + size :] and sorted(c) == sorted(row)
            for s in range(n - size + 1)
        )


def test_the_two_operations_of_a_history_differ_and_all_pairs_occur():
    items, length = (torch.arange(10) + 1).repeat(9000, 1), torch.full((9000,), 10)
    views, sizes = m.stochastic_views(items, length, generator(3))
    kind = torch.where(sizes == 5, 0, torch.where((views == 0).any(1), 1, 2))
    one, two = kind.chunk(2)
    assert (one != two).all()
    counts = torch.bincount(3 * one + two, minlength=9)
    assert ((counts[[1, 2, 3, 5, 6, 7]] - 1500).abs() < 160).all()
    items[:, 1:] = 0
    views, sizes = m.stochastic_views(items, torch.ones_like(length), generator(3))
    assert torch.equal(views, items.repeat(2, 1)) and (sizes == 1).all()


def torch_layer(block, dim, heads):
    layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, activation="gelu", batch_first=True).double().eval()
    with torch.no_grad():
        for theirs, ours in (
            (layer.self_attn.in_proj_weight, block.project.weight), (layer.self_attn.in_proj_bias, block.project.bias),
            (layer.self_attn.out_proj.weight, block.out.weight), (layer.self_attn.out_proj.bias, block.out.bias),
            (layer.linear1.weight, block.one.weight), (layer.linear1.bias, block.one.bias),
            (layer.linear2.weight, block.two.weight), (layer.linear2.bias, block.two.bias),
            (layer.norm1.weight, block.norm_one.weight), (layer.norm1.bias, block.norm_one.bias),
            (layer.norm2.weight, block.norm_two.weight), (layer.norm2.bias, block.norm_two.bias),
        ):  # fmt: skip
            theirs.copy_(ours)
    return layer


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_encoder_agrees_with_torch_on_padded_and_masked_histories(blocks):
    torch.manual_seed(blocks)
    net = m.SASRec(1000, 11, 12, blocks, 3, 0.4).double().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    nn.init.zeros_(net.item.weight[0])
    g = generator(4)
    items, length = histories(40, 11, g)
    items[:, 1] = 0  # a masked item inside, as the mask operation leaves it
    length = length.clamp(min=2)
    with torch.no_grad():
        x = net.norm(net.item(items) + net.position.weight)
        later = torch.ones(11, 11, dtype=torch.bool).triu(1)
        for block in net.blocks:
            x = torch_layer(block, 12, 3)(x, src_mask=later, src_key_padding_mask=items == 0)
        assert torch.allclose(net.last(items, length), x[torch.arange(40), length - 1], atol=1e-9)
        both = torch.stack([length - 1, torch.zeros_like(length)], 1)
        assert torch.allclose(net(items, both)[:, 1], x[:, 0], atol=1e-9)


def test_a_masked_item_is_not_seen_and_what_follows_changes_nothing():
    torch.manual_seed(0)
    net = m.SASRec(1000, 9, 16, 2, 2, 0.4).eval()
    items, _ = histories(20, 9, generator(5))
    items[items == 0] = 3
    asked = torch.arange(9).expand(20, -1)
    before = net(items, asked)
    items[:, 5:] = 7
    assert torch.allclose(net(items, asked)[:, :5], before[:, :5], atol=1e-6)
    assert not torch.allclose(net(items, asked)[:, 5:], before[:, 5:], atol=1e-3)
    items[:, 2] = 0
    hidden = net(items, asked)
    nn.init.normal_(net.item.weight[0])  # what padding looks like is nobody's business but its own
    assert torch.allclose(net(items, asked)[:, 3:], hidden[:, 3:], atol=1e-6)


def sines(pairs, dim, unit):
    i, k = torch.arange(2 * pairs, dtype=torch.float64)[:, None], torch.arange(dim, dtype=torch.float64)
    x = torch.sin(1.7 * i * (k + 1) + k)
    return (F.normalize(x, dim=1) if unit else x).chunk(2)


@pytest.mark.parametrize(
    "pairs, dim, unit, expected",
    # NTXentLoss of pytorch-metric-learning 2.9.0, temperature 1, inner products, same vectors, label i for pair i
    [(6, 5, False, 2.719219969326646), (6, 5, True, 2.449375748544112), (40, 8, True, 4.494238954316275)],
)
def test_contrast_agrees_with_pytorch_metric_learning(pairs, dim, unit, expected):
    assert m.contrast(*sines(pairs, dim, unit)).item() == pytest.approx(expected, abs=1e-9)


def test_contrast_by_a_loop_and_for_several_pairs_at_once():
    a, b = sines(5, 4, False)
    x, total = torch.cat([a, b]), 0.0
    for i in range(10):
        scores = [float(x[i] @ x[j]) for j in range(10)]
        rest = sum(math.exp(s) for j, s in enumerate(scores) if j != i)
        total -= math.log(math.exp(scores[(i + 5) % 10]) / rest) / 10
    assert m.contrast(a, b).item() == pytest.approx(total, abs=1e-12)
    c, d = sines(5, 4, True)
    both = m.contrast(torch.stack([a, c]), torch.stack([b, d]))
    assert 2 * both.item() == pytest.approx((m.contrast(a, b) + m.contrast(c, d)).item(), abs=1e-12)


def test_contrast_in_closed_form():
    two = torch.eye(2, 4)
    assert m.contrast(two, two).item() == pytest.approx(0.5514, abs=5e-5)
    for pairs, same, orthogonal in ((256, 6.2364, 5.2397), (128, 5.5413, 4.5480)):
        ones = F.normalize(torch.ones(pairs, 3), dim=1)
        assert m.contrast(ones, ones).item() == pytest.approx(same, abs=5e-5)
        assert m.contrast(torch.eye(pairs), torch.eye(pairs)).item() == pytest.approx(orthogonal, abs=5e-5)


def test_scores_are_split_into_partner_and_all_others():
    a, b = sines(4, 3, False)
    x = torch.cat([a, b])
    positive, negative = m.split_scores(a, b)
    for i in range(8):
        assert positive[i].item() == pytest.approx(float(x[i] @ x[(i + 4) % 8]))
        theirs = sorted(float(x[i] @ x[j]) for j in range(8) if j not in (i, (i + 4) % 8))
        assert sorted(negative[i].tolist()) == pytest.approx(theirs)


def test_regulariser_by_hand_and_its_direction():
    negative = torch.tensor([[0.2, 0.5]])
    assert m.regulariser(torch.tensor([0.9]), negative).item() == pytest.approx(0.95)
    assert m.regulariser(torch.tensor([0.3]), negative).item() == pytest.approx(0.15)
    rows = m.regulariser(torch.tensor([0.9, 0.3]), torch.tensor([[0.2, 0.5], [0.0, 0.1]])).item()
    assert rows == pytest.approx((0.95 + 0.2 + 0.25) / 2)  # each row has margins of its own
    assert m.regulariser(torch.full((3,), 0.7), torch.full((3, 4), 0.7)).item() == 0
    positive, negative = torch.tensor([0.9], requires_grad=True), negative.clone().requires_grad_()
    m.regulariser(positive, negative).backward()
    assert positive.grad.item() == pytest.approx(2) and (negative.grad.sum() < 0)  # the positive down, the others up


def test_augmenters_make_unit_vectors_through_a_bottleneck():
    torch.manual_seed(0)
    augmenter = m.Augmenter(32)
    assert [tuple(p.shape) for p in augmenter.parameters() if p.dim() == 2] == [(16, 32), (8, 16), (32, 8)]
    h = 5 * torch.randn(40, 32, generator=generator(9))
    assert torch.allclose(augmenter(h).norm(dim=1), torch.ones(40), atol=1e-6)
    assert not torch.allclose(augmenter(h), augmenter(2 * h), atol=1e-3)  # not linear


def make_learner(**weights):
    torch.manual_seed(1)
    return m.Learner(m.SASRec(50, 9, 16, 1, 2, 0.3), 0.01, **weights)


def copies(learner):
    return [[p.detach().clone() for p in part.parameters()] for part in (learner.net, learner.augmenters)]


def moved(learner, before):
    return [any(not torch.equal(a, b) for a, b in zip(x, y)) for x, y in zip(copies(learner), before)]


def test_each_step_moves_its_own_part_only():
    history, asked = torch.randint(1, 51, (8, 9), generator=generator(6)), torch.arange(3).expand(8, -1)
    views = m.stochastic_views(history, torch.full((8,), 9), generator(7))
    learner = make_learner(lam=0.1, beta=0.1, rho=0.1)
    before = copies(learner)
    learner.encoder_step(history, asked, history[:, 1:4] - 1, views)
    assert moved(learner, before) == [True, False]
    before = copies(learner)
    learner.augmenter_step(views)
    assert moved(learner, before) == [False, True]
    learner = make_learner(beta=0.1, training="joint")
    before = copies(learner)
    learner.encoder_step(history, asked, history[:, 1:4] - 1, views)
    assert moved(learner, before) == [True, True]


def test_the_first_step_follows_the_gradient_of_l0_and_the_second_reads_the_new_encoder():
    history, asked = torch.randint(1, 51, (8, 9), generator=generator(6)), torch.arange(3).expand(8, -1)
    views = m.stochastic_views(history, torch.full((8,), 9), generator(7))
    learner = make_learner(lam=0.2, beta=0.3, rho=0.4)
    learner.net.eval()  # no dropout: gradients can be compared
    target = history[:, 1:4] - 1

    def l1():
        one, two = learner.net.last(*views).chunk(2)
        z, y = learner.augmenters[0](one), learner.augmenters[1](two)
        r = m.regulariser(*m.split_scores(z, y))
        return m.contrast(z, y) + m.contrast(one, y) + m.contrast(two, z) + 0.4 * r, m.contrast(one, two)

    logits = learner.net(history, asked) @ learner.net.item.weight[1:].T
    learned, random = l1()
    rec = -logits.log_softmax(-1).gather(-1, target[..., None]).mean()
    expected = torch.autograd.grad(rec + 0.2 * random + 0.3 * learned, list(learner.net.parameters()))
    learner.encoder_step(history, asked, target, views)
    for parameter, gradient in zip(learner.net.parameters(), expected):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)
    learner.augmenters.requires_grad_(True)  # they were frozen
    expected = torch.autograd.grad(l1()[0], list(learner.augmenters.parameters()))  # the encoder as it is now
    learner.augmenter_step(views)
    for parameter, gradient in zip(learner.augmenters.parameters(), expected):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_sessions_are_whole_of_other_users_and_in_order(ratings):
    task = m.session_task(ratings, 0, 30, 10, torch.device("cpu"))
    assert len(task.train.count) == 30 and task.items == 90
    order = {}
    for user, rows in ratings.ratings.groupby("user"):
        for item, t in zip(rows["item"], rows["timestamp"]):
            order[user, (item - 1) // 2] = t
    owner = []
    parts = (task.train.flat.view(-1, 10), torch.cat([task.valid.items, task.valid.target[:, None] + 1], 1),
             torch.cat([task.test.items, task.test.target[:, None] + 1], 1))  # fmt: skip
    for part in parts:
        users = set()
        for row in (part - 1).tolist():
            fitting = [u for u in ratings.users.index if all((u, i) in order for i in row)]
            ascending = [u for u in fitting if all(order[u, i] <= order[u, j] for i, j in zip(row, row[1:]))]
            assert ascending
            users.add(ascending[0] if len(ascending) == 1 else None)
        owner.append(users - {None})
    assert not (owner[0] & owner[1] or owner[0] & owner[2] or owner[1] & owner[2])
    assert (task.test.seen.sum(1) == 9).all() and not task.test.seen.gather(1, task.test.target[:, None]).any()


def test_last_item_task_and_popularity_agree_with_shared_ranking(ratings):
    split = ranking.leave_last_out(ratings, 3)
    task = m.last_item_task(ratings, 3, 15, torch.device("cpu"))
    assert torch.equal(task.train.to_train().sort().values, split.train[:, 1].sort().values)
    assert torch.equal(task.test.target, split.test) and torch.equal(task.valid.seen, split.seen("valid"))
    assert (task.test.items[torch.arange(60), task.test.length - 1] - 1).equal(split.valid)
    counts = torch.bincount(task.train.to_train(), minlength=task.items).float()
    assert m.evaluate(counts, task.test) == split.evaluate(ranking.popularity(split), "test")
    last = [split.train[split.train[:, 0] == u, 1][-15:] + 1 for u in range(60)]
    assert all(torch.equal(row[:15], one) for row, one in zip(task.valid.items, last))


def test_batches_hold_training_items_only_and_their_successors(ratings):
    task = m.last_item_task(ratings, 3, 15, torch.device("cpu"))
    following = set()
    for start, n in zip((task.train.total.cumsum(0) - task.train.total).tolist(), task.train.count.tolist()):
        row = task.train.flat[start : start + n].tolist()
        following |= set(zip(row, row[1:]))
    for _, (history, asked, target) in zip(range(20), task.train.batches(16, 15, 3, 0)):
        assert (history > 0).sum(1).gt(asked.max(1).values).all()
        pairs = zip(history.gather(1, asked).flatten().tolist(), (target + 1).flatten().tolist())
        assert set(pairs) <= following


ARMS = [dict(lam=0.1), dict(beta=0.1, rho=0.1), dict(beta=0.1)]
ARMS += [dict(beta=0.1, training=training) for training in ("joint", "frozen")]


def test_without_weights_it_is_sasrec_bit_for_bit_and_weights_matter(ratings):
    task = m.session_task(ratings, 0, 60, 10, torch.device("cpu"))
    common = dict(
        width=9, dim=8, blocks=1, heads=2, batch=16, targets=2, updates=6, every=2, patience=9, lr=0.01, dropout=0.2
    )
    found = []
    for weights in ({}, dict(rho=0.1, training="joint"), *ARMS):
        with fork(0):
            learner, curve = m.train(task, 0, **common, **weights)
        assert len(curve) == 3
        found.append(torch.cat([p.detach().flatten() for p in learner.net.parameters()]))
    assert torch.equal(found[0], found[1])
    assert all(not torch.equal(a, b) for i, a in enumerate(found[1:]) for b in found[1:][:i])


def test_frozen_augmenters_stay_as_they_were_built(ratings):
    task = m.session_task(ratings, 0, 60, 10, torch.device("cpu"))
    found = {}
    for training, updates in (("frozen", 1), ("frozen", 6), ("alternating", 6), ("joint", 6)):
        with fork(0):
            learner, _ = m.train(
                task, 0, width=9, dim=8, blocks=1, heads=2, batch=16, targets=2, updates=updates, every=updates,
                patience=9, lr=0.01, dropout=0.2, beta=0.1, training=training,
            )  # fmt: skip
        found[training, updates] = torch.cat([p.detach().flatten() for p in learner.augmenters.parameters()])
    assert torch.equal(found["frozen", 1], found["frozen", 6])
    assert not torch.equal(found["frozen", 6], found["alternating", 6])
    assert not torch.equal(found["frozen", 6], found["joint", 6])


def test_the_best_weights_are_kept(ratings):
    task = m.session_task(ratings, 0, 60, 10, torch.device("cpu"))
    with fork(0):
        learner, curve = m.train(
            task, 0, width=9, dim=8, blocks=1, heads=2, batch=16, targets=2, updates=40, every=2, patience=3, lr=0.05,
            dropout=0.2, beta=0.1,
        )  # fmt: skip
    assert m.evaluate(learner.net, task.valid)["NDCG@20"] == pytest.approx(max(curve), abs=1e-7)
    assert len(curve) < 20 and len(curve) - 1 - int(np.argmax(curve)) == 3


def test_effective_rank():
    g = generator(8)
    line = torch.randn(200, 1, generator=g) * torch.randn(1, 8, generator=g)
    assert m.effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert m.effective_rank(torch.cat([torch.eye(8), -torch.eye(8)])) == pytest.approx(8)


def test_k_core(ratings):
    frame = ratings.ratings[ratings.ratings.item.rank(method="dense") < 40]
    cut = m.k_core(Ratings("toy", frame, ratings.users, ratings.items), 12).ratings
    assert cut.groupby("user").size().min() >= 12 and cut.groupby("item").size().min() >= 12
    assert 0 < len(cut) < len(frame)
