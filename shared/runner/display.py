"""What a batch shows while it runs: a live table on a terminal, plain lines in a log."""

import threading
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

#: Seconds between two plain lines about the same chapter.
LINE_EVERY = 60


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def memory(mb: float | None) -> str:
    """Memory with its unit, or nothing when it is not known."""
    return "" if mb is None else f"{mb:.0f} MB"


class Progress:
    """Follows a batch; ``event`` may be called from any thread. Use it as a context manager around the batch."""

    def __init__(self, console: Console, slugs: list[str]):
        """Follow chapters by their slugs on a console."""
        self.console = console
        self.rows = {slug: {} for slug in slugs}
        self.left = len(slugs)
        self.lock = threading.Lock()
        self.live = None
        if console.is_terminal:
            self.live = Live(get_renderable=self.table, console=console, refresh_per_second=4, transient=True)

    def __enter__(self):
        """Show the table, where there is a terminal."""
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *exception):
        """Take the table away."""
        if self.live:
            self.live.__exit__(*exception)

    def event(self, event: dict) -> None:
        """Take in a worker's report: slug, worker, cell, cells, memory_mb."""
        now = time.monotonic()
        with self.lock:
            row = self.rows.get(event["slug"])
            if row is None or row.get("done"):
                return
            if not row:
                self._line(f"{event['slug']}: started")
            elif row["worker"] != event["worker"]:
                self._line(f"{event['slug']}: its worker was lost, runs again on another one")
                row.clear()
            row.setdefault("since", now)
            row.setdefault("said", now)
            row.update(event)
            if now - row["said"] > LINE_EVERY:
                row["said"] = now
                self._line(
                    f"{event['slug']}: cell {event['cell']} of {event['cells']}, {clock(now - row['since'])}, "
                    f"{memory(event['memory_mb'])}"
                )

    def finished(self, outcome) -> None:
        """Take in a chapter's end."""
        with self.lock:
            self.left -= 1
            self.rows[outcome.slug]["done"] = True
            if outcome.error:
                self.console.print(outcome.error, style="red", markup=False, highlight=False, soft_wrap=True)
            else:
                spent, cpu, peak = (outcome.metadata[key] for key in ("duration_s", "cpu_s", "peak_memory_mb"))
                line = f"{outcome.slug}: done, {spent:.1f} s ({cpu:.1f} s of CPU time), {memory(peak)}"
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if not self.live:
            self.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """The running chapters as they are now."""
        table = Table("chapter", "cell", "elapsed", "memory", box=None, pad_edge=False)
        with self.lock:
            running = {slug: row for slug, row in self.rows.items() if row and not row.get("done")}
            for slug, row in running.items():
                elapsed = clock(time.monotonic() - row["since"])
                table.add_row(slug, f"{row['cell']} of {row['cells']}", elapsed, memory(row["memory_mb"]))
            waiting = self.left - len(running)
        table.caption = f"{waiting} waiting" if waiting else None
        return table
