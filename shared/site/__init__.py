"""The Sphinx extension that makes the site out of executed chapters, labelled runs and the catalog.

Chapters stay on disk as the runner left them. On their way to the page they get a block under the title (verdicts, how
to run, cite and download, provenance), their other runs, and alternative texts on their figures. Directives in the
manuscript (``papers-gallery``, ``papers-scoreboard``, ...) show what all chapters have in common. A figure without
alternative text is a warning, and an error under ``-W``; an executed chapter without its record or a headline run that
does not exist stops the build, with a sentence that names the chapter.
"""

import hashlib
from functools import cache, cached_property
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.std import make_glossary_term
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from shared import data
from shared.catalog import CatalogError, Entry
from shared.site import citation, icons, ideas, notebook, play, previews, records, render, terms

__all__ = ["setup"]

logger = logging.getLogger(__name__)


@cache
def code_signature() -> bytes:
    """Changes when this extension changes."""
    files = sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".html"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).digest()


class Site:
    """What one build knows: catalog entries, chapters by slug, and where the source lives."""

    def __init__(self, app: Sphinx):
        """Read catalog and chapters. Raises ExtensionError when something is missing or malformed."""
        self.book = Path(app.srcdir)
        options = app.config.html_theme_options
        self.repository = render.Repository(options["repository_url"], options["repository_branch"])
        try:
            self.entries: tuple[Entry, ...] = records.read_catalog(self.book / app.config.papers_catalog)
            self.chapters = records.read_chapters(self.book, self.entries)
            self.figures = play.read_figures(self.book / "play.yml")
        except (records.SiteError, CatalogError) as error:
            raise ExtensionError(str(error)) from error

    @cached_property
    def vocabulary(self) -> tuple[terms.Term, ...]:
        """The words that the book explains. Raises SiteError when they cannot be read."""
        return terms.read_terms(self.book / "terms.yml")

    @cached_property
    def uses(self) -> dict[str, list[terms.Use]]:
        """Where the chapters use each of them."""
        files = {slug: self.book / f"{chapter.docname}.ipynb" for slug, chapter in self.chapters.items()}
        texts = {slug: terms.read_text(file.read_text(encoding="utf-8")) for slug, file in files.items()}
        return {term.term: terms.uses(term, texts) for term in self.vocabulary}

    def chapter(self, docname: str) -> records.Chapter | None:
        """The chapter shown on a page, or None."""
        return next((chapter for chapter in self.chapters.values() if chapter.docname == docname), None)

    def signature(self, chapter: records.Chapter) -> str:
        """Changes when the page of a chapter has to be made anew though its notebook is the same."""
        files = (path.read_bytes() for path in records.run_files(self.book, chapter.entry.slug))
        figure = self.figures.places.get(chapter.entry.slug)
        shown = repr((chapter.entry, figure, figure and self.figures.named(figure[0])))
        return hashlib.sha256(b"\0".join([code_signature(), shown.encode(), *files])).hexdigest()


class Block(SphinxDirective):
    """A directive that puts one rendered HTML block on the page, and has the page made anew in every build."""

    def html(self, site: Site) -> str:
        """The block."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Render the block; what the chapters lack is an ExtensionError that names the chapter."""
        self.env.papers_pages.add(self.env.docname)
        try:
            return [nodes.raw("", self.html(self.env.app.papers), format="html")]
        except records.SiteError as error:
            raise ExtensionError(str(error)) from error


class Summary(Block):
    """How many papers, how many of each verdict."""

    def html(self, site: Site) -> str:
        """The summary line and its bar."""
        return render.summary(site.chapters, self.env.docname)


class Gallery(Block):
    """One card a chapter."""

    def html(self, site: Site) -> str:
        """The list of cards."""
        return render.gallery(site.chapters, self.env.docname)


class Filters(Block):
    """The filter bar; with the argument ``all`` for a page that shows all claims of all runs."""

    optional_arguments = 1

    def html(self, site: Site) -> str:
        """The bar."""
        return render.filters(site.chapters, self.env.docname, everything=self.arguments == ["all"])


class Scoreboard(Block):
    """The scoreboard of the primary claims; with the argument ``all``, of all claims of all runs.

    The option ``part`` leaves the chapters of one part.
    """

    optional_arguments = 1
    option_spec = {"part": directives.unchanged_required}

    def html(self, site: Site) -> str:
        """The table."""
        everything, part = self.arguments == ["all"], self.options.get("part", "")
        return render.scoreboard(site.chapters, self.env.docname, everything, data.names(), part)


class Comparison(Block):
    """Arms that chapters ran on one protocol: ``chapters`` (slugs), ``run``, ``metric`` and ``baseline``.

    The option ``without`` names arms to leave out, separated by semicolons; ``called`` says what the metric is called
    on the page.
    """

    required = ("chapters", "run", "metric", "baseline")
    option_spec = dict.fromkeys((*required, "without", "called"), directives.unchanged_required)

    def html(self, site: Site) -> str:
        """The table."""
        if missing := sorted(set(self.required) - self.options.keys()):
            raise self.error(f"{self.name} needs the options {', '.join(missing)}.")
        chosen = (self.options[name] for name in self.required)
        optional = {name: self.options[name] for name in ("without", "called") if name in self.options}
        return render.comparison(site.chapters, self.env.docname, *chosen, **optional)


class CriticalDifference(Block):
    """Arms ranked over the common tables: ``chapters`` (slugs) and ``run``.

    The option ``without`` names arms to leave out, separated by semicolons.
    """

    required = ("chapters", "run")
    option_spec = dict.fromkeys((*required, "without"), directives.unchanged_required)

    def html(self, site: Site) -> str:
        """The diagram and its tables."""
        if missing := sorted(set(self.required) - self.options.keys()):
            raise self.error(f"{self.name} needs the options {', '.join(missing)}.")
        chosen = (self.options[name] for name in self.required)
        return render.critical_difference(
            site.chapters, self.env.docname, *chosen, without=self.options.get("without", "")
        )


class Execution(Block):
    """Every run."""

    def html(self, site: Site) -> str:
        """The table."""
        return render.execution(site.chapters, self.env.docname)


class DataCards(Block):
    """Every data set."""

    def html(self, site: Site) -> str:
        """The cards."""
        cards = [data.card(name) for name in data.names()]
        return render.data_cards(cards, site.chapters, previews.read(site.book), self.env.docname)


class Ideas(Block):
    """Which paper builds on which."""

    def html(self, site: Site) -> str:
        """The map, and the same in words."""
        return render.idea_map(ideas.read_map(site.book / "ideas.yml", site.chapters), self.env.docname)


class Index(Block):
    """Where the chapters use what is of one kind: ``data``, or a kind of terms such as ``loss``."""

    required_arguments = 1

    def html(self, site: Site) -> str:
        """The list."""
        if self.arguments[0] == "data":
            return render.index_of_data(site.chapters, self.env.docname, data.names())
        chosen = [term for term in site.vocabulary if term.kind == self.arguments[0]]
        return render.index_of_terms(site.chapters, self.env.docname, chosen, site.uses)


class Glossary(SphinxDirective):
    """Every term with its meaning and where it is used, as text that the search finds and ``{term}`` refers to."""

    def run(self) -> list[nodes.Node]:
        """One item a term."""
        self.env.papers_pages.add(self.env.docname)
        site = self.env.app.papers
        try:
            items = [self.item(term, site) for term in site.vocabulary]
        except records.SiteError as error:
            raise ExtensionError(str(error)) from error
        return [addnodes.glossary("", nodes.definition_list("", *items, classes=["glossary"]), sorted=False)]

    def item(self, term: terms.Term, site: Site) -> nodes.definition_list_item:
        """Names, meaning and links of one term."""
        source, line = self.get_source_info()
        names = [
            make_glossary_term(self.env, [nodes.Text(name)], None, source, line, identity, self.state.document)
            for name, identity in [(term.term, term.anchor), *((name, None) for name in term.also)]
        ]
        definition = nodes.definition("", nodes.paragraph("", term.means))
        if found := site.uses[term.term]:
            links = nodes.paragraph("", "In ", classes=["pr-note"])
            for number, use in enumerate(found):
                chapter = site.chapters[use.slug]
                links += nodes.Text(", ") if number else nodes.Text("")
                address = render.address(chapter, self.env.docname, use.section)
                links += nodes.reference("", chapter.entry.short, refuri=address, internal=True)
            definition += links
        return nodes.definition_list_item("", *names, definition)


class Play(Block):
    """A figure that the reader can move, by its name in ``play.yml``."""

    required_arguments = 1

    def html(self, site: Site) -> str:
        """The figure, which a script brings to life."""
        return render.play(site.figures.named(self.arguments[0]), self.env.docname)


class ChapterBlock(SphinxDirective):
    """A block on a chapter's own page, made anew when the chapter's runs or its entry change."""

    def html(self, site: Site, chapter: records.Chapter) -> str:
        """The block."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Render the block for the page that the directive stands on."""
        site = self.env.app.papers
        chapter = site.chapter(self.env.docname)
        if chapter is None:
            raise self.error(f"{self.name} belongs on the page of a chapter that is in the catalog.")
        self.env.papers_signatures[self.env.docname] = site.signature(chapter)
        return [nodes.raw("", self.html(site, chapter), format="html")]


class Glance(ChapterBlock):
    """The block under a chapter's title."""

    def html(self, site: Site, chapter: records.Chapter) -> str:
        """Verdicts, actions, citation, provenance."""
        return render.glance(chapter, self.env.docname, site.repository)


class MoreRuns(ChapterBlock):
    """All runs of a chapter."""

    def html(self, site: Site, chapter: records.Chapter) -> str:
        """The table, and disagreements between the run in the page and the headline."""
        return render.more_runs(chapter, self.env.docname)


DIRECTIVES = {
    "papers-summary": Summary,
    "papers-gallery": Gallery,
    "papers-filters": Filters,
    "papers-scoreboard": Scoreboard,
    "papers-comparison": Comparison,
    "papers-critical-difference": CriticalDifference,
    "papers-execution": Execution,
    "papers-data": DataCards,
    "papers-ideas": Ideas,
    "papers-index": Index,
    "papers-glossary": Glossary,
    "papers-play": Play,
    "papers-glance": Glance,
    "papers-more-runs": MoreRuns,
}


def use_catalog(app: Sphinx, config) -> None:
    """Give the menu the papers' short names, and sphinxcontrib-bibtex their entries beside the references."""
    try:
        entries = records.read_catalog(Path(app.srcdir) / config.papers_catalog)
    except (records.SiteError, CatalogError) as error:
        raise ExtensionError(str(error)) from error
    for entry in entries:
        page = config.external_site_map.get(f"chapters/{entry.slug}")
        if page and not page.title:
            page.title = entry.short
    path = Path(app.doctreedir) / "papers.bib"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = citation.bibliography(entries)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    config.bibtex_bibfiles = [*config.bibtex_bibfiles, str(path)]


def read_site(app: Sphinx) -> None:
    """Read everything once, and write the files that pages link to."""
    app.papers = Site(app)
    folder = Path(app.outdir) / "_static" / "papers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "papers.bib").write_text(citation.bibliography(app.papers.entries), encoding="utf-8")
    try:
        for chapter in app.papers.chapters.values():
            render.thumbnail(chapter).save(Path(app.outdir) / render.thumbnail_path(chapter), quality=85, method=6)
    except records.SiteError as error:
        raise ExtensionError(str(error)) from error


def outdated(app: Sphinx, env, added, changed, removed) -> list[str]:
    """Pages to make anew: those with blocks about all chapters, and chapters whose runs or entry changed."""
    for name, empty in (("papers_pages", set), ("papers_signatures", dict)):
        if not hasattr(env, name):
            setattr(env, name, empty())
    stale = [
        chapter.docname
        for chapter in app.papers.chapters.values()
        if env.papers_signatures.get(chapter.docname) != app.papers.signature(chapter)
    ]
    return [docname for docname in (*env.papers_pages, *stale) if docname in env.found_docs]


def forget(app: Sphinx, env, docname: str) -> None:
    """Drop what is remembered of a page that is read again or gone."""
    env.papers_pages.discard(docname)
    env.papers_signatures.pop(docname, None)


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn the text of an executed notebook into the text of its page."""
    chapter = app.papers.chapter(docname)
    if chapter is None:
        if docname.startswith("chapters/"):
            logger.warning("This executed chapter is not in papers/catalog.yml.", location=docname, type="papers")
        return
    app.papers_alternative_texts = notebook.alternative_texts(source[0])
    figure = app.papers.figures.places.get(chapter.entry.slug)
    try:
        source[0] = notebook.page(source[0], len(chapter.runs) > 1, figure)
    except records.SiteError as error:
        raise ExtensionError(f"{chapter.entry.slug}: {error}") from error


def describe_images(app: Sphinx, doctree: nodes.document) -> None:
    """Give figures their alternative texts, and complain of images that have none."""
    texts = getattr(app, "papers_alternative_texts", {})
    for image in doctree.findall(nodes.image):
        if text := texts.get(Path(image["uri"]).stem):
            image["alt"] = text
        if not image.get("alt"):
            logger.warning(
                "An image has no alternative text: show figures with plots.show(fig, alt=...) and write ![text](file).",
                location=app.env.docname,
                type="papers",
            )
    app.papers_alternative_texts = {}


def finish(app: Sphinx, error: Exception | None) -> None:
    """Make the built pages light."""
    if error is None:
        icons.prune_site(Path(app.outdir))


def setup(app: Sphinx) -> dict:
    """Register the extension with Sphinx."""
    app.add_config_value("papers_catalog", "../papers/catalog.yml", "env", str)
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    app.connect("config-inited", use_catalog, priority=1000)  # after _toc.yml has been read
    app.connect("builder-inited", read_site)
    app.connect("env-get-outdated", outdated)
    app.connect("env-purge-doc", forget)
    app.connect("source-read", read_source)
    app.connect("doctree-read", describe_images)
    app.connect("build-finished", finish)
    return {"version": "1", "env_version": 1, "parallel_read_safe": False, "parallel_write_safe": True}
