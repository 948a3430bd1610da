"""Splits of ratings, the knowledge graph of MovieLens 100K, the Open Bandit log."""

import numpy as np
import pandas as pd
import pytest

from shared import data
from shared.data import ratings as splits


def made(rows):
    return pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])


def test_knowledge_graph():
    films = data.load("ml100k")
    card = data.card("ml100k")
    assert len(films.entities) == 1598 == films.entities.nunique() and films.entities.index.is_monotonic_increasing
    assert list(films.triples) == ["head", "relation", "tail"] and not films.triples.duplicated().any()
    assert f"{len(films.triples):,} facts" in card.note and f"links to {len(films.entities):,} films" in card.note
    known = set(films.triples["head"]) | set(films.triples["tail"])
    assert len(known) == 34_628 and set(films.entities) <= known and films.triples["relation"].nunique() == 24
    # Every fact "film, genre" also stands as "genre, film".
    relation = films.triples.groupby("relation")
    genre = relation.get_group("film.film.genre")[["head", "tail"]]
    back = relation.get_group("film.film_genre.films_in_this_genre")[["tail", "head"]]
    assert set(map(tuple, genre.to_numpy())) == set(map(tuple, back.to_numpy()))


def test_the_links_use_the_numbers_of_movielens_1m():
    films = data.load("ml100k")
    assert films.entities.index.name == "movielens_1m_item"
    directed = films.triples[films.triples["relation"] == "film.film.directed_by"].set_index("head")["tail"]
    # Jurassic Park, Schindler's List, E.T., two of Indiana Jones and Jaws, by their numbers in MovieLens 1M.
    spielberg = {directed[films.entities[item]] for item in (480, 527, 1097, 1198, 1291, 1387)}
    assert len(spielberg) == 1
    here = films.items.index[films.items["title"].isin(["Jurassic Park", "Schindler's List", "Jaws"])]
    assert len(here) == 3 and not spielberg & {directed[films.entities[item]] for item in here}


def test_leave_one_out_worked_example():
    frame = made([
        (1, 10, 5, 300), (1, 11, 4, 100), (1, 12, 3, 200), (1, 13, 2, 400),
        (2, 10, 5, 50), (2, 11, 5, 40),
        (3, 10, 1, 7), (3, 14, 2, 6), (3, 11, 3, 5),
    ])  # fmt: skip
    train, validation, test = splits.leave_one_out(frame)
    assert train[["user", "item"]].to_numpy().tolist() == [[1, 11], [1, 12], [2, 11], [2, 10], [3, 11]]
    assert validation[["user", "item"]].to_numpy().tolist() == [[1, 10], [3, 14]]
    assert test[["user", "item"]].to_numpy().tolist() == [[1, 13], [3, 10]]
    assert list(test.index) == [3, 6]  # the rows of the frame


def test_leave_one_out_ties():
    frame = made([(1, item, 3, 100) for item in range(50)] + [(2, item, 3, item // 2) for item in range(6)])
    parts = splits.leave_one_out(frame)
    for seed in range(3):  # the order of the rows plays no part
        shuffled = frame.sample(frac=1, random_state=seed)
        for part, again in zip(parts, splits.leave_one_out(shuffled)):
            pd.testing.assert_frame_equal(part, again)
    lasts = {splits.leave_one_out(frame, seed=seed)[2]["item"].iloc[0] for seed in range(40)}
    assert len(lasts) > 15 and min(lasts) < 15 and max(lasts) > 35  # any of those that tie
    others = {tuple(splits.leave_one_out(frame, seed=seed)[2]["item"])[1] for seed in range(20)}
    assert others == {4, 5}


def test_leave_one_out_of_ml100k():
    frame = data.load("ml100k").ratings
    train, validation, test = splits.leave_one_out(frame)
    assert len(validation) == len(test) == 943 and len(train) == 100_000 - 2 * 943
    assert sorted([*train.index, *validation.index, *test.index]) == list(range(100_000))
    newest = train.groupby("user")["timestamp"].max()
    between, last = (part.set_index("user")["timestamp"] for part in (validation, test))
    assert (newest <= between.loc[newest.index]).all() and (between <= last.loc[between.index]).all()


def test_by_time_worked_example():
    frame = made([(1, i, 3, when) for i, when in enumerate([9, 1, 2, 3, 4, 5, 6, 7, 8, 10])])
    train, validation, test = splits.by_time(frame, validation=0.2, test=0.1)
    assert train["timestamp"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert validation["timestamp"].tolist() == [9, 8] and test["timestamp"].tolist() == [10]
    # The third and the fourth latest come at one second: both are tested.
    tied = made([(1, i, 3, when) for i, when in enumerate([1, 2, 3, 4, 5, 6, 8, 8, 9, 10])])
    assert [len(part) for part in splits.by_time(tied, validation=0.2, test=0.3)] == [5, 1, 4]
    assert [len(part) for part in splits.by_time(frame, validation=0, test=0.5)] == [5, 0, 5]
    assert [len(part) for part in splits.by_time(frame, validation=0.5, test=0)] == [5, 5, 0]
    for shares in ((0.5, 0.5), (-0.1, 0.2), (0.1, -0.1)):
        with pytest.raises(data.DataError, match="leave nothing to train on: ask for less"):
            splits.by_time(frame, *shares)


def test_by_time_of_ml100k():
    frame = data.load("ml100k").ratings
    parts = splits.by_time(frame)
    assert sum(map(len, parts)) == 100_000 and all(abs(len(part) - 10_000) < 50 for part in parts[1:])
    train, validation, test = (part["timestamp"] for part in parts)
    assert train.max() < validation.min() and validation.max() < test.min()


def test_open_bandit():
    card, clicks = data.card("open-bandit"), 0
    for campaign, items in (("all", 80), ("men", 34), ("women", 46)):
        for policy in ("random", "bts"):
            bandit = data.load("open-bandit", policy=policy, campaign=campaign)
            log = bandit.log
            assert len(bandit) == 10_000 and bandit.affinity.shape == (10_000, items) and len(bandit.items) == items
            assert bandit.affinity.dtype == np.float64 and (bandit.affinity >= 0).all()
            assert list(bandit.items.index) == list(range(items)) and log["item"].between(0, items - 1).all()
            assert set(log["position"]) == {1, 2, 3} and set(log["click"]) == {0, 1}
            assert {str(log[column].dtype) for column in ("item", "position", "click")} == {"int64"}
            assert log["timestamp"].is_monotonic_increasing and str(log["timestamp"].dt.tz) == "UTC"
            assert log["timestamp"].min() >= pd.Timestamp("2019-11-24", tz="UTC")
            assert log["propensity"].between(0, 1, inclusive="neither").all()
            if policy == "random":
                np.testing.assert_allclose(log["propensity"], 1 / items, atol=1e-6)
            clicks += log["click"].sum()
            assert 38 <= log["click"].sum() <= 69
    assert f"{clicks} clicks in the 60,000 impressions" in card.note and "80, 34 and 46 items" in card.shape
    assert [str(kind) for kind in bandit.items.dtypes] == ["float64", "category", "category", "category"]
    with pytest.raises(data.DataError, match="no policy 'greedy': choose from random, bts"):
        data.load("open-bandit", policy="greedy")
    with pytest.raises(data.DataError, match="no campaign 'kids': choose from all, men, women"):
        data.load("open-bandit", campaign="kids")
