"""New prose for an executed chapter: text can be mended without running the code again.

A chapter's numbers come from its code cells alone. Where those are unchanged, the executed copy keeps its outputs and
its provenance, and only takes over the text between them.
"""

import copy

import nbformat

from shared import catalog
from shared.runner import source, store


def take_over(entry: catalog.Entry) -> bool:
    """Put the source's text into the executed copy, if text is all that differs. Returns whether it was done.

    Nothing is touched when a code cell changed, or when the executed copy was edited by hand.
    """
    try:
        original, executed = source.read(entry.source), source.read(entry.executed)
    except source.SourceError:
        return False
    metadata = executed.metadata.get("papers", {})
    wanted = source.source_sha256(original)
    if metadata.get("source_sha256") in (wanted, None) or source.source_sha256(executed) != metadata["source_sha256"]:
        return False
    if source.code_sha256(original) != source.code_sha256(executed):
        return False
    store.write(entry.executed, nbformat.writes(_merged(original, executed, wanted)) + "\n")
    return True


def _merged(original, executed, source_sha256: str):
    """The executed notebook with the source's markdown cells between its own code cells."""
    merged = copy.deepcopy(executed)
    merged.metadata.papers.source_sha256 = source_sha256
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    merged.cells = []
    for cell in original.cells:
        if cell.cell_type != "code":
            merged.cells.append(copy.deepcopy(cell))
            continue
        merged.cells.append(code.pop(0))
        if code and "injected-parameters" in source.tags(code[0]):
            merged.cells.append(code.pop(0))
    return merged
