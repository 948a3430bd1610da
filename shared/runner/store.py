"""Where executed chapters go: whole files or nothing."""

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

#: Longest name of a file or folder that is made from parameters, in characters.
LONGEST_NAME = 100

#: Largest executed chapter that is published, in bytes.
LARGEST_CHAPTER = 400_000


class StoreError(RuntimeError):
    """A result cannot be kept; the message says what to do."""


def write(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, even if this process is killed half-way.

    Raises StoreError when it cannot be written (no permission, disk full, no such folder).
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{path} cannot be written ({reason}): make room there or choose another --output.") from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def check_writable(folder: Path) -> None:
    """Raise StoreError unless files can be made in a folder, which is made if need be."""
    probe = folder / f".writable-{os.getpid()}"
    write(probe, "")
    probe.unlink()


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where the results of one batch go.

    notebooks: folder of executed notebooks, as <part>/<slug>.ipynb, in a sweep <part>/<slug>/<setting>.ipynb. failed:
    folder for the half-executed notebook and the traceback of chapters that fail. records: folder of labelled runs, or
    None. label: their label, or None.
    published: these are the chapters of the book, or labelled runs of it. judged: every run needs a result record.
    """

    notebooks: Path
    failed: Path
    records: Path | None = None
    label: str | None = None
    published: bool = False
    judged: bool = False

    def check(self) -> None:
        """Raise StoreError when one of the folders cannot be written to."""
        for folder in {self.notebooks, self.failed, self.records} - {None}:
            check_writable(folder)

    def keep(self, outcome) -> None:
        """Store what a chapter left. An outcome that may not be published gets an error and is stored as failed."""
        if outcome.error is None:
            outcome.error = self._objection(outcome)
        if outcome.error:
            self._keep_failed(outcome)
            return
        if self.records is not None:
            content = {"label": self.label, "metadata": outcome.metadata, "record": outcome.record}
            write(self.records / f"{outcome.name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        write(self.notebooks / f"{outcome.name}.ipynb", outcome.text)
        for path in self._failed_paths(outcome.name):
            path.unlink(missing_ok=True)

    def _failed_paths(self, name: str) -> tuple[Path, Path]:
        return self.failed / f"{name}.failed.ipynb", self.failed / f"{name}.traceback.txt"

    def _keep_failed(self, outcome) -> None:
        notebook, trace = self._failed_paths(outcome.name)
        write(trace, "\n\n".join(filter(None, [outcome.error, outcome.traceback, outcome.stderr])) + "\n")
        if outcome.text is not None:
            write(notebook, outcome.text)

    def _objection(self, outcome) -> str | None:
        if (self.published or self.judged) and outcome.record is None:
            return f"{outcome.name}: it shows no result record: end its experiment with chapter.verdicts(results)."
        size = len(outcome.text.encode())
        if self.published and self.records is None and size > LARGEST_CHAPTER:
            return (
                f"{outcome.name}: the executed notebook has {size / 1000:.0f} kB, and {LARGEST_CHAPTER / 1000:.0f} kB "
                "are allowed: draw fewer or smaller figures."
            )
        return None


def safe_name(text: str) -> str:
    """Text as the name of a file or folder: other characters replaced, and cut, with a hash, where it is long."""
    name = re.sub(r"[^\w.=,+-]", "_", text)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def destination(
    root: Path,
    profile: str,
    seed: int | str,
    parameters: dict,
    output: Path | None,
    label: str | None,
    sweep: bool = False,
) -> Destination:
    """The destination of a batch.

    A plain run of profile `book` is the published one; a labelled run adds records to the book; anything else goes to
    `output`, by default a folder under ``runs/`` named after what differs: so does a sweep. `seed` and `parameters`
    are as they are to appear in that name. Raises StoreError for an output inside ``book/``, for a label that cannot
    name a folder, and for the label of a sweep.
    """
    folder = output.absolute() if output else None
    if folder and (root / "book").resolve() in (folder.resolve(), *folder.resolve().parents):
        raise StoreError(f"--output {output} is in book/, which holds published results only: choose another folder.")
    if label is not None:
        if sweep:
            raise StoreError(
                "A sweep has no --label, since the book shows single runs: leave it out, or give one value of each."
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", label) or label == "book":
            raise StoreError(
                f"--label {label} will not do: use small letters, digits, '.', '-', '_', and not just 'book'."
            )
        folder = folder or root / "runs" / label
        return Destination(folder, folder, root / "book" / "runs" / label, label, published=True)
    if folder is None and profile == "book" and seed == 0 and not parameters and not sweep:
        return Destination(root / "book" / "chapters", root / "runs" / "failed", published=True)
    if folder is None:
        differences = [profile, *([f"seed={seed}"] if seed else []), *(f"{k}={v}" for k, v in parameters.items())]
        folder = root / "runs" / safe_name("-".join(differences))
    return Destination(folder, folder, judged=sweep)
