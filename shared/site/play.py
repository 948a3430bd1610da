"""Figures that the reader can move: their captions, and which chapters show them where."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from shared.site.records import SiteError


@dataclass(frozen=True)
class Figure:
    """A figure that ``book/_static/play.js`` draws under this name."""

    name: str
    title: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """All figures by name, and for each chapter that shows one (by slug) the figure's name and the heading below it."""

    by_name: dict[str, Figure]
    places: dict[str, tuple[str, str]]

    def named(self, name: str) -> Figure:
        """The figure of this name. Raises SiteError when there is none."""
        if name not in self.by_name:
            raise SiteError(f"There is no figure {name!r} to move: play.yml has {', '.join(self.by_name)}.")
        return self.by_name[name]


def read_figures(path: Path) -> Figures:
    """The figures of a file. Raises SiteError when it cannot be read, or gives a chapter a figure that is not there."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        figures = {name: Figure(name, **row) for name, row in content["figures"].items()}
        places = {slug: (row["figure"], row["before"]) for slug, row in content["chapters"].items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise SiteError(f"The figures in {path.name} cannot be read: {error}") from error
    found = Figures(figures, places)
    for name, _ in places.values():
        found.named(name)
    return found
