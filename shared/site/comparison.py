"""What chapters of a part measured on the same data with the same network, side by side."""

from dataclasses import dataclass

from shared.site.records import Chapter, SiteError, points


@dataclass(frozen=True)
class Line:
    """An arm: which chapters ran it, its values, and those of the baseline for the same seeds."""

    arm: str
    chapters: tuple[Chapter, ...]
    values: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """The arm minus the baseline, one a seed."""
        return tuple(value - base for value, base in zip(self.values, self.baseline, strict=True))


def measured(
    chapters: list[Chapter], label: str, metric: str
) -> dict[str, tuple[tuple[Chapter, ...], dict[int, float]]]:
    """Arm -> chapters that ran it and its values by seed, from the runs ``label`` that report ``metric``; in percent.

    The chapters share one protocol, so an arm that several of them ran is one arm. Raises SiteError when arms of one
    name did not measure the same for the same seeds, as they have to on one protocol.
    """
    found: dict[str, tuple[tuple[Chapter, ...], dict[int, float]]] = {}
    for chapter in chapters:
        run = next((run for run in chapter.runs if run.label == label), None)
        for arm, metrics in run.record["arms"].items() if run else ():
            if metric not in metrics:
                continue
            factor = points(metric, run.record) or 1
            values = {seed: factor * v for seed, v in enumerate(metrics[metric]["values"], run.metadata["seed"])}
            others, known = found.get(arm, ((), {}))
            if unlike := sorted(seed for seed in known.keys() & values if known[seed] != values[seed]):
                raise SiteError(
                    f"{others[0].entry.slug} and {chapter.entry.slug} both have an arm {arm!r} in their runs "
                    f"{label!r}, with another {metric} for seed {unlike[0]}: run both again, or name their arms apart."
                )
            found[arm] = ((*others, chapter), known | values)
    return found


def lines(chapters: list[Chapter], label: str, metric: str, baseline: str, without: tuple[str, ...] = ()) -> list[Line]:
    """Every arm of the runs ``label`` that report ``metric``, but for those ``without``, best mean first; in percent.

    One chapter's baseline serves all. Raises SiteError when arms disagree (see ``measured``), and when no chapter ran
    the baseline or an arm that is to be left out. Seeds without the baseline are left out.
    """
    found = measured(chapters, label, metric)
    if baseline not in found:
        raise SiteError(
            f"No chapter has a run {label!r} that reports {metric} for {baseline!r}: correct the directive."
        )
    if unknown := [arm for arm in without if arm not in found]:
        raise SiteError(
            f"No chapter has a run {label!r} with an arm {unknown[0]!r} to leave out: correct the directive."
        )
    base = found[baseline][1]
    table = []
    for arm, (shown, values) in found.items():
        if arm not in without and (seeds := sorted(values.keys() & base)):
            table.append(Line(arm, shown, tuple(values[s] for s in seeds), tuple(base[s] for s in seeds)))
    return sorted(table, key=lambda line: -sum(line.values) / len(line.values))
