"""The map of ideas: which paper builds on which, drawn as inline SVG from a small YAML file."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import mean

import yaml

from shared.catalog import PARTS
from shared.site.records import Chapter, SiteError

ROW, BOX = 40, (184, 30)  # pixels: distance of rows; width and height of a box
COLUMNS = 256  # pixels between the left edges of two columns
TOP, LEFT = 12, 8


@dataclass(frozen=True)
class Node:
    """A work on the map: a chapter (with an address) or an earlier work (without); ``by`` names authors and year."""

    key: str
    name: str
    by: str
    href: str = ""
    part: str = ""


@dataclass(frozen=True)
class Link:
    """``paper`` builds on ``root``; ``how`` says what it makes of it."""

    root: str
    paper: str
    how: str


@dataclass(frozen=True)
class Map:
    """Works by key, in the book's order, and the links between them."""

    nodes: dict[str, Node]
    links: tuple[Link, ...]

    def column(self, key: str) -> int:
        """How many steps lead from a work to the farthest that it goes back to."""
        return max((1 + self.column(link.root) for link in self.links if link.paper == key), default=0)


def read_map(path: Path, chapters: dict[str, Chapter]) -> Map:
    """The map of the chapters that the book has. Raises SiteError for what is malformed, unknown or circular."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        outside, papers = content["outside"], content["papers"]
        links = [Link(root, slug, how) for slug, roots in papers.items() for root, how in roots.items()]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise SiteError(f"The map of ideas in {path.name} cannot be read: {error}") from error
    if unknown := [link.root for link in links if link.root not in outside and link.root not in papers]:
        raise SiteError(f"{path.name} names {unknown[0]!r}, which is neither an earlier work there nor a paper.")
    links = [link for link in links if link.paper in chapters and (link.root in outside or link.root in chapters)]
    used = {link.root for link in links}
    nodes = {key: Node(key, row["name"], row.get("by", "")) for key, row in outside.items() if key in used}
    for slug, chapter in chapters.items():
        if any(slug in (link.root, link.paper) for link in links):
            year = str(chapter.entry.year)
            nodes[slug] = Node(slug, chapter.entry.short, year, f"{chapter.docname}.html", chapter.entry.part)
    found = Map(nodes, tuple(links))
    try:
        for key in nodes:
            found.column(key)
    except RecursionError:
        raise SiteError(f"{path.name} has a paper that builds on itself.") from None
    return found


def places(ideas: Map) -> dict[str, tuple[int, int]]:
    """Column and row of every work: papers in the book's order, one a row; earlier works beside what came of them.

    Two works never share a place.
    """
    columns = {key: ideas.column(key) for key in ideas.nodes}
    last = max(columns.values(), default=0)
    papers = [key for key, node in ideas.nodes.items() if node.href]
    rows: dict[str, float] = {key: float(row) for row, key in enumerate(papers)}
    found = {key: (columns[key], int(rows[key])) for key in papers}
    for column in range(last, -1, -1):
        wanted = [key for key in ideas.nodes if columns[key] == column and key not in found]
        for key in wanted:
            rows[key] = mean(rows[link.paper] for link in ideas.links if link.root == key)
        taken = {row for other, row in found.values() if other == column}
        for key in sorted(wanted, key=rows.get):
            near = sorted(range(len(papers) + len(wanted)), key=lambda row: abs(row - rows[key]))
            row = next(row for row in near if row not in taken)
            taken.add(row)
            found[key] = (column, row)
    return found


def drawing(ideas: Map, root: str) -> str:
    """The map as SVG; ``root`` leads from the page to the root of the site. ``listing`` says the same in words."""
    where = places(ideas)
    corner = {key: (LEFT + column * COLUMNS, TOP + row * ROW) for key, (column, row) in where.items()}
    width = max((x for x, _ in corner.values()), default=0) + BOX[0] + LEFT
    height = max((y for _, y in corner.values()), default=0) + BOX[1] + TOP
    lines, boxes = [], []
    for link in ideas.links:
        (x0, y0), (x1, y1) = corner[link.root], corner[link.paper]
        x0, y0, y1 = x0 + BOX[0], y0 + BOX[1] / 2, y1 + BOX[1] / 2
        bend = (x1 - x0) / 2
        lines.append(f'<path d="M{x0} {y0} C {x0 + bend:g} {y0} {x1 - bend:g} {y1} {x1} {y1}"/>')
    for key, (x, y) in corner.items():
        node = ideas.nodes[key]
        box = (
            f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="7"/>'
            f'<text x="{x + BOX[0] / 2:g}" y="{y + BOX[1] / 2 + 4.5:g}">{escape(node.name)}</text>'
        )
        kind = "pr-map-paper" if node.href else "pr-map-root"
        title = f"<title>{escape(f'{node.name}, {node.by}' if node.by else node.name)}</title>"
        inner = f'<a href="{root}{node.href}">{title}{box}</a>' if node.href else title + box
        boxes.append(f'<g class="{kind}">{inner}</g>')
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        f'aria-label="Map of ideas: the list below it says the same in words">'
        f'<g class="pr-map-edges">{"".join(lines)}</g>{"".join(boxes)}</svg>'
    )


def listing(ideas: Map) -> list[tuple[str, list[dict]]]:
    """The same in words: under the captions of the parts, each paper with what it builds on and what it makes of it."""
    groups = []
    for part, caption in PARTS.items():
        rows = [
            {
                "node": node,
                "roots": [(ideas.nodes[link.root], link.how) for link in ideas.links if link.paper == node.key],
            }
            for node in ideas.nodes.values()
            if node.part == part
        ]
        if rows := [row for row in rows if row["roots"]]:
            groups.append((caption, rows))
    return groups
