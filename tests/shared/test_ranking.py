"""Ranking metrics: worked examples, brute force, figures of TorchMetrics and RecBole, scikit-learn; the split."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from shared import data, ranking
from shared.data.containers import Ratings


@pytest.fixture
def made():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 60, generator=g)
    relevant = torch.rand(40, 60, generator=g) < 0.1
    seen = (torch.rand(40, 60, generator=g) < 0.3) & ~relevant
    return scores, relevant, seen


def test_hits_on_ranks_1_and_4_of_three_relevant():
    scores = torch.arange(30.0).flip(0)[None]  # item k has rank k + 1
    relevant = torch.zeros(1, 30, dtype=torch.bool)
    relevant[0, [0, 3, 25]] = True
    top = ranking.top_k(scores, 20)
    assert ranking.recall(top, relevant).item() == pytest.approx(2 / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert ideal == pytest.approx(2.1309, abs=1e-4)
    assert ranking.ndcg(top, relevant).item() == pytest.approx((1 + 1 / math.log2(5)) / ideal)
    assert ranking.ndcg(top, relevant).item() == pytest.approx(0.6714, abs=1e-4)


def test_more_relevant_items_than_ranks():
    relevant = torch.ones(1, 30, dtype=torch.bool)
    top = ranking.top_k(torch.rand(1, 30), 20)
    assert ranking.ndcg(top, relevant).item() == pytest.approx(1)
    assert ranking.recall(top, relevant).item() == pytest.approx(20 / 30)


def test_brute_force(made):
    scores, relevant, seen = made
    found = ranking.evaluate(scores, relevant, seen, k=10)
    recalls, gains = [], []
    for user in range(40):
        ranked = [i for i in np.argsort(-scores[user].numpy()) if not seen[user, i]][:10]
        hits = [relevant[user, i].item() for i in ranked]
        total = int(relevant[user].sum())
        if total:
            recalls.append(sum(hits) / total)
            ideal = sum(1 / math.log2(r + 2) for r in range(min(10, total)))
            gains.append(sum(h / math.log2(r + 2) for r, h in enumerate(hits)) / ideal)
    assert len(recalls) > 30
    assert found == pytest.approx({"Recall@10": np.mean(recalls), "NDCG@10": np.mean(gains)})


def test_ndcg_agrees_with_scikit_learn(made):
    from sklearn.metrics import ndcg_score

    scores, relevant, seen = made
    rows = relevant.any(1)
    left = scores.masked_fill(seen, -1e9)[rows]
    theirs = ndcg_score(relevant[rows].numpy().astype(int), left.numpy(), k=10)
    assert ranking.evaluate(scores, relevant, seen, k=10)["NDCG@10"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("k", "gain", "share"), [(5, 0.131507, 0.1125), (20, 0.237939, 1 / 3)])
def test_figures_of_two_other_implementations(k, gain, share):
    # RetrievalNormalizedDCG and RetrievalRecall of torchmetrics 1.9.0 and NDCG and Recall of recbole 1.2.1, which agree
    # to 1e-7, on the same scores; neither is installed beside this project.
    users, items = torch.arange(12)[:, None], torch.arange(50)[None]
    scores, relevant = ((users + 3) * (items + 1) * 37 % 211).float(), (users * 5 + items * 3) % 11 == 0
    found = ranking.evaluate(scores, relevant, k=k)
    assert found == pytest.approx({f"NDCG@{k}": gain, f"Recall@{k}": share}, abs=1e-6)


def test_no_item_that_was_seen_is_ranked(made):
    scores, relevant, seen = made
    top = ranking.top_k(scores, 20, seen)
    assert not seen.gather(1, top).any()
    ordered = scores.gather(1, top)
    assert (ordered[:, :-1] >= ordered[:, 1:]).all()


def test_users_without_relevant_items_do_not_count():
    scores = torch.arange(5.0).expand(2, 5)
    relevant = torch.zeros(2, 5, dtype=torch.bool)
    relevant[0, 4] = True
    top = ranking.top_k(scores, 2)
    assert ranking.recall(top, relevant).isnan().tolist() == [False, True]
    assert ranking.ndcg(top, relevant).isnan().tolist() == [False, True]
    assert ranking.evaluate(scores, relevant, k=2) == {"Recall@2": 1, "NDCG@2": 1}


def test_what_cannot_be_ranked_is_refused(made):
    scores, relevant, seen = made
    with pytest.raises(ValueError, match="only 3 items left to rank, fewer than 4"):
        ranking.top_k(torch.rand(1, 5), 4, torch.tensor([[True, True, False, False, False]]))
    with pytest.raises(ValueError, match="not numbers"):
        ranking.top_k(torch.tensor([[0.0, float("nan")]]), 1)
    with pytest.raises(ValueError, match="No user has a relevant item"):
        ranking.evaluate(scores, torch.zeros_like(relevant), k=5)


def small(rows):
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    items = pd.DataFrame(index=pd.Index([10, 11, 12, 13, 14], name="item"))
    return Ratings("made", frame, pd.DataFrame(), items)


def test_the_last_item_is_for_the_test():
    rows = [
        (7, 10, 5.0, 300), (7, 11, 4.0, 100), (7, 12, 3.0, 200), (7, 13, 2.0, 400),
        (3, 10, 1.0, 7), (3, 14, 2.0, 6), (3, 11, 3.0, 5),
    ]  # fmt: skip
    split = ranking.leave_last_out(small(rows), seed=0)
    assert (split.users, split.items) == (2, 5)
    assert split.train.tolist() == [[0, 1], [1, 1], [1, 2]]  # user 3 is number 0; in order of time
    assert split.rating.tolist() == [3, 4, 3] and split.timestamp.tolist() == [5, 100, 200]
    assert split.valid.tolist() == [4, 0] and split.test.tolist() == [0, 3]
    assert split.seen("valid").nonzero().tolist() == [[0, 1], [1, 1], [1, 2]]
    assert split.seen("test").nonzero().tolist() == [[0, 1], [0, 4], [1, 0], [1, 1], [1, 2]]
    scores = torch.zeros(2, 5)
    scores[0, 4], scores[0, 0] = 2, 1  # met in validation, so the next is the first of those left
    scores[1, 3] = 1
    assert split.evaluate(scores, "test", k=1) == {"Recall@1": 1, "NDCG@1": 1}
    assert split.evaluate(scores, "valid", k=1) == {"Recall@1": 0.5, "NDCG@1": 0.5}
    assert ranking.popularity(split).tolist() == [[0, 2, 1, 0, 0]] * 2
    with pytest.raises(ValueError, match="no part 'train'"):
        split.seen("train")


def test_histories_that_are_too_short_or_repeat_are_refused():
    with pytest.raises(ValueError, match="fewer than three"):
        ranking.leave_last_out(small([(1, 10, 1.0, 1), (1, 11, 1.0, 2)]), 0)
    with pytest.raises(ValueError, match="twice"):
        ranking.leave_last_out(small([(1, 10, 1.0, 1), (1, 10, 1.0, 2), (1, 11, 1.0, 3)]), 0)


def test_the_split_of_movielens():
    films = data.load("ml100k")
    split = ranking.leave_last_out(films, seed=0)
    assert (split.users, split.items, len(split.train)) == (943, 1682, 100_000 - 2 * 943)
    assert split.seen("test").sum() == 100_000 - 943
    other = ranking.leave_last_out(films, seed=1)
    assert 0.2 < (split.test != other.test).double().mean() < 0.95, "ties in time are drawn by the seed"
    assert torch.equal(ranking.leave_last_out(films, seed=0).train, split.train)
    found = split.evaluate(ranking.popularity(split), "test")
    chance = split.evaluate(torch.rand(943, 1682, generator=torch.Generator().manual_seed(0)), "test")
    assert found["Recall@20"] > 3 * chance["Recall@20"] > 0
