"""Sweeps: how they are written on the command line, what they run, and the tables that they end in."""

import re

import nbformat
import pandas as pd
import pytest
import typer
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from shared import catalog
from shared.runner import cli, execute, source, store, sweep
from tests.runner.checkout import Checkout


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A checkout in which a sweep ran: two values, two first seeds whose runs overlap; one run fails."""
    checkout = Checkout(tmp_path_factory.mktemp("sweep") / "checkout")
    checkout.add("tabular/good", "assert (alpha, seed) != (2.0, 3), 'bad luck'")
    checkout.add("graphs/other", "print(alpha)")
    options = ("--jobs", "2", "--output", "sweep")
    return checkout, checkout.papers("run", "good", *options, "--seeds", "2:4", "-p", "alpha", "-2", "2")


def test_a_sweep_runs_every_combination_and_keeps_each_run(swept):
    checkout, ended = swept
    assert ended.returncode == 1, ended.stderr
    assert checkout.files("sweep") == [
        "claims.csv",
        "tabular/good/alpha=-2.0,seed=2.ipynb",
        "tabular/good/alpha=-2.0,seed=3.ipynb",
        "tabular/good/alpha=2.0,seed=2.ipynb",
        "tabular/good/alpha=2.0,seed=3.failed.ipynb",
        "tabular/good/alpha=2.0,seed=3.traceback.txt",
        "values.csv",
    ]
    executed = checkout.executed("tabular/good/alpha=-2.0,seed=3", "sweep").metadata.papers
    assert (executed.slug, executed.seed, executed.parameters["alpha"]) == ("tabular/good", 3, -2.0)


def test_the_screen_tells_the_runs_apart(swept):
    _, ended = swept
    assert "tabular/good/alpha=2.0,seed=3: cell 2 of 3 failed: AssertionError: bad luck" in ended.stdout
    assert re.search(r"tabular/good/alpha=-2.0,seed=3 +done +inconclusive", ended.stdout)
    assert "1 failed: tabular/good/alpha=2.0,seed=3. " in ended.stdout
    assert re.search(r"Table: \S*values.csv", ended.stdout) and re.search(r"Table: \S*claims.csv", ended.stdout)


def test_the_table_of_values_has_each_seed_once(swept):
    checkout, _ = swept
    table = pd.read_csv(checkout.root / "sweep/values.csv")
    assert list(table) == ["chapter", "profile", "p.alpha", "seed", "arm", "metric", "value", "runs"]
    seen = table[(table.arm == "a") & (table["p.alpha"] == -2)]
    assert list(seen.seed) == [2, 3, 4] and list(seen.runs) == [1, 2, 1]
    assert list(seen.value) == pytest.approx([0.2, 1.0, 2.1])
    assert list(table[(table.arm == "b") & (table["p.alpha"] == 2)].seed) == [2, 3]


def test_the_table_of_claims_pools_the_seeds_of_a_setting(swept):
    checkout, _ = swept
    table = pd.read_csv(checkout.root / "sweep/claims.csv")
    assert list(table["p.alpha"]) == [-2, 2] and list(table.seeds) == [3, 2]
    assert list(table.verdict) == ["not judged"] * 2  # fewer seeds than a verdict needs
    assert table.difference[0] == pytest.approx(-2 + (0.2 + 0 + 0.1) / 3)


def outcome(member, record, profile="book"):
    """What the run of a member left."""
    executed = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                outputs=[nbformat.v4.new_output("display_data", data={source.RESULT_MIME: record})]
            )
        ]
    )
    return execute.Outcome(member.name, nbformat.writes(executed), {"profile": profile, "seed": member.seed})


def record(seeds, a, b):
    difference = {"values": [x - y for x, y in zip(a, b)]}
    rule = {"text": "less", "metric": "loss", "arm": "a", "baseline": "b", "role": "primary", "margin": 0.0}
    claim = rule | {"higher_is_better": False, "seeds": seeds, "difference": difference, "verdict": "not judged"}
    return {"arms": {"a": {"loss": {"values": a}}, "b": {"loss": {"values": b}}}, "claims": [claim]}


@pytest.mark.parametrize(("profile", "verdict"), [("book", "holds"), ("smoke", "not judged")])
def test_enough_seeds_are_judged_by_the_rule_of_the_chapters(profile, verdict):
    a, b = [0.1, 0.3, 0.2, 0.1, 0.4, 0.2], [0.5, 0.6, 0.7, 0.5, 0.6, 0.8]
    members = sweep.members("x/y", {"layers": [[1, 2]]}, None, range(0, 6, 3))
    outcomes = [outcome(m, record([m.seed, m.seed + 1, m.seed + 2], a[m.seed:][:3], b[m.seed:][:3]), profile)
                for m in members]  # fmt: skip
    tables = sweep.tables(members, outcomes[::-1])  # they come in any order
    (claim,) = tables["claims.csv"].to_dict("records")
    low, high = ttest_rel(a, b).confidence_interval()
    assert (claim["low"], claim["high"]) == pytest.approx((low, high))
    assert (claim["seeds"], claim["verdict"], claim["p.layers"]) == (6, verdict, [1, 2])
    assert list(tables["values.csv"].query("arm == 'a'").value) == a


def test_names_of_runs():
    names = [member.name for member in sweep.members("x/y", {"path": ["a/b", "a b"]}, 3, None)]
    assert names[0] == "x/y/path=a_b" and re.fullmatch(r"x/y/path=a_b-\w{8}", names[1])
    assert [m.name for m in sweep.members("x/y", {"path": ["a"]}, 3, None)] == ["x/y"]
    (long,) = sweep.members("x/y", {"path": ["z" * 300]}, None, range(1))
    assert len(long.name) < 130


@pytest.mark.parametrize(("text", "seeds"), [("0:3", [0, 1, 2]), ("5:12:5", [5, 10]), ("7:8", [7])])
def test_ranges_of_seeds(text, seeds):
    assert list(sweep.parse_seeds(text, None)) == seeds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["good", "--seeds", "20"], "--seeds 20 is no range of seeds: write START:STOP or START:STOP:STEP"),
        (["good", "--seeds", "3:3"], "--seeds 3:3 is no range of seeds"),
        (["good", "--seeds", "0:9:0"], "--seeds 0:9:0 is no range of seeds"),
        (["good", "--seeds", "0:2", "--seed", "1"], "--seed and --seeds cannot be given together"),
        (["good", "--seeds", "0:2", "--label", "x"], "A sweep has no --label"),
        (["good", "-p", "alpha", "1", "2", "--label", "x"], "A sweep has no --label"),
        (["-p", "alpha", "1", "good"], "good comes after -p alpha, where it is one more value: name chapters before"),
        (["good", "-p", "alpha", "1", "x"], "Parameter alpha cannot be 'x'"),
        (["good", "-p", "alpha", "1", "1.0"], "alpha is given 1.0 twice"),
        (["good", "-p", "alpha", "--seed", "1"], "-p alpha lacks a value"),
        (["good", "-p", "alpha", "1", "--output", "book/mine"], "which holds published results only"),
    ],
)
def test_what_a_sweep_refuses(tmp_path, monkeypatch, arguments, said):
    checkout = Checkout(tmp_path / "checkout")
    checkout.add("tabular/good", "print(1)")
    monkeypatch.setattr(catalog, "ROOT", checkout.root)
    monkeypatch.chdir(checkout.root)
    catalog.load.cache_clear()
    try:
        ended = CliRunner().invoke(cli.app, ["run", *arguments])
    finally:
        catalog.load.cache_clear()
    assert ended.exit_code == 2 and said in " ".join(ended.output.split()), ended.output
    assert checkout.files("runs") == []


@pytest.mark.parametrize(
    ("words", "params", "chapters"),
    [
        (["one", "-p", "a", "1", "-2", "-.5", "--seed", "3"], ["a=1", "a=-2", "a=-.5"], ["one"]),
        (["-p", "a=1", "one", "-p", "b", "x y", "z"], ["a=1", "b=x y", "b=z"], ["one"]),
        (["-p", "a", "1", "2", "--", "one"], ["a=1", "a=2"], ["one"]),
        (["one", "-p", "a", "-p", "b", "2"], ["a", "b=2"], ["one"]),
        (["one", "--param", "a", "-inf"], ["a=-inf"], ["one"]),
    ],
)
def test_where_the_values_of_a_parameter_end(words, params, chapters):
    command = typer.main.get_command(cli.app).commands["run"]
    context = command.make_context("run", list(words))
    assert context.params["param"] == params and context.params["chapters"] == chapters


def test_a_sweep_is_never_published_and_has_a_folder_of_its_own(tmp_path):
    destination = store.destination(tmp_path, "book", "0:20", {"alpha": "1,2"}, None, None, sweep=True)
    assert destination.notebooks == tmp_path / "runs" / "book-seed=0_20-alpha=1,2"
    assert destination.judged and not destination.published and destination.records is None
