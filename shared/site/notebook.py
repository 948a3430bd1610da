"""A chapter's executed notebook, made ready for the page: what the reader gets beside what the runner left."""

import base64
import hashlib
import json
import re

from shared.site.records import RECORD_TYPE, SiteError, joined, notebook_outputs

#: The section before which the other runs of a chapter are shown: right after its own results.
AFTER_RESULTS = re.compile(r"^## What differs\b", re.MULTILINE)
#: Cells that the runner writes and the page does not repeat: their content stands in the provenance.
INJECTED = "injected-parameters"


def markdown(identity: str, source: str) -> dict:
    """A Markdown cell; ``identity`` is its cell id, which has to be unique in the notebook."""
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": source}


def directive(name: str, argument: str = "") -> dict:
    """A Markdown cell that holds one directive of this extension."""
    return markdown(name, f"```{{{name}}}{argument and f' {argument}'}\n```")


def inserted(cells: list[dict], heading: re.Pattern, new: list[dict]) -> list[dict] | None:
    """The cells with new ones before a heading, whose cell is split there; None when there is no such heading."""
    for index, cell in enumerate(cells):
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown" and (found := heading.search(source)):
            before, after = source[: found.start()].rstrip(), source[found.start() :]
            head = [cell | {"source": before}] if before else []
            return [*cells[:index], *head, *new, markdown(f"after-{new[0]['id']}", after), *cells[index + 1 :]]
    return None


def with_more_runs(cells: list[dict]) -> list[dict]:
    """The cells with the section "More runs" before "What differs from the paper", or at the end without such a one."""
    section = [markdown("more-runs", "## More runs"), directive("papers-more-runs")]
    return inserted(cells, AFTER_RESULTS, section) or [*cells, *section]


def with_figure(cells: list[dict], name: str, heading: str) -> list[dict]:
    """The cells with a figure to move before a heading. Raises SiteError when there is no such heading."""
    pattern = re.compile(rf"^#+ {re.escape(heading)}$", re.MULTILINE)
    found = inserted(cells, pattern, [directive("papers-play", name)])
    if found is None:
        raise SiteError(f"There is no heading {heading!r} to put the figure {name!r} before: correct play.yml.")
    return found


def without_records(cells: list[dict]) -> list[dict]:
    """The cells without the outputs that only programs read."""
    result = []
    for cell in cells:
        if cell["cell_type"] == "code":
            cell = cell | {"outputs": [o for o in cell["outputs"] if RECORD_TYPE not in o.get("data", {})]}
        result.append(cell)
    return result


def page(text: str, several_runs: bool, figure: tuple[str, str] | None = None) -> str:
    """The JSON text of an executed notebook as the page shows it: at-a-glance block, other runs, no machine outputs.

    figure: a figure for the reader to move, and the heading that it stands before.

    The executed copy on disk stays as it is: this is applied to the text on its way to the parser.
    """
    notebook = json.loads(text)
    cells = [cell for cell in notebook["cells"] if INJECTED not in cell["metadata"].get("tags", ())]
    cells = without_records(cells)
    cells = [*cells[:1], directive("papers-glance"), *cells[1:]]
    if several_runs:
        cells = with_more_runs(cells)
    if figure:
        cells = with_figure(cells, *figure)
    notebook["cells"] = cells
    for runner_only in ("papers", "papermill"):
        notebook["metadata"].pop(runner_only, None)
    return json.dumps(notebook)


def alternative_texts(text: str) -> dict[str, str]:
    """Alternative text of each figure of a notebook, by the SHA-256 of its PNG, which is its file name in the site."""
    return {
        hashlib.sha256(base64.b64decode(joined(data["image/png"]))).hexdigest(): metadata["image/png"]["alt"]
        for data, metadata in notebook_outputs(json.loads(text))
        if "image/png" in data and metadata.get("image/png", {}).get("alt")
    }
