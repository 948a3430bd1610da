"""Progress bars that leave nothing behind: tqdm on a terminal, one line that empties itself in a notebook."""

import os
import sys
from collections.abc import Iterable

from tqdm import tqdm


class _KernelLine:
    """A file for tqdm to write to: every write replaces one output of the running cell."""

    def __init__(self):
        self._handle = None

    def write(self, text: str) -> None:
        from IPython.display import display

        line = {"text/plain": text.strip("\r\n ")}
        if self._handle is None:
            self._handle = display(line, raw=True, display_id=True)
        else:
            self._handle.update(line, raw=True)

    def flush(self) -> None:
        """tqdm calls it; every write is sent at once."""


def _stream():
    """Where a bar should go, or None for no bar at all (batch runs, logs)."""
    if os.environ.get("PAPERS_PROGRESS") == "0":
        return None
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and hasattr(shell, "kernel"):
        return _KernelLine()
    return sys.stderr if sys.stderr.isatty() else None


def track(items: Iterable, description: str = "", total: int | None = None) -> Iterable:
    """Iterate over ``items`` behind a progress bar, shown once two seconds have passed and removed at the end.

    ``PAPERS_PROGRESS=0`` turns bars off; so does a stderr that is no terminal.
    """
    stream = _stream()
    if stream is None:
        return items
    return tqdm(items, desc=description, total=total, file=stream, leave=False, delay=2, mininterval=0.3, ncols=88)
