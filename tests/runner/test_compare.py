"""``papers compare``: what it finds between two sets of runs, where it looks for them, and how it exits."""

import json
import subprocess

import nbformat
import pytest
from rich.console import Console
from typer.testing import CliRunner

from shared import catalog
from shared.runner import cli, compare, display, source


def claim(verdict="holds", mean=1.0, **fields):
    difference = {"mean": mean, "low": mean - 0.5, "high": mean + 0.5, "values": [mean]}
    rule = {
        "role": "primary",
        "metric": "accuracy",
        "arm": "a",
        "baseline": "b",
        "margin": 0.0,
        "higher_is_better": True,
    }
    return rule | {"text": "a beats b", "verdict": verdict, "difference": difference} | fields


def keep(folder, name, *claims, failed=False, **metadata):
    """Write an executed notebook as `papers run` leaves it."""
    papers = {"slug": name, "profile": "book", "seed": 0, "duration_s": 10.0, "cpu_s": 9.0, "peak_memory_mb": 500.0}
    papers |= {"versions": {"torch": "2.1"}, "cpu": "X", "device": "cpu", "code_sha256": "1", **metadata}
    output = nbformat.v4.new_output("display_data", data={source.RESULT_MIME: {"claims": list(claims), "arms": {}}})
    cell = nbformat.v4.new_code_cell("1", outputs=[] if failed else [output])
    path = folder / f"{name}{'.failed' if failed else ''}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"papers": papers}), path)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders, `old` and `new`, in which nothing differs yet, and in which this process works."""
    monkeypatch.chdir(tmp_path)
    for folder in ("old", "new"):
        keep(tmp_path / folder, "tabular/one", claim())
        keep(tmp_path / folder, "graphs/two", claim(), claim("inconclusive", 0.1, role="mechanism", text="and why"))
    return tmp_path / "old", tmp_path / "new"


def compared(*arguments):
    """Exit status and output of the command."""
    ended = CliRunner().invoke(cli.app, ["compare", *map(str, arguments)])
    return ended.exit_code, " ".join(ended.output.split())


def test_nothing_changed(folders):
    assert compared(*folders) == (0, compared(*folders)[1])
    assert "Nothing changed in 3 claims of 2 chapters." in compared(*folders)[1]


def test_a_changed_verdict_is_an_exit_status(folders):
    old, new = folders
    keep(new, "tabular/one", claim("inconclusive", 0.25))
    status, said = compared(old, new)
    assert status == 1 and "1 verdicts changed among 3 claims of 2 chapters: tabular/one." in said
    assert "tabular/one a beats b +1.0 [+0.5, +1.5] +0.2 [-0.2, +0.8] -0.75 holds -> inconclusive" in said
    assert compared(new, old)[0] == 1


def test_a_changed_effect_is_shown_and_passes(folders):
    old, new = folders
    keep(new, "graphs/two", claim(mean=1 + 1e-9), claim("inconclusive", 0.1, role="mechanism", text="and why"))
    status, said = compared(old, new)
    assert status == 0 and "No verdict changed among 3 claims of 2 chapters; 1 effects did." in said
    assert "[+0.5, +1.5] +1e-09 holds" in said and "and why" not in said


def test_other_words_for_the_same_rule_are_the_same_claim(folders):
    old, new = folders
    keep(new, "tabular/one", claim(text="a is ahead of b"))
    assert compared(old, new)[0] == 0
    keep(new, "tabular/one", claim(margin=-1.0))
    status, said = compared(old, new)
    assert status == 1 and "holds -> not claimed" in said and "not claimed -> holds" in said


def test_a_chapter_that_fails_has_lost_its_verdict(folders):
    old, new = folders
    keep(new, "tabular/one", failed=True)  # beside the one that ran before
    status, said = compared(old, new)
    assert status == 1 and "holds -> failed" in said


def test_chapters_of_one_side_are_named(folders):
    old, new = folders
    keep(new, "tabular/three", claim())
    (old / "graphs/four.ipynb").write_text((old / "graphs/two.ipynb").read_text())
    status, said = compared(old, new)
    assert status == 0 and f"Only in {old}: graphs/four" in said and f"Only in {new}: tabular/three" in said


def test_conditions_and_costs(folders):
    old, new = folders
    keep(
        new,
        "tabular/one",
        claim(),
        versions={"torch": "2.2"},
        duration_s=20.0,
        cpu_s=None,
        peak_memory_mb=250.0,
        seed=5,
    )
    _, said = compared(old, new)
    assert "torch 2.1 -> 2.1, 2.2" in said and "other seed: tabular/one" in said and "other code" not in said
    assert "tabular/one 10.0 -> 20.0 s (x2.00) 9.0 -> ? s 500 -> 250 MB (x0.50)" in said
    assert "together 20.0 -> 30.0 s (x1.50) 18.0 -> ? s" in said


def test_as_json(folders):
    old, new = folders
    keep(new, "tabular/one", claim("contradicted", -1.0))
    keep(old, "graphs/four", claim())
    listing = json.loads(CliRunner().invoke(cli.app, ["compare", str(old), str(new), "--json"]).stdout)
    assert listing["verdict_changed"] and listing["only_before"] == ["graphs/four"] and listing["only_after"] == []
    (row,) = [row for row in listing["claims"] if row["verdict_changed"]]
    assert row["verdicts"] == ["holds", "contradicted"]
    assert [effect["mean"] for effect in row["effects"]] == [1.0, -1.0]
    assert listing["costs"][0] == {
        "name": "graphs/two", "duration_s": [10.0, 10.0], "cpu_s": [9.0, 9.0], "peak_memory_mb": [500.0, 500.0],
        "peak_gpu_memory_mb": [None, None],
    }  # fmt: skip


def test_result_records_are_compared_with_notebooks(folders):
    old, _ = folders
    records = old.parent / "records"
    for name, verdict in (("tabular/one", "contradicted"), ("graphs/two", "holds")):
        path = records / f"{name}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"label": "x", "metadata": {}, "record": {"claims": [claim(verdict)]}}))
    status, said = compared(old, records)
    assert status == 1 and "holds -> contradicted" in said and "? s" in said


def test_the_book_and_its_history(folders, monkeypatch):
    root = folders[0].parent
    monkeypatch.setattr(catalog, "ROOT", root)
    (root / "book").mkdir()
    folders[0].rename(root / "book/chapters")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "book"], ["commit", "-qm", "before"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    assert compared("HEAD", "book")[0] == 0
    keep(root / "book/chapters", "graphs/two", claim("contradicted", -2.0))
    status, said = compared("HEAD", "book")
    assert status == 1 and "2 verdicts changed" in said and "holds -> contradicted" in said


@pytest.mark.parametrize("name", ["nowhere", "HEAD~9999", "--output=x"])
def test_what_is_neither_folder_nor_revision_is_refused(folders, name):
    with pytest.raises(compare.CompareError, match="is no folder, and no revision with a book/chapters"):
        compare.load(name)
    assert compared("old", "nowhere")[0] == 2


def test_a_folder_without_runs_is_refused(folders):
    (folders[0].parent / "empty").mkdir()
    status, said = compared("old", "empty")
    assert status == 2 and "empty holds no executed notebook and no result record" in said
    (folders[0] / "broken.ipynb").write_text("no json")
    status, said = compared("old", "new")
    assert status == 2 and "broken.ipynb is not a notebook" in said


def test_on_a_terminal_a_changed_verdict_stands_out(folders, tmp_path):
    old, new = folders
    keep(new, "tabular/one", claim("inconclusive", 0.25))
    with open(tmp_path / "screen", "w+") as screen:
        console = Console(file=screen, force_terminal=True, width=160, color_system="standard")
        display.show_comparison(console, compare.Comparison(compare.load("old"), compare.load("new")), ("old", "new"))
        screen.seek(0)
        assert "\x1b[31m" in screen.read()


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((2.3123, 1.3, 3.3), "+2.3 [+1.3, +3.3]"),
        ((-0.00123, -0.002, -0.0004), "-0.0012 [-0.0020, -0.0004]"),
        ((123.4, 100.0, 147.0), "+123 [+100, +147]"),
        ((1.23456, None, None), "+1.23"),
        ((1.0, 1.0, 1.0), "+1.000 [+1.000, +1.000]"),
    ],
)
def test_effects_are_shown_to_the_digits_that_mean_something(numbers, text):
    assert display.effect(dict(zip(("mean", "low", "high"), numbers))) == text
