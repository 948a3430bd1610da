"""Profiles, claims, arms over paired seeds, intervals and verdicts: the rules that every chapter is judged by."""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from shared import catalog, device, report
from shared.progress import track

PROFILES = ("smoke", "book", "paper")
ROLES = ("primary", "mechanism")
MIME = "application/vnd.papers.result+json"
#: Fewer seeds than this are never judged.
LEAST_SEEDS = 5

_clock = itertools.count()  # orders declarations and runs; wall clocks can jump


class ExperimentError(ValueError):
    """An experiment asks for something that would make its verdict worthless."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95% Student-t interval; ``low`` and ``high`` are NaN for a single seed."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    def as_dict(self) -> dict:
        """The interval for a JSON record: NaN becomes None."""
        numbers = {"mean": self.mean, "low": self.low, "high": self.high}
        return {k: v if math.isfinite(v) else None for k, v in numbers.items()} | {"values": list(self.values)}


def interval(values: Iterable[float]) -> Interval:
    """Mean and 95% interval of numbers, one a seed: mean +- t(0.975, n-1) s / sqrt(n)."""
    from scipy.stats import t

    values = np.asarray(list(values), dtype=float)
    n, mean = len(values), float(values.mean())
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half, tuple(values.tolist()))


@dataclass(frozen=True)
class Claim:
    """What is expected of ``arm`` against ``baseline`` in ``metric``, by more than ``margin``.

    The margin is in the metric's units and counts in the claimed direction: 0 for "better", -1.5 for "at most 1.5
    worse", whichever way the metric points.
    """

    text: str
    metric: str
    arm: str
    baseline: str
    role: str = "primary"
    margin: float = 0.0
    higher_is_better: bool = True

    def judge(self, difference: Interval) -> str:
        """``holds``, ``contradicted`` or ``inconclusive``, from the interval of arm - baseline."""
        low, high = (difference.low, difference.high) if self.higher_is_better else (-difference.high, -difference.low)
        if low > self.margin:
            return "holds"
        return "contradicted" if high < self.margin else "inconclusive"


class Results:
    """Metrics of every arm and seed of one run. ``seconds`` maps an arm to the mean wall time of one seed."""

    def __init__(self, rows: dict[str, dict[int, dict[str, float]]], seconds: dict[str, float] | None = None):
        self.rows = rows
        self.seconds = seconds or {}
        self._started = next(_clock)

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the order of the run, derived ones last."""
        return list(self.rows)

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics, in order of first appearance."""
        return list(dict.fromkeys(m for seeds in self.rows.values() for row in seeds.values() for m in row))

    def seeds(self, arm: str) -> list[int]:
        """The seeds an arm ran with. Raises ExperimentError for an arm that did not run."""
        if arm not in self.rows:
            raise ExperimentError(f"There is no arm {arm!r} in the results: the arms are {', '.join(self.rows)}.")
        return list(self.rows[arm])

    def has(self, arm: str, metric: str) -> bool:
        """Whether every seed of the arm reports the metric."""
        return arm in self.rows and all(metric in row for row in self.rows[arm].values())

    def values(self, arm: str, metric: str) -> np.ndarray:
        """(seeds,) values of one metric. Raises ExperimentError where a seed does not report it."""
        for seed in self.seeds(arm):
            if metric not in self.rows[arm][seed]:
                raise ExperimentError(f"Arm {arm!r} reports no metric {metric!r} for seed {seed}.")
        return np.array([row[metric] for row in self.rows[arm].values()], dtype=float)

    def summary(self, arm: str, metric: str) -> Interval:
        """Mean over the seeds and its 95% interval."""
        return interval(self.values(arm, metric))

    def difference(self, arm: str, baseline: str, metric: str) -> Interval:
        """Interval of the paired difference arm - baseline. Raises ExperimentError when the seeds are not the same."""
        if self.seeds(arm) != self.seeds(baseline):
            raise ExperimentError(
                f"{arm!r} ran with seeds {self.seeds(arm)} and {baseline!r} with {self.seeds(baseline)}: "
                "a paired difference needs the same seeds in both."
            )
        return interval(self.values(arm, metric) - self.values(baseline, metric))


class Chapter:
    """One execution of one chapter; made by ``open_chapter``."""

    def __init__(self, entry: catalog.Entry, profile: str, seed: int, compute: device.Compute):
        self.entry, self.profile, self.seed = entry, profile, seed
        self.device, self.dtype, self.device_line = compute.device, compute.dtype, compute.line
        self.claims: dict[Claim, int] = {}

    def paper_table(self) -> None:
        """Show the paper's own numbers, each with its source."""
        rows = [(row["quantity"], row["value"], row["source"]) for row in self.entry.paper]
        report.show_table(["the paper reports", "value", "source"], rows)

    def settings(self, *, smoke: dict, book: dict, paper: dict) -> SimpleNamespace:
        """The settings of the running profile. ``smoke`` and ``paper`` say only what differs from ``book``."""
        chosen = {"smoke": book | smoke, "book": book, "paper": book | paper}
        if unknown := sorted((set(smoke) | set(paper)) - set(book)):
            raise ExperimentError(f"Settings {', '.join(unknown)} are missing in 'book', which lists them all.")
        return SimpleNamespace(**chosen[self.profile])

    def claim(
        self,
        text: str,
        *,
        metric: str,
        arm: str,
        baseline: str,
        role: str = "primary",
        margin: float = 0.0,
        higher_is_better: bool = True,
    ) -> None:
        """Declare, before the run, what the run is to decide. See ``Claim`` for the margin's sign."""
        if role not in ROLES:
            raise ExperimentError(f"A claim's role is one of {', '.join(ROLES)}, not {role!r}.")
        claim = Claim(text, metric, arm, baseline, role, float(margin), higher_is_better)
        self.claims.setdefault(claim, next(_clock))  # running the cell again does not make the claim younger
        report.show_claim(claim)

    def run(
        self,
        arms: Iterable[str],
        run: Callable[[str, int], dict[str, float]],
        *,
        seeds: int,
        derive: dict[str, Callable[[dict[str, dict[str, float]]], dict[str, float]]] | None = None,
    ) -> Results:
        """Call ``run(arm, seed)`` for every arm and the seeds ``seed, seed + 1, ...``; all arms of one seed are paired.

        Every call starts from the same state of the global random generators, so arms that build their network first
        start from the same weights. ``derive`` adds arms computed from the others: name -> function of one seed's
        ``{arm: {metric: value}}``. Raises ExperimentError for a metric that is not a finite number.
        """
        arms = list(arms)
        derive = derive or {}
        if twice := sorted({arm for arm in (*arms, *derive) if [*arms, *derive].count(arm) > 1}):
            raise ExperimentError(f"Arms {', '.join(twice)} are named twice.")
        results = Results({arm: {} for arm in (*arms, *derive)})
        spent = dict.fromkeys(arms, 0.0)
        for seed, arm in track([(s, a) for s in range(self.seed, self.seed + seeds) for a in arms], "arms and seeds"):
            device.seed_everything(seed)
            with device.timer() as clock:
                results.rows[arm][seed] = _finite(run(arm, seed), arm, seed)
            spent[arm] += clock.seconds / seeds
        for seed in range(self.seed, self.seed + seeds):
            for name, function in derive.items():
                row = {arm: dict(results.rows[arm][seed]) for arm in results.arms if seed in results.rows[arm]}
                results.rows[name][seed] = _finite(function(row), name, seed)
        results.seconds = spent
        return results

    def results_table(
        self,
        results: Results,
        metrics: Iterable[str] | None = None,
        *,
        baseline: str | None = None,
        arms: Iterable[str] | None = None,
        digits: int = 2,
        paper: dict[str, str] | None = None,
    ) -> None:
        """Show arms against metrics with 95% intervals; ``baseline`` adds the paired difference to that arm.

        ``paper`` (arm -> the paper's value, as text) adds a column that puts the paper's number beside ours.
        """
        metrics = list(metrics or results.metrics)
        header, rows = ["arm"], []
        for metric in metrics:
            header += [metric] + ([f"minus {baseline}"] if baseline else [])
        for arm in arms or results.arms:
            row = [arm]
            for metric in metrics:
                there = results.has(arm, metric)
                row.append(report.format_interval(results.summary(arm, metric), digits) if there else "")
                if baseline:
                    paired = there and arm != baseline and results.has(baseline, metric)
                    difference = results.difference(arm, baseline, metric) if paired else None
                    row.append(report.format_interval(difference, digits, signed=True) if paired else "")
            rows.append(row + ([paper.get(arm, "")] if paper else []))
        report.show_table(header + (["the paper"] if paper else []), rows)
        count = max(len(results.seeds(arm)) for arm in results.arms)
        report.show_note(f"Mean and 95% Student-t interval over {count} seed{'s' if count > 1 else ''}.")

    def verdicts(self, *results: Results) -> None:
        """Judge every claim by rule, show the verdicts, and emit the result record.

        A claim is looked up in the run that holds both its arms. Raises ExperimentError for a claim that was declared
        after its run, that no run answers, or whose arms ran with different seeds.
        """
        judged = [(claim, *self._judge(claim, declared, results)) for claim, declared in self.claims.items()]
        report.show_verdicts(judged, self.profile)
        arms: dict[str, dict] = {}
        for one in results:
            for arm in one.arms:
                metrics = {m: one.summary(arm, m).as_dict() for m in one.metrics if one.has(arm, m)}
                arms.setdefault(arm, {}).update(metrics)
        record = {
            "slug": self.entry.slug,
            "profile": self.profile,
            "claims": [
                vars(claim) | {"seeds": seeds, "difference": difference.as_dict(), "verdict": verdict}
                for claim, difference, verdict, seeds in judged
            ],
            "arms": arms,
            "paper": [dict(row) for row in self.entry.paper],
        }
        json.dumps(record, allow_nan=False)  # a NaN must fail here, not in whoever reads the record
        report.show_record(MIME, record)

    def _judge(self, claim: Claim, declared: int, runs: tuple[Results, ...]) -> tuple[Interval, str, list[int]]:
        answering = [r for r in runs if r.has(claim.arm, claim.metric) and r.has(claim.baseline, claim.metric)]
        if not answering:
            raise ExperimentError(
                f"No run reports {claim.metric!r} for both {claim.arm!r} and {claim.baseline!r}, "
                f"which the claim {claim.text!r} needs."
            )
        run = answering[0]
        if declared > run._started:
            raise ExperimentError(
                f"The claim {claim.text!r} was declared after the run: declare it first, then run the experiment again."
            )
        difference, seeds = run.difference(claim.arm, claim.baseline, claim.metric), run.seeds(claim.arm)
        judged = self.profile != "smoke" and len(seeds) >= LEAST_SEEDS
        return difference, claim.judge(difference) if judged else "not judged", seeds


def _finite(row: dict[str, float], arm: str, seed: int) -> dict[str, float]:
    row = {metric: float(value) for metric, value in row.items()}
    for metric, value in row.items():
        if not math.isfinite(value):
            raise ExperimentError(f"Arm {arm!r}, seed {seed}: {metric!r} is {value}; a run that diverged is no result.")
    return row


def open_chapter(slug: str, *, profile: str | None = None, seed: int = 0, device_name: str | None = None) -> Chapter:
    """Start a chapter: find its catalog entry, choose the device, seed everything, show the card.

    profile: ``smoke``, ``book`` or ``paper``; None reads ``$PAPERS_PROFILE``, else ``book``.
    device_name: as in ``device.pick``; None reads ``$PAPERS_DEVICE``, else the CPU for smoke and book (whose numbers
    are published for it), and the best there is for paper.
    Raises CatalogError, ExperimentError or DeviceError, each with a sentence that says what to do.
    """
    entry = catalog.find(slug)
    profile = profile or os.environ.get("PAPERS_PROFILE") or "book"
    if profile not in PROFILES:
        raise ExperimentError(f"There is no profile {profile!r}: choose among {', '.join(PROFILES)}.")
    if not isinstance(seed, int) or seed < 0:
        raise ExperimentError(f"The seed has to be an integer from 0 up, not {seed!r}.")
    if profile != "paper":
        device.pin_threads(1)
    device.keep_freed_memory()
    device.deterministic()
    device.seed_everything(seed)
    compute = device.pick(device_name or os.environ.get("PAPERS_DEVICE") or ("auto" if profile == "paper" else "cpu"))
    chapter = Chapter(entry, profile, seed, compute)
    report.show_card(chapter)
    return chapter
