"""Source notebooks: reading them, hashing them, and the parameters that they offer."""

import ast
import hashlib
import json
from pathlib import Path

import nbformat

PROFILES = ("smoke", "book", "paper")
RESULT_MIME = "application/vnd.papers.result+json"


class SourceError(ValueError):
    """A notebook or a parameter is not what it has to be; the message says what to do."""


def tags(cell) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def read(path: Path) -> nbformat.NotebookNode:
    """Read a notebook of format 4.

    Raises SourceError when the file is missing or is no notebook.
    """
    try:
        return nbformat.reads(Path(path).read_text(encoding="utf-8"), as_version=4)
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist: write the chapter's notebook there first.") from None
    except nbformat.reader.NotJSONError:
        raise SourceError(f"{path} is not a notebook: restore it from version control.") from None


def source_sha256(notebook) -> str:
    """Hash of what a chapter says: the type and the source of every cell, in order.

    Metadata and outputs do not count. Cells that papermill injected do not count either, so that an executed copy has
    the hash of its source.
    """
    cells = [[cell.cell_type, cell.source] for cell in notebook.cells if "injected-parameters" not in tags(cell)]
    return hashlib.sha256(json.dumps(cells, ensure_ascii=False).encode()).hexdigest()


def code_sha256(notebook) -> str:
    """Hash of what decides a chapter's numbers: the source of every code cell, in order, injected ones left out."""
    return source_sha256(nbformat.from_dict({"cells": [c for c in notebook.cells if c.cell_type == "code"]}))


def parameter_defaults(notebook) -> dict:
    """Names and default values of a notebook's parameters, in the order of its `parameters` cell.

    Raises SourceError when there is not exactly one such cell, or when it holds anything but ``name = literal``.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        raise SourceError(f"The notebook has {len(cells)} cells tagged `parameters`: tag exactly one.")
    defaults = {}
    for statement in ast.parse(cells[0].source).body:
        try:
            (target,) = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            defaults[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, TypeError, ValueError):
            line = ast.get_source_segment(cells[0].source, statement)
            raise SourceError(
                f"`{line}` in the parameters cell is not `name = literal`: move it to a cell below."
            ) from None
    return defaults


def convert(name: str, text: str, default):
    """The value of a parameter given on the command line, of the kind that its default has.

    A default of None takes any literal, and text where the value is not one. Raises SourceError for a value of another
    kind than the default.
    """
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if default is None or (type(value) is type(default)):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(default)(value)
    raise SourceError(
        f"Parameter {name} cannot be {text!r}: give a {type(default).__name__}, like its default {default!r}."
    )


def result_record(notebook) -> dict | None:
    """The result record that an executed notebook shows, or None. The last one counts."""
    record = None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            record = output.get("data", {}).get(RESULT_MIME, record)
    return record
