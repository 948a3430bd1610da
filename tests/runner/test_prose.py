"""Text that changed is taken over without a run; code that changed is not."""

import nbformat
import pytest

from shared import catalog
from shared.runner import prose, source
from tests.runner.checkout import notebook

SLUG = "tabular/good"


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """A chapter with an executed copy whose first code cell printed 42."""
    monkeypatch.setattr(catalog, "ROOT", tmp_path)
    words = {"short": "G", "title": "G", "authors": ["A"], "year": 2020, "venue": "V", "claim": "c"}
    entry = catalog.from_mapping({"slug": SLUG, **words})
    for path in (entry.source, entry.executed):
        path.parent.mkdir(parents=True)
    original = notebook(SLUG, "print(42)")
    nbformat.write(original, entry.source)
    executed = nbformat.from_dict(original)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="42\n")]
    executed.cells.insert(
        2, nbformat.v4.new_code_cell("alpha = 2.0", id="injected", metadata={"tags": ["injected-parameters"]})
    )
    executed.metadata["papers"] = {"source_sha256": source.source_sha256(original), "duration_s": 1.5}
    nbformat.write(executed, entry.executed)
    return entry


def change(path, cells):
    """Rewrite a notebook with `cells` applied to its list of cells."""
    made = source.read(path)
    cells(made.cells)
    nbformat.write(made, path)


def test_new_text_keeps_outputs_and_provenance(entry):
    def edit(cells):
        cells[0].source = "# A better title"
        cells.append(nbformat.v4.new_markdown_cell("An afterword.", id="afterword"))

    change(entry.source, edit)
    assert prose.take_over(entry)
    executed, original = source.read(entry.executed), source.read(entry.source)
    assert source.source_sha256(executed) == source.source_sha256(original) == executed.metadata.papers.source_sha256
    assert executed.metadata.papers.duration_s == 1.5
    assert executed.cells[0].source == "# A better title" and executed.cells[-1].source == "An afterword."
    assert executed.cells[2].id == "injected" and executed.cells[3].outputs[0].text == "42\n"
    assert not prose.take_over(entry), "there is nothing left to do"


def test_changed_code_is_left_to_a_run(entry):
    def edit(cells):
        cells[0].source = "# A better title"
        cells[2].source = "print(43)"

    before = entry.executed.read_bytes()
    change(entry.source, edit)
    assert not prose.take_over(entry)
    assert entry.executed.read_bytes() == before


def test_a_copy_that_was_edited_by_hand_is_not_touched(entry):
    change(entry.executed, lambda cells: cells[3].update(source="print('42')"))
    change(entry.source, lambda cells: cells[0].update(source="# A better title"))
    assert not prose.take_over(entry)


def test_nothing_to_take_over_without_an_executed_copy(entry):
    entry.executed.unlink()
    assert not prose.take_over(entry)
