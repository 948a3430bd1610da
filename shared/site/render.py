"""The HTML blocks of the site, rendered from chapters, runs and data cards."""

import io
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image

from shared import suites
from shared.catalog import PARTS, users
from shared.data.facts import facts
from shared.site import ideas, ranks, records
from shared.site.citation import bibtex
from shared.site.comparison import lines
from shared.site.forest import drawn, forest, verdict_class
from shared.site.play import Figure
from shared.site.records import MAIN, Chapter, Run, SiteError
from shared.site.terms import Term, Use

VERDICTS = ("holds", "contradicted", "inconclusive")
THUMBNAIL = 640  # pixels: twice the width of a gallery card

environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
environment.filters |= {"duration": records.duration, "memory": records.memory, "verdict_class": verdict_class}


@dataclass(frozen=True)
class Repository:
    """Where the book's source lives: the root of all links to it."""

    url: str
    branch: str

    @property
    def name(self) -> str:
        """owner/name."""
        return "/".join(self.url.rstrip("/").split("/")[-2:])

    def links(self, slug: str) -> dict[str, str]:
        """Addresses that open a chapter's source notebook in Colab, in Binder, and in the repository's editor."""
        path = f"papers/{slug}.ipynb"
        return {
            "colab": f"https://colab.research.google.com/github/{self.name}/blob/{self.branch}/{path}",
            "binder": f"https://mybinder.org/v2/gh/{self.name}/{self.branch}?labpath={path}",
            "edit": f"{self.url.rstrip('/')}/edit/{self.branch}/{path}",
        }


def render(template: str, docname: str, **values) -> str:
    """Render a template for the page ``docname``; ``root`` in it leads from that page to the site's root."""
    text = environment.get_template(f"{template}.html").render(root="../" * docname.count("/"), **values)
    # Without blank lines, so that the block stays one block wherever Markdown meets it.
    return "\n".join(line for line in text.splitlines() if line.strip())


def claim_view(claim: dict, record: dict) -> dict:
    """What the templates show of one claim."""
    difference = claim["difference"]
    half_width = 0 if difference["low"] is None else (difference["high"] - difference["low"]) / 2
    sign = 1 if claim["higher_is_better"] else -1
    return {
        "text": claim["text"],
        "role": claim["role"],
        "verdict": claim["verdict"],
        "metric": claim["metric"],
        "lower": not claim["higher_is_better"],
        "forest": Markup(forest(claim, record)),
        "effect": records.effect(claim, record),
        # Rows of different units are sorted by the effect in half-widths of its interval.
        "strength": f"{sign * difference['mean'] / half_width:.3f}" if half_width else "0",
        "seeds": len(difference["values"]),
    }


def primary(run: Run) -> dict:
    """The primary claim of a run. Raises SiteError when it has none."""
    claim = run.claims[0] if run.claims else None
    if claim is None or claim["role"] != "primary":
        raise SiteError(
            f"The run {run.label!r} of {run.record['slug']} has no primary claim: declare one in the chapter."
        )
    return claim


def disagreement(chapter: Chapter, text: str) -> str:
    """How the run in the page judges a claim, where the headline run judges it otherwise; else an empty string."""
    here, there = chapter.main.claim(text), chapter.headline.claim(text)
    if not here or not there or here["verdict"] == there["verdict"]:
        return ""
    return f"{here['verdict']} in the run that every reader can repeat ({', '.join(chapter.data(chapter.main))})"


def item(chapter: Chapter, kind: str) -> dict:
    """What filters need to know of a gallery card or a row."""
    entry = chapter.entry
    return {
        "kind": kind,
        "part": entry.part,
        "family": entry.family,
        "short": entry.short,
        "href": f"{chapter.docname}.html",
        "role": "",
        "run": "",
    }


def board_rows(chapter: Chapter, runs: tuple[Run, ...], mechanisms: bool) -> list[dict]:
    """Scoreboard rows of a chapter: the primary claim of each run, and its mechanism claims if asked for."""
    rows = []
    for run in runs:
        for claim in run.claims if mechanisms else [primary(run)]:
            speaks = run is chapter.headline
            rows.append(
                item(chapter, "row")
                | claim_view(claim, run.record)
                | {
                    "label": run.label if len(chapter.runs) > 1 else "",
                    "run": "headline" if speaks else "other",
                    "data": chapter.data(run),
                    "verdicts": [claim["verdict"]],
                    "seconds": run.metadata["duration_s"],
                    "megabytes": run.metadata["peak_memory_mb"],
                    "note": disagreement(chapter, claim["text"]) if speaks else "",
                }
            )
    return rows


def grouped(chapters: dict[str, Chapter], rows_of) -> list[tuple[str, list[dict]]]:
    """Rows under the captions of their parts, in the book's order."""
    groups = []
    for part, caption in PARTS.items():
        if rows := [row for chapter in chapters.values() if chapter.entry.part == part for row in rows_of(chapter)]:
            groups.append((caption, rows))
    return groups


def choices(chapters: dict[str, Chapter], everything: bool) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The filters that make sense for these chapters: label, key, and (value, name) pairs."""
    shown = list(chapters.values())
    data = {name for chapter in shown for run in chapter.runs for name in chapter.data(run)}
    families = {family for chapter in shown for family in chapter.entry.family}
    parts = [(part, caption) for part, caption in PARTS.items() if any(c.entry.part == part for c in shown)]
    result = [
        ("Part", "part", parts),
        ("Method", "family", [(name, name) for name in sorted(families)]),
        ("Data", "data", [(name, name) for name in sorted(data)]),
        ("Verdict", "verdict", [(name, name) for name in VERDICTS]),
    ]
    if everything:
        result.append(("Claims", "role", [("primary", "primary"), ("mechanism", "mechanism")]))
        if any(len(chapter.runs) > 1 for chapter in shown):
            result.append(("Runs", "run", [("headline", "headline"), ("other", "other")]))
    return result


def filters(chapters: dict[str, Chapter], docname: str, everything: bool) -> str:
    """The filter bar; on the scoreboard's own page (``everything``) it also knows roles and runs."""
    return render("filters", docname, choices=choices(chapters, everything))


def scoreboard(
    chapters: dict[str, Chapter], docname: str, everything: bool, cards: Collection[str] = (), part: str = ""
) -> str:
    """The scoreboard: primary claims of the headline runs, or every claim of every run; of one part, if given.

    Names of data sets in ``cards`` link to the data page.
    """
    chapters = {slug: chapter for slug, chapter in chapters.items() if part in ("", chapter.entry.part)}

    def rows(chapter: Chapter) -> list[dict]:
        return board_rows(chapter, chapter.runs if everything else (chapter.headline,), mechanisms=everything)

    return render("scoreboard", docname, groups=grouped(chapters, rows), cards=cards)


def comparison(
    chapters: dict[str, Chapter],
    docname: str,
    names: str,
    label: str,
    metric: str,
    baseline: str,
    without: str = "",
    called: str = "",
) -> str:
    """All arms of the runs of one label of some chapters in one metric, against one baseline, on one scale.

    names: the chapters' slugs, separated by spaces; without: arms to leave out, separated by semicolons; called: the
    metric's name on the page, where it is another. Raises SiteError for a chapter that is not executed.
    """
    from shared.experiment import interval  # imports PyTorch, which most builds can do without

    left_out = tuple(arm.strip() for arm in without.split(";") if arm.strip())
    table = lines(executed(chapters, names), label, metric, baseline, left_out)
    intervals = [(line, interval(line.values), interval(line.differences)) for line in table]
    ends = [(d.mean, d.low, d.high) if len(d.values) > 1 else (d.mean,) * 3 for _, _, d in intervals]
    reach = max(abs(number) for (_, _, d), three in zip(intervals, ends, strict=True) for number in (*d.values, *three))
    metric = called or metric
    rows = []
    for (line, own, difference), (mean, low, high) in zip(intervals, ends, strict=True):
        numbers = f"{records.signed(mean, 1)} [{records.signed(low, 1)}, {records.signed(high, 1)}]"
        kind = "holds" if low > 0 else "contradicted" if high < 0 else "inconclusive"
        text = f"{line.arm} minus {baseline}, {metric}: {numbers}, {len(line.values)} seeds"
        svg = Markup(drawn(difference.values, (mean, low, high), reach or 1.0, text, kind))
        rows.append(
            {
                "arm": line.arm,
                "chapters": links(line.chapters),
                "mean": f"{own.mean:.1f}",
                "forest": "" if line.arm == baseline else svg,
                "difference": numbers,
                "seeds": len(line.values),
            }
        )
    metric += " (%)" * ("%" not in metric)
    caption = f"{metric} of all arms of the runs {label}"
    return render("comparison", docname, rows=rows, metric=metric, baseline=baseline, caption=caption)


def critical_difference(chapters: dict[str, Chapter], docname: str, names: str, label: str, without: str = "") -> str:
    """Arms of the runs of one label of some chapters, ranked over the common tables: a diagram and two tables.

    names: the chapters' slugs, separated by spaces; without: arms to leave out, separated by semicolons. Raises
    SiteError for a chapter that is not executed, and for records that cannot be ranked.
    """
    left_out = tuple(arm.strip() for arm in without.split(";") if arm.strip())
    result = ranks.ranking(executed(chapters, names), label, suites.TABLES, left_out)
    rows = [
        {"arm": arm.arm, "chapters": links(arm.chapters), "rank": f"{arm.rank:.2f}", "mean": f"{arm.mean:.1f}"}
        for arm in result.arms
    ]
    table = []
    for name, scores in zip(result.tables, zip(*(arm.scores for arm in result.arms), strict=True), strict=True):
        table.append(
            {"table": name, "scores": [{"text": f"{score:.1f}", "best": score == max(scores)} for score in scores]}
        )
    p = f"p = {result.p:.2g}" if result.p >= 0.001 else "p < 0.001"
    svg = Markup(ranks.diagram(result))
    values = {"result": result, "rows": rows, "lines": table, "p": p, "svg": svg, "label": label}
    return render("critical-difference", docname, metric=suites.MEAN.capitalize(), **values)


def executed(chapters: dict[str, Chapter], names: str) -> list[Chapter]:
    """The chapters with these slugs, separated by spaces. Raises SiteError for one that is not executed."""
    if unknown := [name for name in names.split() if name not in chapters]:
        raise SiteError(f"There is no executed chapter {unknown[0]!r} to compare: correct the directive.")
    return [chapters[name] for name in names.split()]


def links(chapters: Collection[Chapter]) -> list[dict]:
    """Names and addresses of chapters, for a table."""
    return [{"short": chapter.entry.short, "href": f"{chapter.docname}.html"} for chapter in chapters]


def summary(chapters: dict[str, Chapter], docname: str) -> str:
    """How many papers there are, and how their primary claims came out."""
    verdicts = Counter(primary(chapter.headline)["verdict"] for chapter in chapters.values())
    order = [*VERDICTS, *(verdict for verdict in verdicts if verdict not in VERDICTS)]
    counts = [(verdict, verdicts[verdict]) for verdict in order if verdicts[verdict]]
    return render("summary", docname, papers=len(chapters), counts=counts)


def picture(chapter: Chapter) -> records.Figure:
    """The figure that the catalog names as the chapter's picture. Raises SiteError when there is no such figure."""
    if not 0 <= chapter.entry.figure < len(chapter.figures):
        raise SiteError(
            f"The catalog names figure {chapter.entry.figure} of {chapter.entry.slug}, which has "
            f"{len(chapter.figures)} figures (counted from 0): correct the entry."
        )
    return chapter.figures[chapter.entry.figure]


def thumbnail_path(chapter: Chapter) -> str:
    """Where a chapter's picture lies in the built site."""
    return f"_static/papers/{chapter.entry.part}-{chapter.entry.name}.webp"


def thumbnail(chapter: Chapter) -> Image.Image:
    """A chapter's picture, at most 640 pixels wide, on white."""
    image = Image.open(io.BytesIO(picture(chapter).png)).convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(ground, image).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return image


def gallery(chapters: dict[str, Chapter], docname: str) -> str:
    """One card a chapter: picture, name, claim, verdict."""
    cards = []
    for chapter in chapters.values():
        claim = primary(chapter.headline)
        width, height = thumbnail(chapter).size
        cards.append(
            item(chapter, "card")
            | {
                "year": chapter.entry.year,
                "claim": chapter.entry.claim,
                "verdict": claim["verdict"],
                "verdicts": [claim["verdict"]],
                "data": sorted({name for run in chapter.runs for name in chapter.data(run)}),
                "note": disagreement(chapter, claim["text"]),
                "picture": thumbnail_path(chapter),
                "alt": picture(chapter).alt,
                "width": width,
                "height": height,
            }
        )
    return render("gallery", docname, cards=cards)


def minute(finished: str) -> str:
    """A UTC time stamp in ISO format without its seconds."""
    return finished[:16].replace("T", " ")


def day(finished: str) -> str:
    """The date of a UTC time stamp in ISO format."""
    return finished[:10]


def machine(metadata: dict) -> str:
    """Device and processor in one phrase."""
    device, cpu = str(metadata["device"]), str(metadata["cpu"])
    return cpu if device == "cpu" else f"{device}, {cpu}"


def run_facts(chapter: Chapter, run: Run) -> str:
    """One line on how a run came about."""
    facts = [
        f"data {', '.join(chapter.data(run))}",
        f"profile {run.metadata['profile']}",
        machine(run.metadata),
        records.duration(run.metadata["duration_s"]),
        records.memory(run.metadata["peak_memory_mb"]),
        day(run.metadata["finished"]),
    ]
    return " · ".join(facts)


def run_name(run: Run) -> str:
    """The name of a run for people."""
    return "This page" if run.label == MAIN else run.label


def glance(chapter: Chapter, docname: str, repository: Repository) -> str:
    """The block under a chapter's title: verdicts of the headline run, what to do with the page, how it was made."""
    run, metadata = chapter.headline, chapter.main.metadata
    claim = primary(run)
    story = [("", run_facts(chapter, run))]
    if run is not chapter.main:
        story = [(f"Headline run {run.label}:", story[0][1]), ("This page:", run_facts(chapter, chapter.main))]
    parameters = metadata.get("parameters", {})
    provenance = {
        "profile": metadata["profile"],
        "seed": metadata["seed"],
        "parameters": ", ".join(f"{name} = {value}" for name, value in parameters.items() if value is not None),
        "machine": machine(metadata),
        "time": records.duration(metadata["duration_s"]),
        "CPU time": records.duration(metadata["cpu_s"]) if "cpu_s" in metadata else "",
        "peak memory": records.memory(metadata["peak_memory_mb"]),
        "finished (UTC)": minute(metadata["finished"]),
        "versions": ", ".join(f"{name} {version}" for name, version in metadata["versions"].items()),
    }
    provenance |= {
        f"{what} SHA-256": metadata[f"{what}_sha256"][:16]
        for what in ("source", "shared", "lock")
        if metadata.get(f"{what}_sha256")
    }
    return render(
        "glance",
        docname,
        slug=chapter.entry.slug,
        claims=[claim_view(claim, run.record) for claim in run.claims],
        reported=chapter.entry.paper[:2],
        measured=[(arm, records.level(arm, claim, run.record)) for arm in (claim["arm"], claim["baseline"])],
        metric=claim["metric"],
        data=chapter.data(run),
        story=story,
        download=f"_sources/{chapter.docname}.ipynb",
        bibtex=bibtex(chapter.entry),
        provenance=[(name, value) for name, value in provenance.items() if value != ""],
        **repository.links(chapter.entry.slug),
    )


def more_runs(chapter: Chapter, docname: str) -> str:
    """All runs of a chapter with their claims, and where the run in the page and the headline disagree."""
    disagreements = [
        f"The runs disagree on “{claim['text']}”: {here['verdict']} in this page, {claim['verdict']} in the "
        f"headline run {chapter.headline.label} ({', '.join(chapter.data(chapter.headline))})."
        for claim in chapter.headline.claims
        if (here := chapter.main.claim(claim["text"])) and here["verdict"] != claim["verdict"]
    ]
    runs = [
        {
            "name": run_name(run),
            "headline": run is chapter.headline,
            "facts": run_facts(chapter, run),
            "claims": [claim_view(claim, run.record) for claim in run.claims],
        }
        for run in chapter.runs
    ]
    return render("more_runs", docname, runs=runs, disagreements=disagreements)


def execution(chapters: dict[str, Chapter], docname: str) -> str:
    """Time, memory, machine, versions and date of every run."""
    letters: dict[str, str] = {}
    rows = []
    for chapter in chapters.values():
        for run in chapter.runs:
            metadata = run.metadata
            versions = ", ".join(f"{name} {version}" for name, version in sorted(metadata["versions"].items()))
            letter = letters.setdefault(versions, chr(ord("A") + len(letters)))
            rows.append(
                {
                    "short": chapter.entry.short,
                    "href": f"{chapter.docname}.html",
                    "label": run_name(run).lower() if run.label == MAIN else run.label,
                    "profile": metadata["profile"],
                    "seed": metadata["seed"],
                    "finished": minute(metadata["finished"]),
                    "seconds": metadata["duration_s"],
                    "cpu_seconds": metadata.get("cpu_s"),
                    "megabytes": metadata["peak_memory_mb"],
                    "machine": machine(metadata),
                    "versions": letter,
                }
            )
    total = sum(row["cpu_seconds"] or 0 for row in rows)
    version_sets = [(letter, versions) for versions, letter in letters.items()]
    return render("execution", docname, runs=rows, total=total, version_sets=version_sets)


#: Kinds of data sets whose plural is not their name.
KINDS = {"table": "tables", "graph": "graphs"}


def data_cards(cards, chapters: dict[str, Chapter], previews: dict, docname: str) -> str:
    """The cards of all data sets: open for those that chapters use, then folded, by kind, for everything at hand."""
    used, others = [], {}
    for card in cards:
        found = users([chapter.entry for chapter in chapters.values()], card.name)
        links = [
            {"short": entry.short, "href": f"{chapters[entry.slug].docname}.html", "profiles": profiles}
            for entry, profiles in found
        ]
        view = {"name": card.name, "title": card.title, "shape": card.shape, "facts": facts(card), "chapters": links}
        view |= {"preview": previews.get(card.name) if card.ship else None, "ship": card.ship}
        (used if found else others.setdefault(KINDS.get(card.kind, card.kind), [])).append(view)
    return render("data", docname, cards=used, others=others.items(), count=len(cards))


def address(chapter: Chapter, docname: str, section: str = "") -> str:
    """The address of a chapter, or of one of its sections, on the page ``docname``."""
    return f"{'../' * docname.count('/')}{chapter.docname}.html{f'#{section}' if section else ''}"


def play(figure: Figure, docname: str) -> str:
    """A figure that the reader can move."""
    return render("play", docname, name=figure.name, title=figure.title, caption=figure.caption)


def idea_map(found: ideas.Map, docname: str) -> str:
    """The map of ideas: a drawing, and the same in words."""
    drawing = Markup(ideas.drawing(found, "../" * docname.count("/")))
    return render("ideas", docname, drawing=drawing, groups=ideas.listing(found))


def index_of_terms(
    chapters: dict[str, Chapter], docname: str, terms: Collection[Term], uses: dict[str, list[Use]]
) -> str:
    """Terms with the chapters that use them, those first that do so most. What no chapter uses is left out."""
    rows = [
        {
            "id": f"use-{term.anchor}",
            "name": term.term,
            "note": ", ".join(term.also),
            "href": f"glossary.html#{term.anchor}",
            "uses": [
                {
                    "short": chapters[use.slug].entry.short,
                    "href": f"{chapters[use.slug].docname}.html{f'#{use.section}' if use.section else ''}",
                }
                for use in uses[term.term]
            ],
        }
        for term in terms
        if uses[term.term]
    ]
    return render("index_of", docname, rows=rows)


def index_of_data(chapters: dict[str, Chapter], docname: str, cards: Collection[str]) -> str:
    """Data sets with the chapters that use them in any run or profile; those with a card link to it."""
    found: dict[str, list[Chapter]] = {}
    for chapter in chapters.values():
        planned = (name for names in chapter.entry.data.values() for name in names)
        for name in dict.fromkeys([*(name for run in chapter.runs for name in chapter.data(run)), *planned]):
            found.setdefault(name, []).append(chapter)
    rows = [
        {
            "id": f"use-data-{name}",
            "name": name,
            "note": "",
            "href": f"data.html#data-{name}" if name in cards else "",
            "uses": [{"short": chapter.entry.short, "href": f"{chapter.docname}.html"} for chapter in found[name]],
        }
        for name in sorted(found, key=str.casefold)
    ]
    return render("index_of", docname, rows=rows)
