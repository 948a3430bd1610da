"""Compares executed chapters with what they were made from."""

import dataclasses
import json
from pathlib import Path

from shared import catalog
from shared.runner import provenance, source


@dataclasses.dataclass(frozen=True)
class Status:
    """How one run of one chapter stands.

    label: of the run (`book` is the published chapter). reasons: why it is stale, empty when it is fresh. notes: what
    else has changed since, without making it stale. metadata: its provenance, empty when it never ran.
    """

    slug: str
    label: str
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metadata: dict = dataclasses.field(default_factory=dict)
    verdict: str | None = None

    @property
    def fresh(self) -> bool:
        """Whether running it again would give the same numbers, as far as hashes tell."""
        return not self.reasons

    @property
    def mismatched(self) -> bool:
        """Whether the executed copy shows something else than its source; changes of shared code do not count."""
        return any(not reason.startswith("shared code") for reason in self.reasons)

    def as_dict(self) -> dict:
        """The status for a JSON listing."""
        keys = ("profile", "seed", "duration_s", "peak_memory_mb", "finished")
        return {
            "slug": self.slug,
            "label": self.label,
            "state": "fresh" if self.fresh else "stale",
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "verdict": self.verdict,
            **{key: self.metadata.get(key) for key in keys},
        }


def primary_verdict(record: dict | None) -> str | None:
    """The verdict on a chapter's primary claim, or None."""
    claims = (record or {}).get("claims", [])
    return next((claim.get("verdict") for claim in claims if claim.get("role") == "primary"), None)


def published(entry: catalog.Entry) -> Status:
    """Status of a chapter's executed copy in the book."""
    if not entry.executed.exists():
        return Status(entry.slug, "book", ("never run",))
    try:
        executed = source.read(entry.executed)
    except source.SourceError:
        return Status(entry.slug, "book", ("executed copy is no notebook",))
    metadata = executed.metadata.get("papers", {})
    original = source.read(entry.source)
    reasons = _reasons(original, metadata)
    if source.source_sha256(executed) != metadata.get("source_sha256"):
        reasons.append("executed copy was edited by hand")
    defaults = {k: v for k, v in source.parameter_defaults(original).items() if k not in ("profile", "seed")}
    given = {"profile": metadata.get("profile"), "seed": metadata.get("seed"), **metadata.get("parameters", {})}
    changed = [f"{k}={v}" for k, v in given.items() if {"profile": "book", "seed": 0, **defaults}.get(k, v) != v]
    if changed:
        reasons.append(f"parameters: ran with {', '.join(changed)}")
    verdict = primary_verdict(source.result_record(executed))
    return Status(entry.slug, "book", tuple(reasons), _notes(metadata), metadata, verdict)


def labelled(entry: catalog.Entry) -> list[Status]:
    """Status of each labelled run of a chapter."""
    found = []
    for path in sorted(_root().glob(f"book/runs/*/{entry.slug}.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        metadata = content["metadata"]
        original = source.read(entry.source)
        same_code = metadata.get("code_sha256") == source.code_sha256(original)
        # its record holds numbers only, which text cannot change
        reasons = tuple(
            reason for reason in _reasons(original, metadata) if not (same_code and reason == "source changed")
        )
        verdict = primary_verdict(content["record"])
        found.append(Status(entry.slug, content["label"], reasons, _notes(metadata), metadata, verdict))
    return found


def _root() -> Path:
    if catalog.ROOT is None:
        raise catalog.CatalogError("The book is in the checkout, and only the package is installed here.")
    return catalog.ROOT


def _reasons(original, metadata: dict) -> list[str]:
    reasons = []
    if metadata.get("source_sha256") != source.source_sha256(original):
        reasons.append("source changed")
    if metadata.get("shared_sha256") != provenance.shared_sha256(original):
        reasons.append("shared code changed since")
    return reasons


def _notes(metadata: dict) -> tuple[str, ...]:
    # A new lock file need not touch a chapter's numbers; saying "stale" would re-run the book at every upgrade.
    changed = metadata.get("lock_sha256") not in (None, provenance.lock_sha256(_root()))
    return ("lock file changed since",) if changed else ()
