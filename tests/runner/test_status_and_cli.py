"""``papers list``, ``status`` and ``data``; what ``papers run`` refuses; where results go."""

import json
import os
import re

import nbformat
import pytest
from typer.testing import CliRunner

from shared import catalog, data
from shared.runner import batch, cli, execute, provenance, source, status, store
from tests.runner.checkout import Checkout


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A checkout of two chapters in which this process works, the first one published."""
    checkout = Checkout(tmp_path / "checkout")
    checkout.add("tabular/good", "print(1)")
    checkout.add("graphs/other", "print(2)")
    (checkout.root / "requirements.lock").write_text("a==1\n")
    monkeypatch.setattr(catalog, "ROOT", checkout.root)
    catalog.load.cache_clear()
    publish(checkout)
    yield checkout
    catalog.load.cache_clear()


def publish(checkout, **changes):
    """Write an executed copy of tabular/good as a run of profile book leaves it."""
    executed = nbformat.read(checkout.root / "papers/tabular/good.ipynb", as_version=4)
    executed.metadata.papers = {
        "slug": "tabular/good",
        "profile": "book",
        "seed": 0,
        "parameters": {"alpha": 1.0, "name": "one"},
        "source_sha256": source.source_sha256(executed),
        "shared_sha256": provenance.shared_sha256(executed),
        "lock_sha256": provenance.lock_sha256(checkout.root),
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    path = checkout.root / "book/chapters/tabular/good.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(executed, path)
    return executed, path


def papers(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, list(arguments))


def state(slug="tabular/good"):
    return status.published(catalog.find(slug))


def test_a_chapter_as_it_ran_is_fresh(book):
    assert state().fresh and not state().notes


def test_never_run(book):
    assert state("graphs/other").reasons == ("never run",) and state("graphs/other").mismatched


def test_a_changed_source_is_stale(book):
    path = book.root / "papers/tabular/good.ipynb"
    path.write_text(path.read_text().replace("print(1)", "print(3)"))
    assert state().reasons == ("source changed",) and state().mismatched


def test_new_outputs_or_tags_in_the_source_change_nothing(book):
    path = book.root / "papers/tabular/good.ipynb"
    original = nbformat.read(path, as_version=4)
    original.cells[2].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    original.cells[2].metadata.tags = ["figure"]
    nbformat.write(original, path)
    assert state().fresh


def test_other_parameters_are_stale(book):
    publish(book, parameters={"alpha": 2.0, "name": "one"}, seed=3)
    assert state().reasons == ("parameters: ran with seed=3, alpha=2.0",) and state().mismatched


def test_changed_shared_code_is_stale_but_still_matches_its_source(book):
    publish(book, shared_sha256="0" * 64)
    assert state().reasons == ("shared code changed since",) and not state().mismatched


def test_a_changed_lock_file_is_a_note(book):
    (book.root / "requirements.lock").write_text("a==2\n")
    assert state().fresh and state().notes == ("lock file changed since",)


def test_an_executed_copy_that_was_edited_is_stale(book):
    executed, path = publish(book)
    executed.cells[2].source = "print('better')"
    nbformat.write(executed, path)
    assert state().reasons == ("executed copy was edited by hand",)


def test_an_executed_copy_that_is_broken_is_stale(book):
    (book.root / "book/chapters/tabular/good.ipynb").write_text("{")
    assert state().reasons == ("executed copy is no notebook",)


def test_status_as_a_table_and_as_json_and_as_a_check(book):
    shown = papers("status")
    assert shown.exit_code == 0 and re.search(r"graphs/other +book +stale +never run", shown.stdout)
    rows = {row["slug"]: row for row in json.loads(papers("status", "--json").stdout)}
    assert rows["tabular/good"]["state"] == "fresh" and rows["graphs/other"]["reasons"] == ["never run"]
    assert papers("status", "--check").exit_code == 1 and papers("status", "good", "--check").exit_code == 0
    assert "tabular/good" not in papers("status", "--stale").stdout
    assert papers("status", "good", "--stale").stdout == "Every published chapter matches its source.\n"


def test_run_stale_with_nothing_stale_runs_nothing(book):
    ended = papers("run", "good", "--stale")
    assert ended.exit_code == 0 and "Every published chapter matches its source." in ended.output


def test_list_by_part_slug_and_name(book):
    assert "graphs/other" in papers("list").stdout and "tabular/good" in papers("list").stdout
    assert [row["slug"] for row in json.loads(papers("list", "graphs", "--json").stdout)] == ["graphs/other"]
    assert [entry.slug for entry in cli.select(["good", "graphs/other"])] == ["tabular/good", "graphs/other"]


def test_completion_offers_parts_slugs_and_data(book):
    titles = {"graphs": catalog.PARTS["graphs"], "graphs/other": "On graphs/other", "good": "On tabular/good"}
    assert dict(cli.complete_chapters("g")) == titles
    assert cli.complete_data("son") == ["sonar"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["goood"], "There is no chapter or part 'goood': did you mean good"),
        (["good", "-p", "beta", "1"], "tabular/good has no parameter 'beta': it has alpha, name."),
        (["good", "-p", "alpha", "x"], "Parameter alpha cannot be 'x': give a float, like its default 1.0."),
        (["good", "-p", "alpha"], "-p alpha lacks a value"),
        (["good", "-p", "seed", "3"], "use --seed"),
        (["good", "--profile", "bok"], "'bok' is not one of 'smoke', 'book', 'paper'"),
        (["good", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["good", "--label", "Too Loud"], "--label Too Loud will not do"),
        (["good", "--output", "book/mine"], "which holds published results only"),
        (["good", "--scheduler", "tcp://127.0.0.1:9"], "No Dask scheduler answers at tcp://127.0.0.1:9"),
        (["good", "--scheduler", "nonsense://x"], "No Dask scheduler answers at nonsense://x"),
    ],
)
def test_what_run_refuses(book, monkeypatch, arguments, said):
    monkeypatch.chdir(book.root)
    monkeypatch.setattr(batch, "CONNECT_TIMEOUT", 1)
    before = book.files("book")
    ended = papers("run", *arguments)
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", ended.output).split())
    assert ended.exit_code == 2 and said in words, ended.output
    assert book.files("book") == before


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(book):
    file = book.root / "file"
    file.write_text("")
    ended = papers("run", "good", "--output", str(file / "folder"))
    assert ended.exit_code == 2 and "cannot be written (Not a directory)" in ended.output


def test_sources_that_are_missing_or_broken(book):
    path = book.root / "papers/tabular/good.ipynb"
    path.write_text("no json")
    assert "is not a notebook" in papers("run", "good").output
    path.unlink()
    assert "does not exist" in papers("run", "good").output


def test_without_a_checkout(book, monkeypatch):
    catalog.load()  # an installed package carries the catalog
    monkeypatch.setattr(catalog, "ROOT", None)
    assert "the checkout" in papers("status").output


@pytest.mark.parametrize(
    ("options", "notebooks", "records"),
    [
        (("book", 0, {}, None, None), "book/chapters", None),
        (("book", 4, {}, None, None), "runs/book-seed=4", None),
        (("smoke", 0, {}, None, None), "runs/smoke", None),
        (("paper", 0, {"path": "a/b c"}, None, None), "runs/paper-path=a_b_c", None),
        (("paper", 0, {}, None, "h200"), "runs/h200", "book/runs/h200"),
    ],
)
def test_where_results_go(tmp_path, options, notebooks, records):
    destination = store.destination(tmp_path, *options)
    assert destination.notebooks == tmp_path / notebooks
    assert destination.records == (records and tmp_path / records)
    assert destination.published == notebooks.startswith("book") or records is not None


def test_a_labelled_run_adds_a_record_to_the_book_and_keeps_its_notebook(book, monkeypatch):
    monkeypatch.setattr(batch, "run", lambda tasks, *_: (execute.execute(task) for task in tasks))
    ended = papers("run", "good", "--label", "extra", "-p", "name", "two words", "-p", "alpha=3", "--json")
    assert ended.exit_code == 0, ended.output
    (row,) = json.loads(ended.stdout)
    assert row["slug"] == "tabular/good" and row["error"] is None and row["duration_s"] > 0
    content = json.loads((book.root / "book/runs/extra/tabular/good.json").read_text())
    assert set(content) == {"label", "metadata", "record"} and content["label"] == "extra"
    assert content["metadata"]["parameters"] == {"alpha": 3.0, "name": "two words"}
    assert content["metadata"]["lock_sha256"] == provenance.lock_sha256(book.root)
    assert content["record"]["claims"][0]["verdict"] == "holds"
    assert book.files("runs") == ["extra/tabular/good.ipynb"]
    listed = json.loads(papers("status", "good", "--json").stdout)
    assert [(row["label"], row["state"], row["verdict"]) for row in listed] == [
        ("book", "fresh", None), ("extra", "fresh", "holds"),
    ]  # fmt: skip


def outcome(text, **fields):
    return execute.Outcome("tabular/good", text, {"slug": "tabular/good"}, **fields)


def test_a_chapter_without_a_result_or_too_large_is_not_published(book):
    destination = store.destination(book.root, "book", 0, {}, None, None)
    executed, path = publish(book)
    before = path.read_bytes()
    without = outcome(nbformat.writes(executed))
    destination.keep(without)
    assert "shows no result record" in without.error
    record = nbformat.v4.new_output("display_data", data={source.RESULT_MIME: {"slug": "tabular/good"}})
    executed.cells[2].outputs = [record, nbformat.v4.new_output("stream", text="x" * 400_000)]
    large = outcome(nbformat.writes(executed))
    destination.keep(large)
    assert "has 40" in large.error and "400 kB are allowed" in large.error
    assert path.read_bytes() == before
    failed = ["failed/tabular/good.failed.ipynb", "failed/tabular/good.traceback.txt"]
    assert book.files("runs") == failed
    executed.cells[2].outputs = [record]
    destination.keep(outcome(nbformat.writes(executed)))
    assert book.files("runs") == [] and path.read_bytes() != before


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "chapter.ipynb"
    store.write(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(store.StoreError, match="cannot be written .No space left on device.: make room there"):
        store.write(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["chapter.ipynb"]


def test_data_lists_and_fetches(monkeypatch):
    cards = json.loads(papers("data", "--list", "--json").stdout)
    assert [card["name"] for card in cards] == data.names()
    assert re.search(r"sonar +table +208 x 60 +14.3 MB", papers("data", "--list").stdout)
    card = papers("data", "--list", "sonar").stdout
    assert "Sonar returns" in card and re.search(r"classes +M \(111\), R \(97\)", card) and "HyperTab" in card
    asked = []
    monkeypatch.setattr(data, "prefetch", lambda names, progress: asked.append(names) or [])
    assert papers("data", "sonar").exit_code == 0 and papers("data").exit_code == 0
    assert asked == [["sonar"], None]
    refused = papers("data", "--list", "sonr")
    assert refused.exit_code == 2 and "did you mean sonar" in refused.output
