"""What changed between two sets of runs: verdicts, effects, time and memory."""

import dataclasses
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import nbformat

from shared import catalog
from shared.runner import source

#: What the name ``book`` stands for, in a checkout and in its history.
BOOK = "book/chapters"

#: A claim is the same in two runs when it is decided by the same rule; its words may change.
RULE = ("role", "metric", "arm", "baseline", "margin", "higher_is_better")

#: Fields of the provenance that tell machines apart.
MACHINE = ("cpu", "device")

#: Fields of the provenance that have to agree if a change is to be the libraries' or the machine's doing.
CAUSES = {
    "profile": "profile",
    "seed": "seed",
    "parameters": "parameters",
    "code_sha256": "code",
    "shared_sha256": "shared code",
}

COSTS = ("duration_s", "cpu_s", "peak_memory_mb", "peak_gpu_memory_mb")

FAILED, GONE = "failed", "not claimed"


class CompareError(ValueError):
    """Two sets of runs cannot be compared; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run as it was kept: its provenance, and its result record, which is None when it failed or shows none."""

    metadata: dict
    record: dict | None
    failed: bool = False

    @property
    def claims(self) -> dict[tuple, dict]:
        """The claims of the record by their rules."""
        return {tuple(claim.get(key) for key in RULE): claim for claim in (self.record or {}).get("claims", [])}


def load(name: str) -> dict[str, Run]:
    """The runs that a name stands for, by their path in it: ``book``, a folder, or a revision of the published book.

    A folder holds executed notebooks as `papers run` leaves them, or result records as in ``book/runs/LABEL``. Raises
    CompareError when there is nothing of the kind.
    """
    folder = Path(name)
    if name == "book":
        folder = _root() / BOOK
    if folder.is_dir():
        files = ((path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")) for path in _paths(folder))
        runs = _runs(files)
    else:
        runs = _runs(_revision(name))
    if not runs:
        raise CompareError(f"{name} holds no executed notebook and no result record: name what 'papers run' wrote.")
    return runs


def _root() -> Path:
    if catalog.ROOT is None:
        raise CompareError("The book is in the checkout, and only the package is installed here: name two folders.")
    return catalog.ROOT


def _paths(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.suffix in (".ipynb", ".json") and path.is_file()]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _revision(name: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the published chapters at a revision of the checkout."""
    archive = None
    if catalog.ROOT is not None and not name.startswith("-"):
        command = ["git", "archive", "--format=tar", name, BOOK]
        archive = subprocess.run(command, cwd=catalog.ROOT, capture_output=True)
    if archive is None or archive.returncode:
        raise CompareError(f"{name} is no folder, and no revision with a {BOOK}: name a folder, a revision, or 'book'.")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        for member in files:
            if member.isfile():
                path = PurePosixPath(member.name).relative_to(BOOK).as_posix()
                yield path, files.extractfile(member).read().decode()


def _runs(files) -> dict[str, Run]:
    runs = {}
    for path, text in files:
        name, _, suffix = path.rpartition(".")
        if suffix == "json":
            content = json.loads(text)
            if isinstance(content, dict) and {"metadata", "record"} <= content.keys():
                runs[name] = Run(content["metadata"], content["record"])
        elif suffix == "ipynb":
            try:
                notebook = nbformat.reads(text, as_version=4)
            except nbformat.reader.NotJSONError:
                raise CompareError(f"{path} is not a notebook: remove it, or run its chapter again.") from None
            failed, name = name.endswith(".failed"), name.removesuffix(".failed")
            metadata = notebook.metadata.get("papers")
            # Where both are, the failed run is the later one: a run that ends well removes it.
            if metadata and (failed or name not in runs or not runs[name].failed):
                runs[name] = Run(metadata, None if failed else source.result_record(notebook), failed)
    return runs


@dataclasses.dataclass(frozen=True)
class Change:
    """One claim of one run, before and after; `before` and `after` are claims as records hold them, or None.

    states: the verdicts, or why there is none.
    """

    name: str
    claim: str
    role: str
    before: dict | None
    after: dict | None
    states: tuple[str, str]

    @property
    def verdict_changed(self) -> bool:
        """Whether the verdict is another one, or is there on one side only."""
        return self.states[0] != self.states[1]

    @property
    def effect_changed(self) -> bool:
        """Whether mean or interval of the difference changed, be it in the last bit."""
        return self.effects[0] != self.effects[1]

    @property
    def effects(self) -> tuple[dict | None, dict | None]:
        """The two differences: mean, low and high."""
        keys = ("mean", "low", "high")
        both = ((claim or {}).get("difference") for claim in (self.before, self.after))
        return tuple(difference and {key: difference[key] for key in keys} for difference in both)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sets of runs, side by side: what only one has, the claims of both, and what the runs cost."""

    before: dict[str, Run]
    after: dict[str, Run]

    @property
    def common(self) -> list[str]:
        """Names of the runs that both have."""
        return [name for name in self.before if name in self.after]

    @property
    def only(self) -> tuple[list[str], list[str]]:
        """Names of the runs that one side lacks."""
        missing = ((self.before, self.after), (self.after, self.before))
        return tuple([name for name in here if name not in there] for here, there in missing)

    @property
    def changes(self) -> list[Change]:
        """Every claim of the runs that both have, changed or not."""
        found = []
        for name in self.common:
            runs = self.before[name], self.after[name]
            for rule in dict.fromkeys([*runs[0].claims, *runs[1].claims]):
                claims = [run.claims.get(rule) for run in runs]
                states = tuple(
                    claim["verdict"] if claim else FAILED if run.failed else GONE
                    for claim, run in zip(claims, runs, strict=True)
                )
                words = claims[1] or claims[0]
                found.append(Change(name, words["text"], words["role"], *claims, states))
        return found

    @property
    def verdict_changed(self) -> bool:
        """Whether any verdict changed."""
        return any(change.verdict_changed for change in self.changes)

    @property
    def conditions(self) -> list[str]:
        """Where the sides differ in what they ran on (versions, processors, devices) and in what they ran."""

        def seen(runs):
            found: dict[str, set[str]] = {}
            for run in (runs[name] for name in self.common):
                facts = run.metadata.get("versions", {}) | {key: run.metadata.get(key) for key in MACHINE}
                for key, value in facts.items():
                    found.setdefault(key, set()).add(str(value))
            return {key: ", ".join(sorted(values)) for key, values in found.items()}

        before, after = seen(self.before), seen(self.after)
        found = [
            f"{key} {before.get(key, 'none')} -> {after.get(key, 'none')}"
            for key in dict.fromkeys([*before, *after])
            if before.get(key) != after.get(key)
        ]
        for key, word in CAUSES.items():
            both = {
                name: (self.before[name].metadata.get(key), self.after[name].metadata.get(key)) for name in self.common
            }
            other = [name for name, (old, new) in both.items() if None not in (old, new) and old != new]
            if other:
                found.append(f"other {word}: {', '.join(other)}")
        return found

    def cost(self, name: str, key: str) -> tuple[float | None, float | None]:
        """What one run cost before and after; key is one of COSTS."""
        return self.before[name].metadata.get(key), self.after[name].metadata.get(key)

    def total(self, key: str) -> tuple[float | None, float | None]:
        """The sum of one cost over the runs that both sides have, where it is known of all of them."""
        columns = zip(*(self.cost(name, key) for name in self.common), strict=True)
        return tuple(None if None in column else sum(column) for column in columns)

    def as_dict(self) -> dict:
        """The comparison for a JSON listing."""
        return {
            "verdict_changed": self.verdict_changed,
            "conditions": self.conditions,
            "only_before": self.only[0],
            "only_after": self.only[1],
            "claims": [
                {
                    "name": change.name,
                    "claim": change.claim,
                    "role": change.role,
                    "verdicts": list(change.states),
                    "verdict_changed": change.verdict_changed,
                    "effects": list(change.effects),
                    "effect_changed": change.effect_changed,
                }
                for change in self.changes
            ],
            "costs": [{"name": name} | {key: list(self.cost(name, key)) for key in COSTS} for name in self.common],
        }
