"""Loads what a chapter's notebook defines, so that tests test the very code that readers read."""

import contextlib
import functools
import io
import linecache
import os
import sys
import types
from pathlib import Path
from unittest import mock

from shared.runner import source

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def load_method(slug: str) -> types.ModuleType:
    """A module with everything that a source notebook defines above its first `check` cell, at profile smoke.

    Cells tagged `figure` are left out; cells tagged `method` further down are run as well. What the cells print or
    display is dropped. A notebook is loaded once per process, so do not change what it returns.
    """
    return load_path(ROOT / "papers" / f"{slug}.ipynb", slug)


def load_path(path: Path, slug: str) -> types.ModuleType:
    """As :func:`load_method`, for a notebook that lies elsewhere."""
    module = types.ModuleType(f"papers.{slug.replace('/', '.')}", f"The method of {slug}.")
    # Pickling, dataclasses and TorchScript look a function's module up by name.
    sys.modules[module.__name__] = module
    environment = {"PAPERS_PROFILE": "smoke", "PAPERS_PROGRESS": "0"}
    with mock.patch.dict(os.environ, environment), contextlib.redirect_stdout(io.StringIO()):
        for name, text in method_cells(source.read(path)):
            filename = f"<{slug}, {name}>"
            # Tracebacks and inspect.getsource then show the cell's lines.
            linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
            exec(compile(text, filename, "exec"), module.__dict__)
            if name == "parameters":
                module.profile = "smoke"
    return module


def method_cells(notebook):
    """Name and source of the cells to load, in order."""
    above_checks = True
    for number, cell in enumerate(notebook.cells, 1):
        tags = source.tags(cell)
        if cell.cell_type != "code":
            continue
        above_checks = above_checks and "check" not in tags
        if "method" in tags or (above_checks and "figure" not in tags):
            yield ("parameters" if "parameters" in tags else f"cell {number}"), cell.source
