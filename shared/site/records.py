"""The runs of the book: result records with their provenance, read from executed notebooks and labelled files."""

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from shared import catalog, suites

#: MIME type of the output that carries a chapter's result record.
RECORD_TYPE = "application/vnd.papers.result+json"
#: Label of the run that is executed in the chapter's page.
MAIN = "book"
#: What a record and a notebook's ``metadata.papers`` must hold to be shown.
RECORD_KEYS = ("slug", "profile", "claims", "arms")
METADATA_KEYS = ("profile", "seed", "duration_s", "peak_memory_mb", "device", "cpu", "versions", "finished")
#: Parameters of chapters that choose data: a name, or names separated by spaces; None is the profile's own choice.
DATA_PARAMETERS = ("dataset", "table", "tables")


class SiteError(ValueError):
    """Something that the site is built from is missing or malformed."""


@dataclass(frozen=True)
class Run:
    """One run of one chapter: its label, its result record, and how it came about (``metadata.papers``)."""

    label: str
    record: dict
    metadata: dict

    @property
    def claims(self) -> list[dict]:
        """The claims, primary ones first."""
        return sorted(self.record["claims"], key=lambda claim: claim["role"] != "primary")

    def claim(self, text: str) -> dict | None:
        """The claim with this text, or None."""
        return next((claim for claim in self.record["claims"] if claim["text"] == text), None)


@dataclass(frozen=True)
class Figure:
    """A PNG output of an executed chapter, with its alternative text ("" when the chapter gave none)."""

    png: bytes
    alt: str


@dataclass(frozen=True)
class Chapter:
    """A catalog entry with its runs (the main one first) and the figures of its executed notebook."""

    entry: catalog.Entry
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]

    @property
    def docname(self) -> str:
        """Name of the chapter's page in the book."""
        return f"chapters/{self.entry.slug}"

    @property
    def main(self) -> Run:
        """The run executed in the page."""
        return self.runs[0]

    @property
    def headline(self) -> Run:
        """The run that speaks for the paper, as the catalog says."""
        return next(run for run in self.runs if run.label == self.entry.headline)

    def data(self, run: Run) -> tuple[str, ...]:
        """Names of the data sets of a run: those that a parameter chose, else what the catalog says for its profile."""
        parameters = run.metadata.get("parameters", {})
        if parameters.get("protocol") == suites.PROTOCOL:
            return suites.TABLES
        chosen = next((parameters[name] for name in DATA_PARAMETERS if parameters.get(name)), None)
        return tuple(chosen.split()) if chosen else tuple(self.entry.data.get(run.metadata["profile"], ()))


def read_catalog(path: Path) -> tuple[catalog.Entry, ...]:
    """All entries of a catalog file in the book's order. Raises SiteError when the file cannot be read."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except (OSError, yaml.YAMLError) as error:
        raise SiteError(f"The catalog {path.name} cannot be read: {error}") from error
    order = list(catalog.PARTS)
    return tuple(sorted(map(catalog.from_mapping, rows), key=lambda entry: order.index(entry.part)))


def notebook_outputs(notebook: dict):
    """Yield (data, metadata) of every rich output, in the notebook's order."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if "data" in output:
                yield output["data"], output.get("metadata", {})


def joined(text: str | list[str]) -> str:
    """Notebook text, which the format allows to be a list of lines, as one string."""
    return text if isinstance(text, str) else "".join(text)


def read_notebook(path: Path) -> dict:
    """The JSON of a notebook. Raises SiteError when it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise SiteError(f"The executed chapter {path.name} cannot be read: {error}") from error


def require(mapping: dict, keys: tuple[str, ...], what: str) -> None:
    """Raise SiteError naming the keys that are missing."""
    if missing := [key for key in keys if key not in mapping]:
        raise SiteError(f"{what} lacks {', '.join(missing)}: run the chapter again with 'papers run'.")


def main_run(notebook: dict, slug: str) -> Run:
    """The run that an executed notebook holds. Raises SiteError when record or provenance is incomplete."""
    records = [data[RECORD_TYPE] for data, _ in notebook_outputs(notebook) if RECORD_TYPE in data]
    if len(records) != 1:
        raise SiteError(
            f"The executed chapter {slug} holds {len(records)} result records instead of one: "
            "its experiment ends with one chapter.verdicts(results)."
        )
    metadata = notebook["metadata"].get("papers", {})
    require(records[0], RECORD_KEYS, f"The result record of {slug}")
    require(metadata, METADATA_KEYS, f"The provenance of {slug}")
    return Run(MAIN, records[0], metadata)


def labelled_run(path: Path) -> Run:
    """A run kept under ``book/runs/<label>``. Raises SiteError when record or provenance is incomplete."""
    content = read_notebook(path)
    name = "/".join(path.parts[-3:])
    require(content, ("label", "record", "metadata"), f"The run {name}")
    require(content["record"], RECORD_KEYS, f"The result record of {name}")
    require(content["metadata"], METADATA_KEYS, f"The provenance of {name}")
    return Run(content["label"], content["record"], content["metadata"])


def figures(notebook: dict) -> tuple[Figure, ...]:
    """The PNG outputs of a notebook."""
    return tuple(
        Figure(base64.b64decode(joined(data["image/png"])), metadata.get("image/png", {}).get("alt", ""))
        for data, metadata in notebook_outputs(notebook)
        if "image/png" in data
    )


def run_files(book: Path, slug: str) -> list[Path]:
    """The files of a chapter's labelled runs, by label."""
    return sorted((book / "runs").glob(f"*/{slug}.json"))


def read_chapter(book: Path, entry: catalog.Entry) -> Chapter:
    """One executed chapter with all its runs. Raises SiteError when something is missing."""
    notebook = read_notebook(book / "chapters" / f"{entry.slug}.ipynb")
    runs = (main_run(notebook, entry.slug), *map(labelled_run, run_files(book, entry.slug)))
    if entry.headline not in {run.label for run in runs}:
        raise SiteError(
            f"The catalog names {entry.headline!r} as the headline run of {entry.slug}, and there is no such run: "
            f"make it with 'papers run {entry.slug} --label {entry.headline}' or change the entry."
        )
    return Chapter(entry, runs, figures(notebook))


def read_chapters(book: Path, entries: tuple[catalog.Entry, ...]) -> dict[str, Chapter]:
    """The chapters that have an executed copy, by slug, in the book's order."""
    return {
        entry.slug: read_chapter(book, entry)
        for entry in entries
        if (book / "chapters" / f"{entry.slug}.ipynb").exists()
    }


# Numbers, as the site prints them.


def points(metric: str, record: dict) -> float | None:
    """What turns a metric into percentage points: 100 for a share, 1 for per cent, None for what has no points.

    Accuracies, error rates and ranking metrics (NDCG@20) are reported either way; a metric counts as a share when no
    arm's mean is above 1.
    """
    if not re.search(r"accuracy|error rate|top-\d|@\d", metric):
        return None
    means = [arm[metric]["mean"] for arm in record["arms"].values() if metric in arm]
    if not means or not 0 <= min(means) <= max(means) <= 100:
        return None
    return 100 if max(means) <= 1 else 1


def signed(value: float, decimals: int) -> str:
    """A number with its sign, and with a minus sign that is as wide as the plus sign."""
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def effect(claim: dict, record: dict) -> str:
    """The difference of a claim with its interval and unit, such as ``+2.3 [+1.3, +3.3] points``.

    The interval is missing where there is none (a single seed).
    """
    factor = points(claim["metric"], record)
    numbers = [claim["difference"][key] for key in ("mean", "low", "high")]
    numbers = [(factor or 1) * number for number in numbers if number is not None]
    decimals = _decimals(max(map(abs, numbers)), bool(factor))
    mean, *ends = (signed(number, decimals) for number in numbers)
    interval = f" [{', '.join(ends)}]" if ends else ""
    return f"{mean}{interval}{' points' if factor else ''}"


def level(arm: str, claim: dict, record: dict) -> str:
    """An arm's mean of a claim's metric with its interval, with the effect's decimals: ``73.7 [72.6, 74.8] %``."""
    factor = points(claim["metric"], record)
    summary = record["arms"][arm][claim["metric"]]
    differences, numbers = (
        [(factor or 1) * values[key] for key in ("mean", "low", "high") if values[key] is not None]
        for values in (claim["difference"], summary)
    )
    decimals = _decimals(max(map(abs, differences)), bool(factor))
    mean, *ends = (signed(number, decimals).removeprefix("+") for number in numbers)
    interval = f" [{', '.join(ends)}]" if ends else ""
    return f"{mean}{interval}{' %' if factor else ''}"


def _decimals(largest: float, percent: bool) -> int:
    """Decimals for numbers of which this is the largest: three digits or so, fewer for percentage points."""
    if percent:
        return 1 if largest >= 1 else 2
    return next((decimals for decimals, bound in ((0, 100), (1, 10), (2, 1), (3, 0.1)) if largest >= bound), 4)


def duration(seconds: float) -> str:
    """A wall time for people: ``48 s``, ``3 min 20 s``, ``2 h 05 min``."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def memory(megabytes: float) -> str:
    """A memory size for people: ``640 MB``, ``1.9 GB``."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
