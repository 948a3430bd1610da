"""Every chapter: the form of its source, and what its executed copy and its labelled runs have to carry."""

import datetime
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from shared import catalog
from shared.runner import form, source, status, store
from shared.runner.execute import find_leak

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = {entry.slug: entry for entry in catalog.load()}
SOURCES = {path.relative_to(ROOT / "papers").with_suffix("").as_posix(): path for path in ROOT.glob("papers/*/*.ipynb")}
EXECUTED = {
    path.relative_to(ROOT / "book/chapters").with_suffix("").as_posix(): path
    for path in ROOT.glob("book/chapters/*/*.ipynb")
}
RUNS = sorted(ROOT.glob("book/runs/*/*/*.json"))

METADATA = {
    "slug": str,
    "profile": str,
    "seed": int,
    "parameters": dict,
    "source_sha256": str,
    "shared_sha256": str,
    "lock_sha256": str,
    "duration_s": float,
    "peak_memory_mb": float,
    "device": str,
    "cpu": str,
    "versions": dict,
    "finished": str,
}
CLAIM = {
    "role": str,
    "text": str,
    "metric": str,
    "arm": str,
    "baseline": str,
    "higher_is_better": bool,
    "margin": (int, float),
    "seeds": list,
    "difference": dict,
    "verdict": str,
}
#: An object's address, which is another one in every run.
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")


def test_catalog_sources_executed_copies_and_tests_are_the_same_chapters():
    tests = {path.stem.removeprefix("test_") for path in ROOT.glob("tests/papers/test_*.py")}
    assert set(SOURCES) == set(ENTRIES)
    assert set(EXECUTED) == set(ENTRIES)
    assert tests == {entry.name.replace("-", "_") for entry in ENTRIES.values()}
    assert {"/".join(path.with_suffix("").parts[-2:]) for path in RUNS} <= set(ENTRIES)


@pytest.mark.parametrize("slug", sorted(SOURCES))
def test_a_source_has_the_form_of_a_chapter(slug):
    notebook = source.read(SOURCES[slug])
    nbformat.validate(notebook)
    assert form.problems(notebook) == []


@pytest.mark.parametrize("slug", sorted(EXECUTED))
def test_an_executed_copy_is_what_its_source_does_in_profile_book(slug):
    assert not status.published(ENTRIES[slug]).mismatched, status.published(ENTRIES[slug]).reasons
    executed, original = source.read(EXECUTED[slug]), source.read(SOURCES[slug])
    assert [(c.id, c.metadata, c.source) for c in executed.cells] == [
        (c.id, c.metadata, c.source) for c in original.cells
    ]
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert set(executed.metadata) == {"kernelspec", "language_info", "papers"}


@pytest.mark.parametrize("slug", sorted(EXECUTED))
def test_an_executed_copy_has_its_provenance_and_one_result(slug):
    executed = source.read(EXECUTED[slug])
    check_metadata(executed.metadata.papers, slug)
    assert executed.metadata.papers.profile == "book" and executed.metadata.papers.seed == 0
    shown = [o for c in executed.cells for o in c.get("outputs", []) if source.RESULT_MIME in o.get("data", {})]
    assert len(shown) == 1
    check_record(shown[0].data[source.RESULT_MIME], slug, "book")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: "/".join(path.with_suffix("").parts[-3:]))
def test_a_labelled_run_has_its_provenance_and_result(path):
    run = json.loads(path.read_text(encoding="utf-8"))
    slug = "/".join(path.with_suffix("").parts[-2:])
    assert set(run) == {"label", "metadata", "record"} and run["label"] == path.parts[-3]
    check_metadata(run["metadata"], slug)
    check_record(run["record"], slug, run["metadata"]["profile"])


def check_metadata(metadata, slug):
    """Assert that provenance is complete and of the right kinds."""
    assert {key: isinstance(metadata.get(key), kind) for key, kind in METADATA.items()} == dict.fromkeys(METADATA, True)
    assert metadata["slug"] == slug
    assert all(re.fullmatch(r"[0-9a-f]{64}", metadata[key]) for key in METADATA if key.endswith("sha256"))
    assert {"python", "torch", "numpy"} <= set(metadata["versions"])
    assert datetime.datetime.fromisoformat(metadata["finished"]).utcoffset() == datetime.timedelta(0)


def check_record(record, slug, profile):
    """Assert that a result record is complete, that its numbers agree and that its verdicts follow from them."""
    assert (record["slug"], record["profile"]) == (slug, profile)
    assert [claim["role"] for claim in record["claims"]].count("primary") == 1
    for claim in record["claims"]:
        assert {key: isinstance(claim.get(key), kind) for key, kind in CLAIM.items()} == dict.fromkeys(CLAIM, True)
        difference = claim["difference"]
        values = {name: record["arms"][claim[name]][claim["metric"]]["values"] for name in ("arm", "baseline")}
        assert difference["values"] == pytest.approx([a - b for a, b in zip(*values.values(), strict=True)])
        assert len(claim["seeds"]) == len(set(claim["seeds"])) == len(difference["values"])
        assert difference["mean"] == pytest.approx(sum(difference["values"]) / len(difference["values"]))
        if profile == "book":
            assert len(claim["seeds"]) >= 5
        if len(claim["seeds"]) >= 5:
            assert difference["low"] <= difference["mean"] <= difference["high"]
            assert claim["verdict"] == verdict(claim)
        else:
            assert claim["verdict"] == "not judged"
    for metrics in record["arms"].values():
        for numbers in metrics.values():
            assert set(numbers) == {"mean", "low", "high", "values"}
    assert record["paper"] and all({"quantity", "value", "source"} <= set(row) for row in record["paper"])


def verdict(claim) -> str:
    """The verdict that the rule gives: where the interval lies, seen in the claimed direction."""
    ends = [claim["difference"]["low"], claim["difference"]["high"]]
    low, high = ends if claim["higher_is_better"] else [-end for end in reversed(ends)]
    if low > claim["margin"]:
        return "holds"
    return "contradicted" if high < claim["margin"] else "inconclusive"


@pytest.mark.parametrize("slug", sorted(EXECUTED))
def test_an_executed_copy_is_clean(slug):
    path = EXECUTED[slug]
    assert path.stat().st_size <= store.LARGEST_CHAPTER
    executed = source.read(path)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert find_leak(executed, form.machine_folders()) is None
    for text in map(readable, outputs):
        assert not form.REGISTRY.search(text)
        assert not ADDRESS.search(text), f"{ADDRESS.search(text)[0]} is another number in every run"


def readable(output) -> str:
    """Everything in an output that is text."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
    return output.get("text", "") + json.dumps(data)


class Images(HTMLParser):
    """Collects the images of some HTML."""

    def __init__(self, html):
        super().__init__()
        self.alts = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))


@pytest.mark.parametrize("slug", sorted(EXECUTED))
def test_every_picture_has_alt_text_and_a_chapter_has_two(slug):
    alts = []
    for cell in source.read(EXECUTED[slug]).cells:
        for output in cell.get("outputs", []):
            pictures = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
            alts += [output.metadata.get(kind, {}).get("alt") for kind in pictures]
            alts += Images(output.get("data", {}).get("text/html", "")).alts
    assert len(alts) >= 2, "a figure for the idea and one for the result"
    assert all(alt and len(alt) >= 10 for alt in alts), alts
