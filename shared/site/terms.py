"""The words of the book, and where its chapters use them: what the glossary and the index are made of."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from docutils.nodes import make_id

from shared.site.records import SiteError, joined

#: Kinds of terms with the headings they have in the index; ``statistics`` are in the glossary alone.
KINDS = {
    "statistics": "Experiments",
    "method": "Methods",
    "architecture": "Architectures",
    "loss": "Losses",
    "measure": "Measures",
}
HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)
#: Headings whose anchor follows from their text alone.
PLAIN = re.compile(r"[\w ,:;.'()-]+")


@dataclass(frozen=True)
class Term:
    """A word with its other names, its kind, its meaning, and the patterns that find it in chapters."""

    term: str
    kind: str
    means: str
    also: tuple[str, ...] = ()
    find: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Where the glossary has it."""
        return f"term-{make_id(self.term)}"

    @property
    def pattern(self) -> re.Pattern | None:
        """What to look for in a chapter; None for words that stand in every chapter."""
        return re.compile(rf"(?<!\w)(?:{'|'.join(self.find)})(?!\w)") if self.find else None


@dataclass(frozen=True)
class Use:
    """A chapter that uses a term: how often, and the first section that does ("" for the page as a whole)."""

    slug: str
    count: int
    section: str = ""


@dataclass
class Text:
    """What a chapter says, by section: Markdown and code, without outputs; anchor of the section -> its text."""

    sections: dict[str, str] = field(default_factory=dict)


def read_terms(path: Path) -> tuple[Term, ...]:
    """All terms of a file, by name. Raises SiteError for a file that cannot be read or a term that lacks something."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        terms = [Term(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}) for row in rows]
        for term in terms:
            term.pattern  # noqa: B018  a pattern that is none says so here
    except (OSError, yaml.YAMLError, TypeError, re.error) as error:
        raise SiteError(f"The terms in {path.name} cannot be read: {error}") from error
    if wrong := sorted({term.kind for term in terms} - KINDS.keys()):
        raise SiteError(f"{path.name} has terms of kind {wrong[0]!r}: the kinds are {', '.join(KINDS)}.")
    names = [name.casefold() for term in terms for name in (term.term, *term.also)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SiteError(f"{path.name} explains {twice[0]!r} twice.")
    return tuple(sorted(terms, key=lambda term: term.term.casefold()))


def read_text(notebook: str) -> Text:
    """The text of a notebook (JSON) by the anchors that its headings get on the page.

    Text under a heading whose anchor is not plain from its words (formulas, or a heading that comes twice) counts for
    the section before.
    """
    text, anchor, seen = Text({"": ""}), "", set()
    for cell in json.loads(notebook)["cells"]:
        source = joined(cell["source"])
        if cell["cell_type"] != "markdown":
            text.sections[anchor] += source + "\n"
            continue
        pieces = HEADING.split(source)
        text.sections[anchor] += pieces[0]
        for heading, body in zip(pieces[1::2], pieces[2::2], strict=True):
            identity = make_id(heading)
            if PLAIN.fullmatch(heading) and identity and identity not in seen:
                anchor = identity
            seen.add(identity)
            text.sections[anchor] = text.sections.get(anchor, "") + heading + "\n" + body
    return text


def uses(term: Term, texts: dict[str, Text]) -> list[Use]:
    """The chapters that use a term, most frequent use first; by slug. None for words without a pattern."""
    if term.pattern is None:
        return []
    found = []
    for slug, text in texts.items():
        counts = {anchor: len(term.pattern.findall(body)) for anchor, body in text.sections.items()}
        if total := sum(counts.values()):
            found.append(Use(slug, total, next(anchor for anchor, count in counts.items() if count)))
    return sorted(found, key=lambda use: -use.count)
