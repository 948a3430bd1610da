"""Glossary, index and map of ideas: that they find what chapters use, and say nothing that chapters do not."""

import json
import re

import pytest
import yaml
from bs4 import BeautifulSoup

from shared import catalog
from shared.site import ideas, notebook, play, records, terms, whole
from tests.site.conftest import ALPHA, BETA, ROOT

BOOK = ROOT / "book"


def text_of(*cells: tuple[str, str]) -> terms.Text:
    """The text of a notebook of these (kind, source) cells."""
    return terms.read_text(json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]}))


def test_uses_lead_to_the_first_section_that_has_the_word():
    text = text_of(
        ("markdown", "# Title\n\nMLPs once."),
        ("markdown", "## The idea\n\nNothing.\n\n### Two-layer nets\n\nAn MLP."),
        ("code", "MLP = 3  # MLP\nMLPX = 1"),
        ("markdown", "## The $x$ of it\n\nMLP"),
    )
    word = terms.Term("multilayer perceptron", "architecture", "", find=("MLPs?",))
    assert set(text.sections) == {"", "the-idea", "two-layer-nets"}
    assert terms.uses(word, {"a/b": text}) == [terms.Use("a/b", 5, "")]
    later = terms.Term("x", "loss", "", find=("An",))
    assert terms.uses(later, {"a/b": text}) == [terms.Use("a/b", 1, "two-layer-nets")]


def test_chapters_that_use_a_word_most_come_first_and_others_not_at_all():
    word = terms.Term("mixup", "method", "", find=("[Mm]ixup",))
    texts = {slug: text_of(("markdown", "mixup " * count)) for slug, count in (("a/1", 1), ("a/3", 3), ("a/0", 0))}
    assert [(use.slug, use.count) for use in terms.uses(word, texts)] == [("a/3", 3), ("a/1", 1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"term": "a", "kind": "planet", "means": ""}], "kind 'planet'"),
        ([{"term": "a", "kind": "loss", "means": "", "find": ["("]}], "cannot be read"),
        ([{"term": "a", "kind": "loss"}], "means"),
        (
            [{"term": "a", "kind": "loss", "means": ""}, {"term": "b", "also": ["A"], "kind": "loss", "means": ""}],
            "twice",
        ),
    ],
)
def test_terms_that_are_wrong_are_named(tmp_path, rows, message):
    path = tmp_path / "terms.yml"
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    with pytest.raises(records.SiteError, match=message):
        terms.read_terms(path)


def test_losses_and_architectures_of_the_book_are_used_by_its_chapters():
    files = {str(path.relative_to(BOOK)): path for path in (BOOK / "chapters").glob("*/*.ipynb")}
    texts = {name: terms.read_text(path.read_text(encoding="utf-8")) for name, path in files.items()}
    words = terms.read_terms(BOOK / "terms.yml")
    unused = [w.term for w in words if w.kind in ("loss", "architecture") and not terms.uses(w, texts)]
    assert unused == []
    assert {word.kind for word in words} == set(terms.KINDS)


def page(book, name: str) -> BeautifulSoup:
    """A parsed page of a built book."""
    return BeautifulSoup((book.html / name).read_text(encoding="utf-8"), "html.parser")


def test_the_glossary_leads_to_the_sections_that_use_a_word(real_book):
    glossary = page(real_book, "glossary.html")
    attention = glossary.find(id="term-semi-permeable-attention")
    assert attention.find_next("dt").get_text().startswith("SPA")
    links = [link["href"] for link in attention.find_next("dd").select("a")]
    assert links and all(link.startswith("chapters/tabular/excelformer.html") for link in links)
    assert len(glossary.select("dl.glossary > dd")) == len(terms.read_terms(BOOK / "terms.yml"))


def test_the_index_has_every_data_set_of_every_run(book):
    rows = {dt.get_text(strip=True): dt for dt in page(book, "where-used.html").select("dl.pr-index dt")}
    assert {"sonar", "ionosphere", "mnist5k", "phoneme"} <= set(rows)
    users = {name: [link.get_text() for link in dt.find_next("dd").select("a")] for name, dt in rows.items()}
    assert users["phoneme"] == ["AlphaNet"] and users["mnist5k"] == ["BetaAug"]
    assert rows["sonar"].a["href"] == "data.html#data-sonar"


def test_the_search_knows_names_and_abbreviations(real_book):
    """The words as the search looks them up: in the lower case, without endings, or as entries of the glossary."""
    text = (real_book.html / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\);?\s*", text, re.DOTALL)[1])
    known = index["terms"].keys() | index["titleterms"].keys()
    for word in ("dagnn", "mixup", "infonc", "randaug", "cutmix", "gbnn", "hypertab"):
        assert any(term.startswith(word) for term in known), word
    assert {"infonce", "nt-xent", "gcn", "spa", "auc", "nas"} <= index["indexentries"].keys()


# The map of ideas


def chapters(*slugs: str) -> dict[str, records.Chapter]:
    """Chapters of these slugs, without runs."""
    entries = [catalog.from_mapping(ALPHA | {"slug": slug, "short": slug.split("/")[1].title()}) for slug in slugs]
    return {entry.slug: records.Chapter(entry, (), ()) for entry in entries}


@pytest.fixture
def small(tmp_path):
    """Reads a map of ideas over three chapters."""

    def read(papers: dict, outside: dict | None = None) -> ideas.Map:
        path = tmp_path / "ideas.yml"
        content = {"outside": outside or {"root": {"name": "Root & <stem>", "by": "A, 1999"}}, "papers": papers}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return ideas.read_map(path, chapters("mixing/one", "mixing/two", "graphs/three"))

    return read


PAPERS = {
    "mixing/one": {"root": "begins"},
    "mixing/two": {"root": "turns", "mixing/one": "goes on"},
    "graphs/three": {"mixing/two": "ends"},
    "graphs/unwritten": {"root": "waits", "mixing/one": "waits"},
}


def test_the_map_has_a_column_for_every_step_and_no_two_works_in_one_place(small):
    found = small(PAPERS)
    where = ideas.places(found)
    assert {key: column for key, (column, _) in where.items()} == {
        "root": 0, "mixing/one": 1, "mixing/two": 2, "graphs/three": 3,
    }  # fmt: skip
    assert len(set(where.values())) == len(where)
    assert [row for key, (_, row) in where.items() if key != "root"] == [0, 1, 2]


def test_the_map_is_drawn_and_told(small):
    found = small(PAPERS)
    drawing = BeautifulSoup(ideas.drawing(found, "../"), "html.parser")
    assert len(drawing.select(".pr-map-edges path")) == len(found.links) == 4
    assert [link["href"] for link in drawing.select("a")] == [
        "../chapters/mixing/one.html", "../chapters/mixing/two.html", "../chapters/graphs/three.html",
    ]  # fmt: skip
    assert "Root & <stem>, A, 1999" in [title.get_text() for title in drawing.select("title")]
    told = [(caption, [row["node"].name for row in rows]) for caption, rows in ideas.listing(found)]
    assert told == [(catalog.PARTS["mixing"], ["One", "Two"]), (catalog.PARTS["graphs"], ["Three"])]


def test_a_map_that_is_wrong_is_refused(small):
    with pytest.raises(records.SiteError, match="'nowhere', which is neither"):
        small({"mixing/one": {"nowhere": "x"}})
    with pytest.raises(records.SiteError, match="builds on itself"):
        small({"mixing/one": {"mixing/two": "x"}, "mixing/two": {"mixing/one": "y"}})


def test_every_line_of_the_books_map_is_told_in_its_chapter():
    """A relation that the chapter does not mention was not read there."""
    content = yaml.safe_load((BOOK / "ideas.yml").read_text(encoding="utf-8"))
    shorts = {entry.slug: entry.short for entry in catalog.load()}
    assert content["papers"].keys() <= shorts.keys()
    for slug, roots in content["papers"].items():
        cells = json.loads((ROOT / "papers" / f"{slug}.ipynb").read_text(encoding="utf-8"))["cells"]
        text = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").lower()
        for root in roots:
            name = shorts[root] if root in shorts else content["outside"][root]["name"]
            # "Gradient boosting" is there as boosting, "Random forests" as forest.
            words = [word.lower().rstrip("s") for word in re.findall(r"[\w-]+", name)]
            assert any(word in text for word in words), f"{slug} does not mention {name}"


# The whole book


def test_addresses_on_the_page_of_the_whole_book():
    page, pages = "chapters/tabular/alpha", {"chapters/tabular/alpha", "chapters/tabular/beta", "index"}
    for before, after in {
        '<a href="../../index.html">': '<a href="#index">',
        '<a href="beta.html#x-y">': '<a href="#chapters--tabular--beta---x-y">',
        '<a href="#a">': '<a href="#chapters--tabular--alpha---a">',
        '<p id="a" title="href">': '<p id="chapters--tabular--alpha---a" title="href">',
        '<svg aria-labelledby="a">': '<svg aria-labelledby="chapters--tabular--alpha---a">',
        '<img src="../../_images/p.png" loading="lazy">': '<img src="_images/p.png" >',
        '<a href="https://host/x.html#y">': '<a href="https://host/x.html#y">',
        '<p> id="kept"</p>': '<p> id="kept"</p>',
    }.items():
        assert whole.moved(before, page, pages) == after


def test_a_site_that_lacks_a_page_is_not_printed(tmp_path):
    with pytest.raises(records.SiteError, match="no page index: build it"):
        whole.whole(tmp_path, {"root": "index", "parts": []})


# Figures to move


def test_a_figure_stands_before_its_heading_and_the_notebook_stays_as_it_is():
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# T"},
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "## The idea\n\nOne.\n\n## The method\n\nTwo."},
    ]
    text = json.dumps({"cells": cells, "metadata": {}})
    made = json.loads(notebook.page(text, several_runs=False, figure=("hops", "The method")))["cells"]
    assert [cell["source"] for cell in made] == [
        "# T",
        "```{papers-glance}\n```",
        "## The idea\n\nOne.",
        "```{papers-play} hops\n```",
        "## The method\n\nTwo.",
    ]
    assert len({cell["id"] for cell in made}) == len(made)
    with pytest.raises(records.SiteError, match="no heading 'Proof'"):
        notebook.page(text, several_runs=False, figure=("hops", "Proof"))


def test_the_books_figures_are_drawn_and_their_chapters_exist():
    figures = play.read_figures(BOOK / "play.yml")
    script = (BOOK / "_static" / "play.js").read_text(encoding="utf-8")
    assert set(re.findall(r"^    (\w+)\(figure\) \{$", script, re.MULTILINE)) == set(figures.by_name)
    assert figures.places.keys() <= {entry.slug for entry in catalog.load()}
    shown = {name for name, _ in figures.places.values()}
    pages = [*BOOK.glob("*.md"), *(BOOK / "parts").glob("*.md")]
    shown |= {name for path in pages for name in re.findall(r"\{papers-play\} (\w+)", path.read_text(encoding="utf-8"))}
    assert shown == set(figures.by_name)


def test_an_unknown_figure_is_refused(tmp_path):
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump({"figures": {}, "chapters": {BETA["slug"]: {"figure": "x", "before": "y"}}}))
    with pytest.raises(records.SiteError, match="no figure 'x'"):
        play.read_figures(path)
