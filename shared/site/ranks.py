"""Classifiers ranked over many tables: mean ranks, Friedman's test and Nemenyi's critical difference, as inline SVG.

After Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from shared.site.comparison import measured
from shared.site.records import Chapter, SiteError

LEVEL = 0.05
WIDTH, LEFT, RIGHT, ROW, BAR = 340, 122, 326, 21, 9  # of the drawing: text on the left, the axis from LEFT to RIGHT


@dataclass(frozen=True)
class Ranked:
    """An arm: the chapters that ran it, its scores (one a table, in percent) and its mean rank, 1 being best."""

    arm: str
    chapters: tuple[Chapter, ...]
    scores: tuple[float, ...]
    rank: float
    method: bool  # whether it is what a chapter's primary claim is about, and not a baseline

    @property
    def mean(self) -> float:
        """The mean of the scores."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Ranking:
    """Arms, best mean rank first, over ``tables``; Friedman's statistic and its p; the critical difference."""

    arms: tuple[Ranked, ...]
    tables: tuple[str, ...]
    seeds: int
    statistic: float
    p: float
    difference: float

    @property
    def groups(self) -> list[tuple[int, int]]:
        """Ranges (first, last) of arms whose mean ranks differ by less than the critical difference, longest only."""
        return groups([arm.rank for arm in self.arms], self.difference)


def mean_ranks(scores: Sequence[Sequence[float]]) -> list[float]:
    """Mean rank of every arm from scores (tables, arms), higher being better: 1 is best, ties share their ranks."""
    from scipy.stats import rankdata

    return rankdata([[-score for score in row] for row in scores], axis=1).mean(0).tolist()


def critical_difference(arms: int, tables: int, level: float = LEVEL) -> float:
    """Nemenyi's critical difference of mean ranks, q sqrt(k (k + 1) / (6 N)), for k arms on N tables.

    q is the studentized range with infinitely many degrees of freedom at ``level``, over sqrt(2).
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - level, arms, math.inf)) / math.sqrt(2)
    return q * math.sqrt(arms * (arms + 1) / (6 * tables))


def groups(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Ranges (first, last) of increasing ``ranks`` that span less than ``difference``, two or more, none in another."""
    found: list[tuple[int, int]] = []
    for first, lowest in enumerate(ranks):
        last = max(i for i, rank in enumerate(ranks) if rank - lowest < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def ranking(chapters: list[Chapter], label: str, tables: Sequence[str], without: tuple[str, ...] = ()) -> Ranking:
    """Rank the arms of the runs ``label``, but for those ``without``, by their scores averaged over the common seeds.

    Every record reports each table under its name. Raises SiteError when a chapter has no such run, when an arm lacks a
    table, when arms of one name disagree, when an arm to leave out does not exist, when there are too few seeds that
    all arms have, and when there are fewer than three arms, which Friedman's test needs.
    """
    from scipy.stats import friedmanchisquare

    from shared.experiment import LEAST_SEEDS  # imports PyTorch, which most builds can do without

    for chapter in chapters:
        if not any(run.label == label for run in chapter.runs):
            raise SiteError(
                f"{chapter.entry.slug} has no run {label!r} to rank: make it with "
                f"'papers run {chapter.entry.slug} --label {label}', or correct the directive."
            )
    by_table = {table: measured(chapters, label, table) for table in tables}
    names = list(dict.fromkeys(arm for found in by_table.values() for arm in found))
    if unknown := [arm for arm in without if arm not in names]:
        raise SiteError(f"No run {label!r} has an arm {unknown[0]!r} to leave out: correct the directive.")
    names = [arm for arm in names if arm not in without]
    if len(names) < 3:
        raise SiteError(f"The runs {label!r} have {len(names)} arms to rank, and Friedman's test needs three.")
    for table, found in by_table.items():
        if missing := [arm for arm in names if arm not in found]:
            raise SiteError(
                f"The arm {missing[0]!r} of the runs {label!r} lacks a score on {table}: "
                "run its chapter again, or leave the arm out."
            )
    seeds = set.intersection(*(set(found[arm][1]) for found in by_table.values() for arm in names))
    if len(seeds) < LEAST_SEEDS:
        raise SiteError(
            f"The arms of the runs {label!r} have {len(seeds)} seeds in common, and ranks need {LEAST_SEEDS}: "
            "run the chapters with the same seeds."
        )
    scores = [[sum(found[arm][1][seed] for seed in seeds) / len(seeds) for arm in names] for found in by_table.values()]
    test = friedmanchisquare(*zip(*scores, strict=True))
    methods = {
        claim["arm"] for chapter in chapters for run in chapter.runs if run.label == label for claim in primary(run)
    }
    arms = [
        Ranked(arm, by_table[tables[0]][arm][0], own, rank, arm in methods)
        for arm, own, rank in zip(names, zip(*scores, strict=True), mean_ranks(scores), strict=True)
    ]
    return Ranking(
        tuple(sorted(arms, key=lambda arm: (arm.rank, -arm.mean))),
        tuple(tables),
        len(seeds),
        float(test.statistic),
        float(test.pvalue),
        critical_difference(len(names), len(tables)),
    )


def primary(run) -> list[dict]:
    """The primary claims of a run."""
    return [claim for claim in run.record["claims"] if claim["role"] == "primary"]


def described(result: Ranking) -> str:
    """What the diagram shows, in words."""
    order = ", ".join(f"{arm.arm} {arm.rank:.1f}" for arm in result.arms)
    bars = "; ".join(f"{result.arms[a].arm} to {result.arms[b].arm}" for a, b in result.groups)
    return (
        f"Mean ranks over {len(result.tables)} tables, 1 being best: {order}. Critical difference "
        f"{result.difference:.2f}. Not told apart: {bars or 'none'}."
    )


def diagram(result: Ranking) -> str:
    """The critical-difference diagram: the axis of ranks, a bar over arms that are not told apart, a row an arm."""
    count = len(result.arms)

    def x(rank: float) -> str:
        return f"{LEFT + (rank - 1) / (count - 1) * (RIGHT - LEFT):.1f}"

    axis, ends = 46, result.groups
    top = axis + 8 + BAR * len(ends)  # where the rows begin
    height = top + ROW * count + 4
    reach = min(1 + result.difference, count)  # a difference wider than the axis is cut, and its number says so
    marks = [
        f'<line class="pr-cd-scale" x1="{x(1)}" x2="{x(reach)}" y1="16" y2="16"/>',
        *(f'<line class="pr-cd-scale" x1="{x(end)}" x2="{x(end)}" y1="12" y2="20"/>' for end in (1, reach)),
        f'<text x="{LEFT - 10}" y="20" class="pr-cd-end">critical difference</text>',
        f'<text x="{x((1 + reach) / 2)}" y="11" class="pr-cd-mid">{result.difference:.2f}</text>',
        f'<line class="pr-cd-axis" x1="{x(1)}" x2="{x(count)}" y1="{axis}" y2="{axis}"/>',
        f'<text x="{LEFT - 10}" y="{axis - 4}" class="pr-cd-end">mean rank, 1 is best</text>',
    ]
    for tick in range(1, count + 1):
        marks.append(f'<line class="pr-cd-axis" x1="{x(tick)}" x2="{x(tick)}" y1="{axis}" y2="{axis - 4}"/>')
        marks.append(f'<text x="{x(tick)}" y="{axis - 7}" class="pr-cd-mid">{tick}</text>')
    for i, (first, last) in enumerate(ends):
        y = axis + 8 + BAR * i
        low, high = (float(x(result.arms[end].rank)) for end in (first, last))
        marks.append(f'<line class="pr-cd-bar" x1="{low - 4:.1f}" x2="{high + 4:.1f}" y1="{y}" y2="{y}"/>')
    for i, arm in enumerate(result.arms):
        y, kind = top + ROW * (i + 0.5), "pr-cd-method" if arm.method else "pr-cd-other"
        at = x(arm.rank)
        marks += [
            f'<line class="pr-cd-stem" x1="{at}" x2="{at}" y1="{axis}" y2="{y}"/>',
            f'<line class="pr-cd-stem" x1="{LEFT - 6}" x2="{at}" y1="{y}" y2="{y}"/>',
            f'<circle class="{kind}" cx="{at}" cy="{y}" r="4"/>',
            f'<text x="{LEFT - 10}" y="{y + 4}" class="pr-cd-end {kind}">{escape(arm.arm)}</text>',
        ]
    return (
        f'<svg class="pr-cd" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(described(result))}">'
        f"{''.join(marks)}</svg>"
    )
