"""What chapters of a part measured on the same data with the same network, side by side."""

from dataclasses import dataclass

from shared.site.records import Chapter, SiteError, points


@dataclass(frozen=True)
class Line:
    """An arm: which chapters ran it, its values, and those of the baseline in the same chapter, for the same seeds."""

    arm: str
    chapters: tuple[Chapter, ...]
    values: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """The arm minus the baseline, one a seed."""
        return tuple(value - base for value, base in zip(self.values, self.baseline, strict=True))


def lines(chapters: list[Chapter], label: str, metric: str, baseline: str) -> list[Line]:
    """Every arm of the runs ``label`` that report ``metric``, best mean first; accuracies in percent.

    Chapters whose run lacks the baseline are left out. An arm that several chapters ran is one line. Raises SiteError
    when these did not measure the same for the same seeds, as arms of one name on one protocol have to, and when no
    chapter has such a run.
    """
    found: dict[str, tuple[tuple[Chapter, ...], dict[int, float], dict[int, float]]] = {}
    for chapter in chapters:
        run = next((run for run in chapter.runs if run.label == label), None)
        arms = run.record["arms"] if run else {}
        if metric not in arms.get(baseline, {}):
            continue
        factor, first = points(metric, run.record) or 1, run.metadata["seed"]
        of = {
            arm: {seed: factor * value for seed, value in enumerate(metrics[metric]["values"], first)}
            for arm, metrics in arms.items()
            if metric in metrics
        }
        for arm, values in of.items():
            others, known, base = found.get(arm, ((), {}, {}))
            if unlike := sorted(seed for seed in known.keys() & values if known[seed] != values[seed]):
                raise SiteError(
                    f"{others[0].entry.slug} and {chapter.entry.slug} both have an arm {arm!r} in their runs "
                    f"{label!r}, with another {metric} for seed {unlike[0]}: run both again, or name their arms apart."
                )
            paired = {seed: of[baseline][seed] for seed in values if seed in of[baseline]}
            found[arm] = ((*others, chapter), known | values, base | paired)
    if not found:
        raise SiteError(
            f"No chapter has a run {label!r} that reports {metric} for {baseline!r}: correct the directive."
        )
    table = [
        Line(arm, shown, tuple(values[seed] for seed in base), tuple(base.values()))
        for arm, (shown, values, base) in found.items()
    ]
    return sorted(table, key=lambda line: -sum(line.values) / len(line.values))
