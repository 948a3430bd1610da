"""Profiles, claims, paired seeds, intervals, verdicts and the result record."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from shared import experiment, open_chapter, report

ENTRY = {
    "slug": "tabular/demo", "short": "Demo", "title": "A demonstration", "authors": ["A. Author"], "year": 2024,
    "venue": "Nowhere", "claim": "b is better", "data": {"book": ["sonar"]},
    "paper": [{"quantity": "accuracy", "value": "90", "source": "Table 1"}],
}  # fmt: skip


@pytest.fixture
def shown(monkeypatch):
    """What the chapter displays: a list of MIME bundles."""
    bundles = []
    monkeypatch.setattr(report, "display", lambda bundle, **_: bundles.append(bundle))
    return bundles


@pytest.fixture
def chapter(monkeypatch, shown):
    monkeypatch.setenv("PAPERS_CATALOG_ENTRY", json.dumps(ENTRY))
    return lambda profile="book", seed=0: open_chapter("demo", profile=profile, seed=seed)


def run(gain, noise=0.1):
    """Arm b is better than arm a by ``gain``; both share the seed's luck."""

    def one(arm, seed):
        luck = np.random.default_rng(seed).normal()
        own = np.random.default_rng(seed * 2 + (arm == "b")).normal() * noise
        return {"accuracy": 80 + luck + own + gain * (arm == "b"), "error": 20 - luck - own - gain * (arm == "b")}

    return one


def record(shown):
    return next(bundle[experiment.MIME] for bundle in reversed(shown) if experiment.MIME in bundle)


def claim(chapter, **options):
    chapter.claim("b is better", **{"metric": "accuracy", "arm": "b", "baseline": "a"} | options)


def test_interval_agrees_with_scipy():
    values = [1.0, 2.5, 2.0, 4.0, 3.5]
    ours = experiment.interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((2.6, low, high))
    assert math.isnan(experiment.interval([1.0]).low)


@pytest.mark.parametrize(
    ("gain", "options", "verdict"),
    [
        (1.0, {}, "holds"),
        (-1.0, {}, "contradicted"),
        (0.0, {}, "inconclusive"),
        (1.0, {"margin": 2.0}, "contradicted"),
        (-1.0, {"margin": -2.0}, "holds"),
        (1.0, {"metric": "error", "higher_is_better": False}, "holds"),
        (-1.0, {"metric": "error", "higher_is_better": False}, "contradicted"),
        (-1.0, {"metric": "error", "higher_is_better": False, "margin": -2.0}, "holds"),
    ],
)
def test_verdicts_follow_the_rule(chapter, shown, gain, options, verdict):
    chapter = chapter()
    claim(chapter, **options)
    chapter.verdicts(chapter.run(["a", "b"], run(gain), seeds=6))
    assert record(shown)["claims"][0]["verdict"] == verdict


def test_pairing_removes_the_seeds_luck(chapter):
    results = chapter().run(["a", "b"], run(0.3), seeds=8)
    paired = results.difference("b", "a", "accuracy")
    assert paired.high - paired.low < 0.5 * (
        results.summary("a", "accuracy").high - results.summary("a", "accuracy").low
    )


def test_a_claim_declared_after_its_run_is_refused(chapter):
    chapter = chapter()
    results = chapter.run(["a", "b"], run(1), seeds=5)
    claim(chapter)
    with pytest.raises(experiment.ExperimentError, match="declared after the run"):
        chapter.verdicts(results)


def test_repeating_a_declaration_does_not_make_it_younger(chapter, shown):
    chapter = chapter()
    claim(chapter)
    results = chapter.run(["a", "b"], run(1), seeds=5)
    claim(chapter)
    chapter.verdicts(results)
    assert len(record(shown)["claims"]) == 1


def test_unpaired_seeds_are_refused(chapter):
    chapter = chapter()
    claim(chapter)
    results = chapter.run(["a", "b"], run(1), seeds=5)
    del results.rows["a"][4]
    with pytest.raises(experiment.ExperimentError, match="same seeds in both"):
        chapter.verdicts(results)


@pytest.mark.parametrize(("profile", "seeds"), [("smoke", 1), ("smoke", 6), ("book", 4), ("paper", 3)])
def test_too_few_seeds_and_smoke_are_not_judged(chapter, shown, profile, seeds):
    chapter = chapter(profile)
    claim(chapter)
    chapter.verdicts(chapter.run(["a", "b"], run(1), seeds=seeds))
    assert record(shown)["claims"][0]["verdict"] == "not judged"
    said = " ".join(bundle.get("text/plain", "") for bundle in shown)
    assert ("not judged at smoke scale" if profile == "smoke" else f"not judged with {seeds} seeds") in said


def test_the_record_holds_what_readers_of_it_need(chapter, shown):
    chapter = chapter(seed=3)
    claim(chapter, margin=0.2)
    chapter.verdicts(chapter.run(["a", "b"], run(1), seeds=5))
    made = json.loads(json.dumps(record(shown)))
    assert set(made) == {"slug", "profile", "claims", "arms", "paper"}
    first = made["claims"][0]
    assert set(first) == {
        "role", "text", "metric", "arm", "baseline", "higher_is_better", "margin", "seeds", "difference", "verdict",
    }  # fmt: skip
    assert first["seeds"] == [3, 4, 5, 6, 7]
    assert set(first["difference"]) == {"mean", "low", "high", "values"}
    assert len(made["arms"]["a"]["accuracy"]["values"]) == 5
    assert made["paper"] == ENTRY["paper"]


def test_a_single_seed_has_no_interval_and_the_record_stays_json(chapter, shown):
    chapter = chapter("smoke")
    claim(chapter)
    chapter.verdicts(chapter.run(["a", "b"], run(1), seeds=1))
    assert record(shown)["claims"][0]["difference"]["low"] is None
    json.dumps(record(shown), allow_nan=False)


def test_every_arm_of_a_seed_starts_from_the_same_random_state(chapter):
    import torch

    results = chapter().run(["a", "b"], lambda arm, seed: {"draw": torch.rand(1).item()}, seeds=3)
    assert (results.values("a", "draw") == results.values("b", "draw")).all()
    assert len(set(results.values("a", "draw"))) == 3


def test_derived_arms_see_one_seed_at_a_time(chapter):
    def best(rows):
        return max(rows.values(), key=lambda row: row["accuracy"])

    results = chapter().run(["a", "b"], run(0, noise=1.0), seeds=6, derive={"best": best})
    both = np.stack([results.values("a", "accuracy"), results.values("b", "accuracy")])
    assert (results.values("best", "accuracy") == both.max(0)).all()


def test_a_claim_is_judged_in_the_run_that_has_its_arms(chapter, shown):
    chapter = chapter()
    claim(chapter)
    chapter.claim("d beats c", metric="accuracy", arm="d", baseline="c", role="mechanism")
    first = chapter.run(["a", "b"], run(1), seeds=5)
    second = chapter.run(["c", "d"], run(0), seeds=7)
    chapter.verdicts(first, second)
    assert [len(c["seeds"]) for c in record(shown)["claims"]] == [5, 7]
    assert set(record(shown)["arms"]) == {"a", "b", "c", "d"}


def test_a_claim_that_no_run_answers_is_an_error(chapter):
    chapter = chapter()
    claim(chapter, arm="z")
    with pytest.raises(experiment.ExperimentError, match="No run reports 'accuracy' for both 'z' and 'a'"):
        chapter.verdicts(chapter.run(["a", "b"], run(1), seeds=5))


def test_a_metric_that_is_not_finite_is_an_error(chapter):
    with pytest.raises(experiment.ExperimentError, match="Arm 'a', seed 0: 'accuracy' is nan"):
        chapter().run(["a"], lambda arm, seed: {"accuracy": math.nan}, seeds=2)


def test_settings_fall_back_on_book_and_refuse_names_it_lacks(chapter):
    chapter = chapter("smoke")
    assert chapter.settings(smoke={"n": 1}, book={"n": 9, "seeds": 5}, paper={}).__dict__ == {"n": 1, "seeds": 5}
    with pytest.raises(experiment.ExperimentError, match="Settings epochs are missing in 'book'"):
        chapter.settings(smoke={"epochs": 1}, book={}, paper={})


def test_bad_profile_seed_role_and_twice_named_arms(chapter):
    with pytest.raises(experiment.ExperimentError, match="no profile 'large': choose among smoke, book, paper"):
        chapter("large")
    with pytest.raises(experiment.ExperimentError, match="seed has to be an integer from 0 up, not '1'"):
        chapter("book", "1")
    with pytest.raises(experiment.ExperimentError, match="role is one of primary, mechanism"):
        claim(chapter(), role="main")
    with pytest.raises(experiment.ExperimentError, match="Arms a are named twice"):
        chapter().run(["a", "a"], run(1), seeds=5)


def test_the_profile_comes_from_the_environment(monkeypatch, chapter):
    monkeypatch.setenv("PAPERS_PROFILE", "smoke")
    assert chapter(None).profile == "smoke"


def test_tables_show_the_paper_beside_here(chapter, shown):
    chapter = chapter()
    results = chapter.run(["a", "b"], run(1), seeds=5)
    chapter.results_table(results, ["accuracy"], baseline="a", paper={"b": "97.3"})
    table = shown[-2]
    assert table["text/plain"].splitlines()[0].endswith("  the paper")
    assert "97.3" in table["text/html"]
    assert table["text/html"].count("<tr>") == 3
    chapter.paper_table()
    assert "Table 1" in shown[-1]["text/plain"]
