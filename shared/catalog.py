"""The catalog: one entry a paper, read from ``papers/catalog.yml``.

A checkout has the file beside the package; an installed wheel carries a copy of it; a worker that runs a chapter for
somebody else receives the chapter's entry in ``$PAPERS_CATALOG_ENTRY`` and needs neither.
"""

import difflib
import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

#: Order of the parts in the book, with their captions.
PARTS = {
    "mixing": "Mixing samples",
    "augmentation": "Augmentation",
    "selfsupervised": "Self-supervised learning",
    "generative": "Generated data",
    "robustness": "Robustness",
    "training": "Training",
    "architectures": "Architectures",
    "tabular": "Tables",
    "graphs": "Graphs and recommendation",
    "language": "Language and speech",
    "medical": "Medical images",
}

_PACKAGE = Path(__file__).resolve().parent
#: The checkout's root, or None when only the package is installed.
ROOT = _PACKAGE.parent if (_PACKAGE.parent / "papers" / "catalog.yml").exists() else None


class CatalogError(ValueError):
    """The catalog cannot be read, or does not hold what was asked for."""


@dataclass(frozen=True)
class Entry:
    """One paper. ``paper`` holds its headline numbers: rows with ``quantity``, ``value`` and ``source``."""

    slug: str
    short: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    claim: str
    arxiv: str | None = None
    code: str | None = None
    family: tuple[str, ...] = ()
    paper: tuple[dict, ...] = ()
    data: dict = field(default_factory=dict)
    headline: str = "book"
    figure: int = 0

    @property
    def part(self) -> str:
        """The part of the book, such as ``tabular``."""
        return self.slug.split("/")[0]

    @property
    def name(self) -> str:
        """The slug without its part, such as ``hypertab``."""
        return self.slug.split("/")[1]

    @property
    def source(self) -> Path:
        """The source notebook. Raises CatalogError where there is no checkout."""
        if ROOT is None:
            raise CatalogError("The chapters' sources are in the checkout, and only the package is installed here.")
        return ROOT / "papers" / f"{self.slug}.ipynb"

    @property
    def executed(self) -> Path:
        """The published, executed copy. Raises CatalogError where there is no checkout."""
        if ROOT is None:
            raise CatalogError("The published chapters are in the checkout, and only the package is installed here.")
        return ROOT / "book" / "chapters" / f"{self.slug}.ipynb"

    def as_json(self) -> str:
        """The entry as JSON text, for ``$PAPERS_CATALOG_ENTRY``."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, ensure_ascii=False)


def from_mapping(row: dict) -> Entry:
    """Build an entry from a mapping; unknown or missing keys raise CatalogError naming them."""
    known = Entry.__dataclass_fields__
    unknown = sorted(set(row) - set(known))
    missing = [k for k in ("slug", "short", "title", "authors", "year", "venue", "claim") if k not in row]
    if unknown or missing:
        raise CatalogError(
            f"Catalog entry {row.get('slug', '?')!r}: unknown keys {unknown}, missing keys {missing}; "
            "see 'Adding a chapter' in README.md."
        )
    if row["slug"].count("/") != 1 or row["slug"].split("/")[0] not in PARTS:
        raise CatalogError(f"Catalog entry {row['slug']!r}: a slug is part/name, with a part among {', '.join(PARTS)}.")
    row = {k: tuple(v) if k in ("authors", "family", "paper") else v for k, v in row.items()}
    return Entry(**row)


@cache
def load() -> tuple[Entry, ...]:
    """All entries in the book's order: by part, inside a part as the file has them."""
    path = ROOT / "papers" / "catalog.yml" if ROOT else _PACKAGE / "catalog.yml"
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except (OSError, yaml.YAMLError) as error:
        raise CatalogError(f"The catalog {path.name} cannot be read: {error}") from error
    entries = [from_mapping(row) for row in rows]
    slugs = [entry.slug for entry in entries]
    if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        raise CatalogError(f"The catalog names {', '.join(twice)} more than once.")
    order = list(PARTS)
    return tuple(sorted(entries, key=lambda entry: order.index(entry.part)))


def find(slug: str) -> Entry:
    """The entry of one paper, by ``part/name`` or by ``name`` alone.

    The entry that travelled with a task (``$PAPERS_CATALOG_ENTRY``) comes first. Raises CatalogError with close
    matches.
    """
    if text := os.environ.get("PAPERS_CATALOG_ENTRY"):
        entry = from_mapping(json.loads(text))
        if slug in (entry.slug, entry.name):
            return entry
    entries = load()
    for entry in entries:
        if slug in (entry.slug, entry.name):
            return entry
    names = [entry.slug for entry in entries] + [entry.name for entry in entries]
    close = difflib.get_close_matches(slug, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "'papers list' shows them all."
    raise CatalogError(f"There is no chapter {slug!r}: {hint}")


def users(entries, name: str) -> list[tuple[Entry, str]]:
    """The entries that use a data set, with the profiles that do ("" where all of them do)."""
    found = []
    for entry in entries:
        if profiles := [profile for profile, names in entry.data.items() if name in names]:
            found.append((entry, "" if len(profiles) == len(entry.data) else ", ".join(profiles)))
    return found
