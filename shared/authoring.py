"""Write chapters as text: ``python -m shared.authoring``.

A chapter is easiest to write as a Python file with cells marked ``# %%`` (jupytext's percent format). ``from-text``
turns it into a source notebook and runs it at smoke scale; ``to-text`` goes the other way; ``check`` runs a notebook
again and refreshes the outputs of its cells tagged ``check``, which the tests compare.
"""

import hashlib
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import jupytext
import nbformat
import typer
from rich.console import Console

from shared import catalog, data
from shared.runner import execute, form, source

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console(highlight=False, soft_wrap=True)


def cell_id(cell, seen: Counter) -> str:
    """A stable id: the cell's type and source, and which of the cells with just that content it is."""
    content = f"{cell.cell_type}\0{cell.source}"
    seen[content] += 1
    return hashlib.sha256(f"{content}\0{seen[content]}".encode()).hexdigest()[:12]


def notebook_from_text(text: str) -> nbformat.NotebookNode:
    """A source notebook (no outputs) from text in percent format."""
    notebook = jupytext.reads(text, fmt="py:percent")
    return as_source(notebook)


def as_source(notebook) -> nbformat.NotebookNode:
    """The notebook as it is stored: cell ids from content, tags and no other metadata, no outputs."""
    seen = Counter()
    cells = []
    for cell in notebook.cells:
        new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        tagged = {"tags": source.tags(cell)} if source.tags(cell) else {}
        cells.append(new(cell.source, id=cell_id(cell, seen), metadata=tagged))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def text_from_notebook(notebook) -> str:
    """The notebook's cells in percent format, without a header."""
    bare = as_source(notebook)
    filters = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}
    bare.metadata = nbformat.from_dict({"jupytext": filters})
    for cell in bare.cells:
        cell.pop("id")
    return jupytext.writes(bare, fmt="py:percent")


def keep_check_outputs(notebook, executed) -> None:
    """Put the outputs of the executed notebook's `check` cells into the source notebook, the same for every run."""
    outputs = {cell.id: cell.get("outputs", []) for cell in executed.cells}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "check" in source.tags(cell):
            cell.outputs = outputs[cell.id]
            cell.execution_count = 1  # nbval refuses outputs of a cell that was never run
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = None


def refresh(path: Path, notebook, run: bool) -> None:
    """Run a source notebook at smoke scale, keep its check outputs, write it. Exits with status 1 when it fails."""
    slug = "/".join(path.resolve().with_suffix("").parts[-2:])
    if run:
        entry = next((e for e in catalog.load() if e.slug == slug), None)
        task = execute.Task(slug, nbformat.writes(notebook), "smoke", entry=entry and entry.as_json())
        started = time.monotonic()
        outcome = execute.execute(task, _show_progress)
        if outcome.error:
            console.print(outcome.traceback or outcome.error, markup=False)
            console.print(f"\n{outcome.error}\nNothing was written.", markup=False, style="red")
            raise typer.Exit(1)
        keep_check_outputs(notebook, nbformat.reads(outcome.text, as_version=4))
        memory = outcome.metadata["peak_memory_mb"]
        console.print(f"{slug} ran at smoke in {time.monotonic() - started:.1f} s, {memory:.0f} MB.")
        if outcome.stderr:
            console.print("It wrote to stderr, which a chapter should not:", style="yellow")
            console.print(outcome.stderr, markup=False, style="yellow")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    console.print(f"Wrote {path}.", markup=False)
    for problem in form.problems(notebook):
        console.print(f"- {problem}", markup=False, style="yellow")


def _show_progress(event: dict) -> None:
    if console.is_terminal:
        console.print(f"cell {event['cell']} of {event['cells']}", end="\r")


RunOption = Annotated[bool, typer.Option("--run/--no-run", help="Run it at smoke scale first.")]


@app.command()
def from_text(
    text: Annotated[Path, typer.Argument(help="A Python file with cells marked # %%.", exists=True, dir_okay=False)],
    notebook: Annotated[Path, typer.Argument(help="The notebook to write: papers/<part>/<slug>.ipynb.")],
    run: RunOption = True,
):
    """Turn text into a source notebook, run it at smoke scale, keep the outputs of its check cells.

    Nothing is written when the run fails; with --no-run it is written in any case.
    """
    refresh(notebook, notebook_from_text(text.read_text(encoding="utf-8")), run)


@app.command()
def to_text(
    notebook: Annotated[Path, typer.Argument(help="The notebook to read.", exists=True, dir_okay=False)],
    text: Annotated[Path | None, typer.Argument(help="The Python file to write; without it, the screen.")] = None,
):
    """Turn a notebook into text with cells marked # %%."""
    written = text_from_notebook(source.read(notebook))
    if text is None:
        typer.echo(written, nl=False)
    else:
        text.write_text(written, encoding="utf-8")


@app.command()
def check(notebook: Annotated[Path, typer.Argument(help="The notebook to run.", exists=True, dir_okay=False)]):
    """Run a source notebook at smoke scale and refresh the outputs of its check cells."""
    refresh(notebook, as_source(source.read(notebook)), run=True)


@app.command()
def previews(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; those out of date by default.")] = None,
):
    """Make the pictures and sample rows of the data page again, from the data.

    Canonical sets keep theirs unless named: they have to be downloaded or placed under $PAPERS_DATA.
    """
    from shared.site import previews as site

    book = catalog.ROOT / "book"
    kept = {name: preview for name, preview in site.read(book).items() if name in data.names() and site.may_show(name)}
    if names is None:
        at_hand = [name for name in data.names() if data.card(name).origin != "canonical" and site.may_show(name)]
        names = [name for name in at_hand if name not in kept or kept[name].key != site.key(name)]
    pictures = {}
    for name in names:
        try:
            kept[name], picture = site.make(name)
        except data.DataError as error:
            console.print(str(error), markup=False, style="red")
            raise typer.Exit(1) from None
        if picture is not None:
            pictures[name] = picture
        console.print(f"{name}: {kept[name].alt or f'{len(kept[name].rows)} rows'}", markup=False)
    site.write(book, kept, pictures)
    console.print(f"{len(names)} made, {len(kept)} in {site.folder(book).relative_to(catalog.ROOT)}.", markup=False)


if __name__ == "__main__":
    app()
