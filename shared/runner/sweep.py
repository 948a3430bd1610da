"""Sweeps: one chapter with several values of its parameters and several first seeds, and the tables they end in."""

import dataclasses
import hashlib
import itertools
import re
from pathlib import Path

from shared.runner import source, store


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a chapter in a batch.

    name: what it is called on the screen and in the output folder; the slug, followed in a sweep by what is set.
    given: the parameters that the command line sets, with their values. seed: its first seed, None for the notebook's.
    """

    name: str
    slug: str
    given: dict
    seed: int | None = None


def parse_seeds(text: str | None, seed: int | None) -> range | None:
    """First seeds from ``START:STOP`` or ``START:STOP:STEP``, STOP left out as in Python; None for no text.

    Raises SourceError for anything else, and when a single seed is given as well.
    """
    if text is None:
        return None
    if seed is not None:
        raise source.SourceError("--seed and --seeds cannot be given together: --seeds 7:8 is seed 7 alone.")
    match = re.fullmatch(r"(\d+):(\d+)(?::(\d+))?", text)
    seeds = range(int(match[1]), int(match[2]), int(match[3] or 1) or 1) if match else range(0)
    if not seeds or match[3] == "0":
        raise source.SourceError(
            f"--seeds {text} is no range of seeds: write START:STOP or START:STOP:STEP, such as 0:20 for 0 to 19."
        )
    return seeds


def members(slug: str, values: dict[str, list], seed: int | None, seeds: range | None) -> list[Member]:
    """The runs of a chapter: every combination of the values of its parameters and of the first seeds.

    Raises SourceError when a parameter has a value twice.
    """
    for name, choices in values.items():
        for choice in choices:
            if choices.count(choice) > 1:
                raise source.SourceError(f"{name} is given {choice} twice: once is enough.")
    swept = seeds is not None or any(len(choices) > 1 for choices in values.values())
    found = {}
    for *chosen, first in itertools.product(*values.values(), seeds if seeds is not None else [seed]):
        given = dict(zip(values, chosen, strict=True))
        settings = {**given, "seed": first} if seeds is not None else given
        text = ",".join(f"{key}={value}" for key, value in settings.items())
        name = f"{slug}/{store.safe_name(text)}" if swept else slug
        if name in found:  # other characters, replaced by the same one
            name = f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        found[name] = Member(name, slug, given, first)
    return list(found.values())


def tables(members: list[Member], outcomes: list) -> dict:
    """The results of a sweep as data frames, by the name of their file; outcomes that failed are left out.

    ``values.csv`` has a row for every chapter, setting, seed, arm and metric; parameters are columns named ``p.NAME``.
    ``claims.csv`` has a row for every chapter, setting and claim: the paired difference over all seeds that the runs
    of this setting had, with its 95% interval and the verdict by the rule that chapters are judged by. A seed that
    several runs of a setting had counts once; ``runs`` says how many runs had it.
    """
    # Only here, since torch comes with it, and a batch needs neither.
    import pandas as pd

    from shared.experiment import Claim

    found = {outcome.name: outcome for outcome in outcomes if outcome.error is None}
    values: dict[tuple, list] = {}
    claims: dict[tuple, dict[int, float]] = {}
    settings: dict[tuple, tuple] = {}
    for member in members:
        if member.name not in found:
            continue
        record, metadata = found[member.name].record, found[member.name].metadata
        setting = (member.slug, metadata["profile"], *map(repr, member.given.values()))
        settings[setting] = (member.slug, metadata["profile"], *member.given.values())
        for arm, metrics in record["arms"].items():
            for metric, numbers in metrics.items():
                # The arms of a chapter run with the seeds from its first one on.
                for seed, value in enumerate(numbers["values"], metadata["seed"]):
                    values.setdefault((setting, seed, arm, metric), [value, 0])[1] += 1
        for claim in record["claims"]:
            rule = Claim(**{field.name: claim[field.name] for field in dataclasses.fields(Claim)})
            by_seed = claims.setdefault((setting, rule), {})
            for seed, value in zip(claim["seeds"], claim["difference"]["values"], strict=True):
                by_seed.setdefault(seed, value)
    parameters = [f"p.{name}" for name in members[0].given]
    rules = ["claim", *(field.name for field in dataclasses.fields(Claim)[1:])]
    numbers = ["seeds", "difference", "low", "high", "verdict"]
    return {
        "values.csv": pd.DataFrame(
            [(*settings[setting], *rest, *value) for (setting, *rest), value in values.items()],
            columns=["chapter", "profile", *parameters, "seed", "arm", "metric", "value", "runs"],
        ),
        "claims.csv": pd.DataFrame(
            [
                (*settings[setting], *dataclasses.astuple(rule), *_judged(rule, by_seed, setting[1]))
                for (setting, rule), by_seed in claims.items()
            ],
            columns=["chapter", "profile", *parameters, *rules, *numbers],
        ),
    }


def _judged(rule, by_seed: dict[int, float], profile: str) -> tuple:
    from shared.experiment import LEAST_SEEDS, interval

    difference = interval(by_seed[seed] for seed in sorted(by_seed))
    judged = profile != "smoke" and len(by_seed) >= LEAST_SEEDS
    verdict = rule.judge(difference) if judged else "not judged"
    return len(by_seed), difference.mean, difference.low, difference.high, verdict


def write(members: list[Member], outcomes: list, folder: Path) -> list[Path]:
    """Write the tables of a sweep to a folder and return where they are. Raises StoreError."""
    written = []
    for name, table in tables(members, outcomes).items():
        written.append(folder / name)
        store.write(written[-1], table.to_csv(index=False))
    return written
