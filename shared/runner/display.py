"""What a batch shows while it runs (a live table on a terminal, plain lines in a log), and how two are compared."""

import math
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

    def __init__(self, console: Console, names: list[str]):
        """Follow the runs of a batch by their names on a console."""
        self.console = console
        self.rows = {name: {} for name in names}
        self.left = len(names)
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
        """Take in a worker's report: name, worker, cell, cells, memory_mb."""
        now = time.monotonic()
        with self.lock:
            row = self.rows.get(event["name"])
            if row is None or row.get("done"):
                return
            if not row:
                self._line(f"{event['name']}: started")
            elif row["worker"] != event["worker"]:
                self._line(f"{event['name']}: its worker was lost, runs again on another one")
                row.clear()
            row.setdefault("since", now)
            row.setdefault("said", now)
            row.update(event)
            if now - row["said"] > LINE_EVERY:
                row["said"] = now
                self._line(
                    f"{event['name']}: cell {event['cell']} of {event['cells']}, {clock(now - row['since'])}, "
                    f"{memory(event['memory_mb'])}"
                )

    def finished(self, outcome) -> None:
        """Take in a chapter's end."""
        with self.lock:
            self.left -= 1
            self.rows[outcome.name]["done"] = True
            if outcome.error:
                self.console.print(outcome.error, style="red", markup=False, highlight=False, soft_wrap=True)
            else:
                spent, cpu, peak = (outcome.metadata[key] for key in ("duration_s", "cpu_s", "peak_memory_mb"))
                line = f"{outcome.name}: done, {spent:.1f} s ({cpu:.1f} s of CPU time), {memory(peak)}"
                self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, text: str) -> None:
        if not self.live:
            self.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """The running chapters as they are now."""
        table = Table("chapter", "cell", "elapsed", "memory", box=None, pad_edge=False)
        with self.lock:
            running = {name: row for name, row in self.rows.items() if row and not row.get("done")}
            for name, row in running.items():
                elapsed = clock(time.monotonic() - row["since"])
                table.add_row(name, f"{row['cell']} of {row['cells']}", elapsed, memory(row["memory_mb"]))
            waiting = self.left - len(running)
        table.caption = f"{waiting} waiting" if waiting else None
        return table


def effect(difference: dict | None) -> str:
    """A difference with its interval, to two digits of the interval's width: ``+2.31 [+1.32, +3.30]``."""
    if difference is None:
        return ""
    numbers = [difference[key] for key in ("mean", "low", "high")]
    if None in numbers:  # a single seed has no interval
        return f"{numbers[0]:+.3g}"
    width = numbers[2] - numbers[1]
    digits = min(8, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 3
    mean, low, high = (f"{number:+.{digits}f}" for number in numbers)
    return f"{mean} [{low}, {high}]"


def shift(change) -> str:
    """How far the mean of an effect moved, or nothing when it is there on one side only."""
    before, after = change.effects
    return f"{after['mean'] - before['mean']:+.2g}" if before and after else ""


def side_by_side(before: float | None, after: float | None, unit: str) -> str:
    """Two amounts with their ratio; an amount that is not known is left out."""
    texts = [
        "?" if amount is None else f"{amount:.0f}" if amount >= 100 else f"{amount:.1f}" for amount in (before, after)
    ]
    ratio = f" (x{after / before:.2f})" if before and after else ""
    return "" if texts == ["?", "?"] else f"{texts[0]} -> {texts[1]} {unit}{ratio}"


def show_comparison(console: Console, comparison, names: tuple[str, str]) -> None:
    """Print what changed between two sets of runs: conditions, claims, time and memory, and a line that sums up."""

    def line(text, **style):
        console.print(text, markup=False, soft_wrap=True, **style)

    for name, only in zip(names, comparison.only, strict=True):
        if only:
            line(f"Only in {name}: {', '.join(only)}")
    for condition in comparison.conditions:
        line(condition)
    changes = comparison.changes
    turned = [change for change in changes if change.verdict_changed]
    moved = [change for change in changes if change.effect_changed and not change.verdict_changed]
    if turned or moved:
        table = Table("chapter", "claim", "before", "after", "moved by", "verdict", box=None, pad_edge=False)
        for change in turned + moved:
            verdict = " -> ".join(dict.fromkeys(change.states))
            effects = map(effect, change.effects)
            style = "red" if change.verdict_changed else None
            table.add_row(change.name, change.claim, *effects, shift(change), verdict, style=style)
        console.print(table)
    if comparison.common:
        table = Table("chapter", "time", "CPU", "memory", "GPU memory", box=None, pad_edge=False)
        units = {"duration_s": "s", "cpu_s": "s", "peak_memory_mb": "MB", "peak_gpu_memory_mb": "MB"}
        for name in comparison.common:
            table.add_row(name, *(side_by_side(*comparison.cost(name, key), unit) for key, unit in units.items()))
        if len(comparison.common) > 1:
            table.add_row("together", *(side_by_side(*comparison.total(key), "s") for key in ("duration_s", "cpu_s")))
        console.print(table)
    claims = f"{len(changes)} claims of {len(comparison.common)} chapters"
    if turned:
        named = ", ".join(dict.fromkeys(change.name for change in turned))
        line(f"{len(turned)} verdicts changed among {claims}: {named}.", style="red")
    else:
        line(
            f"No verdict changed among {claims}; {len(moved)} effects did."
            if moved
            else f"Nothing changed in {claims}."
        )
