"""The built site: what readers see, that it needs no network, that its links lead somewhere."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup

from shared import catalog, data
from tests.site.conftest import ALPHA, BETA, ROOT


def pages(book) -> list[Path]:
    """All pages of the site."""
    return sorted(path for path in book.html.rglob("*.html") if "_static" not in path.parts)


def soup(path: Path) -> BeautifulSoup:
    """A parsed page."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def words(element) -> str:
    """The text of an element with single spaces."""
    return " ".join(element.get_text(" ").split())


def rows(page: BeautifulSoup) -> list[str]:
    """The text of the scoreboard's rows."""
    return [words(row) for row in page.select("table[data-board] tr[data-item]")]


def test_front_page_scores_the_headline_run_of_every_chapter(book):
    page = soup(book.html / "index.html")
    beta, alpha = rows(page)
    assert "BetaAug" in beta and "−0.0555 [−0.0633, −0.0477]" in beta and "(lower is better)" in beta
    assert "AlphaNet" in alpha and "+2.7 [+1.3, +4.1] points" in alpha and "phoneme" in alpha and "2 h 13 min" in alpha
    assert "holds" in alpha and "inconclusive in the run that every reader can repeat (sonar, ionosphere)" in alpha
    assert len(page.select("svg.pr-forest")) == 2
    assert "2 papers so far" in words(page.select_one(".pr-summary"))


def test_gallery_has_a_picture_cut_from_each_chapter(book):
    cards = soup(book.html / "index.html").select(".pr-card")
    assert [card.h3.a["href"] for card in cards] == [f"chapters/{entry['slug']}.html" for entry in (BETA, ALPHA)]
    assert [card.img["alt"] for card in cards] == ["Green, not <plain>", "A line that rises from left to right"]
    for card in cards:
        assert (book.html / card.img["src"]).stat().st_size < 60_000


def test_scoreboard_has_every_claim_of_every_run(book):
    table = rows(soup(book.html / "scoreboard.html"))
    count = len(book.main["claims"]) + len(book.headline["claims"]) + len(book.beta["claims"])
    assert len(table) == count == 5
    assert sum("mechanism" in row for row in table) == 2
    assert sum("headline" in row for row in table) == 2


def test_filters_know_every_value_and_are_hidden_until_the_script_runs(book):
    page = soup(book.html / "scoreboard.html")
    form = page.select_one("form[data-filters]")
    assert form.has_attr("hidden")
    options = {s["data-filter"]: [o["value"] for o in s.select("option")][1:] for s in form.select("select")}
    assert options["data"] == ["ionosphere", "mnist5k", "phoneme", "sonar"]
    assert options["run"] == ["headline", "other"]
    for key in options:
        found = {value for row in page.select(f"tr[data-{key}]") for value in row[f"data-{key}"].split("|")}
        assert found <= set(options[key])
        assert found


def test_chapter_page_says_how_it_came_out_and_how_it_was_made(book):
    page = soup(book.html / "chapters" / f"{ALPHA['slug']}.html")
    glance = page.select_one(".pr-glance")
    assert glance.find_previous("h1").get_text().startswith("AlphaNet: a chapter")
    text = words(glance)
    assert "papers run tabular/alpha-net" in text
    assert "+2.7 [+1.3, +4.1] points" in text
    assert "The paper Sonar, accuracy 87.1 % Here: phoneme method, accuracy 73.7 [72.3, 75.1] % plain" in text
    assert "@misc{alpha-net" in text
    assert "torch 2.15.0" in text and "Fixture CPU @ 2.00GHz" in text and "2 min 11 s" in text
    links = {link.get_text(): link["href"] for link in glance.select(".pr-actions a")}
    assert links["Open in Colab"].endswith("/papers-rerun/papers-rerun/blob/main/papers/tabular/alpha-net.ipynb")


def test_menu_names_chapters_by_their_short_names(book):
    page = soup(book.html / "index.html")
    names = [link.get_text(strip=True) for link in page.select(".bd-sidebar a[href^=chapters]")]
    assert names == ["BetaAug", "AlphaNet"]


def test_downloaded_notebook_is_the_executed_copy_untouched(book):
    page = book.html / "chapters" / f"{ALPHA['slug']}.html"
    link = soup(page).select_one(".pr-actions a[download]")["href"]
    copy = (page.parent / link).resolve()
    source = book.folder / "book" / "chapters" / f"{ALPHA['slug']}.ipynb"
    assert copy.read_bytes() == source.read_bytes()


def test_more_runs_marks_the_headline_and_tells_where_the_runs_disagree(book):
    page = soup(book.html / "chapters" / f"{ALPHA['slug']}.html")
    section = page.find(id="more-runs")
    assert section.find_next_sibling("section")["id"].startswith("what-differs")
    heads = [words(head) for head in section.select(".pr-part")]
    assert [("headline" in head, head.split()[0]) for head in heads] == [(False, "This"), (True, "bigger")]
    assert "data phoneme" in heads[1] and "cuda (Fixture GPU)" in heads[1]
    disagreement = words(section.select_one(".pr-disagree"))
    assert "inconclusive in this page, holds in the headline run bigger (phoneme)" in disagreement
    assert disagreement.count("The runs disagree") == 1
    assert not soup(book.html / "chapters" / f"{BETA['slug']}.html").find(id="more-runs")


def test_every_image_has_alternative_text(any_book):
    for path in pages(any_book):
        for image in soup(path).select("img"):
            assert image.get("alt"), f"{path.name}: {image}"


def test_each_figure_has_its_own_alternative_text(book):
    images = soup(book.html / "chapters" / f"{ALPHA['slug']}.html").select(".cell_output img")
    assert [image["alt"] for image in images] == ["A falling line", "A line that rises from left to right"]


def test_no_page_loads_anything_from_another_host(any_book):
    for path in pages(any_book):
        for element in soup(path).find_all(True):
            if element.name == "a":
                continue
            for attribute in ("src", "href", "srcset", "data", "poster", "action"):
                assert not re.match(r"(https?:)?//", element.get(attribute) or ""), f"{path.name}: {element}"
    for path in any_book.html.rglob("*.css"):
        loads = re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']*", path.read_text(encoding="utf-8"))
        assert not loads, f"{path.name}: {loads}"


def test_links_inside_the_site_lead_somewhere(any_book):
    parsed = {path: soup(path) for path in pages(any_book)}
    anchors = {path: {element["id"] for element in page.find_all(id=True)} for path, page in parsed.items()}
    for path, page in parsed.items():
        for link in page.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or parts.netloc or link["href"] == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name} links to {link['href']}"
            if parts.fragment and target in anchors:
                assert unquote(parts.fragment) in anchors[target], f"{path.name} links to {link['href']}"


def test_tables_of_numbers_keep_their_roles_where_phones_show_them_as_cards(book):
    for name in ("index", "scoreboard", "execution"):
        table = soup(book.html / f"{name}.html").select_one("table[data-board]")
        assert table["role"] == "table"
        assert all(row["role"] == "row" for row in table.select("tr"))
        assert all(cell["role"] in ("cell", "rowheader", "columnheader") for cell in table.select("td, th"))


def test_pages_are_light(any_book):
    """Under 1.5 MB a page without MathJax, as the browser loads it: HTML, styles, scripts, images."""
    for path in pages(any_book):
        page = soup(path)
        loaded = {
            element.get("src") or element.get("href")
            for element in page.select(
                "script[src], img[src]:not([loading=lazy]), link[rel~=stylesheet], link[rel~=preload]"
            )
        }
        files = {(path.parent / urlsplit(address).path).resolve() for address in loaded}
        weight = path.stat().st_size + sum(f.stat().st_size for f in files if f.is_file() and "mathjax" not in f.parts)
        assert weight < 1_500_000, f"{path.name}: {weight / 1e6:.2f} MB"
    assert "bars:[" in (any_book.html / "_static" / "scripts" / "fontawesome.js").read_text(encoding="utf-8")


def test_execution_page_lists_every_run(book):
    table = rows_of_execution(book)
    assert len(table) == 3
    assert sum("cuda (Fixture GPU)" in row for row in table) == 1
    assert all("2 min 00 s" in row for row in table)  # CPU time
    assert "torch 2.15.0" in words(soup(book.html / "execution.html").select_one(".pr-versions"))


def rows_of_execution(book) -> list[str]:
    """The text of the execution page's rows."""
    return [words(row) for row in soup(book.html / "execution.html").select("table[data-board] tbody tr")]


def test_data_page_has_the_cards_and_who_uses_them(book):
    card = soup(book.html / "data.html").find(id="data-sonar")
    assert "208" in words(card)  # rows of the Sonar table
    assert [link.get_text() for link in card.select("dd a")] == ["AlphaNet"]


def test_data_page_shows_every_set(book):
    page = soup(book.html / "data.html")
    assert {element["id"].removeprefix("data-") for element in page.select(".pr-datacard")} == set(data.names())
    assert len(page.find(id="data-sonar").select(".pr-sample tbody tr")) == 4
    picture = page.find(id="data-mnist5k").img
    assert "digits" in picture["alt"] or "mnist5k" in picture["alt"]
    assert (book.html / picture["src"]).stat().st_size > 1000
    closed = page.find(id="data-ml100k")
    assert not closed.select("img, .pr-sample") and "licence does not allow" in words(closed)


def test_bibliography_has_every_paper(book):
    text = words(soup(book.html / "bibliography.html").article)
    assert "AlphaNet: 100% of Tables & More" in text
    assert "BetaAug" in text
    assert (book.html / "_static" / "papers" / "papers.bib").read_text(encoding="utf-8").count("@misc{") == 2


def executed_chapters() -> set[str]:
    """Slugs of the executed copies in the repository."""
    folder = ROOT / "book" / "chapters"
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.ipynb")}


def test_table_of_contents_has_the_executed_chapters_in_the_books_order():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in toc["parts"] if part["chapters"][-1]["file"].startswith("chapters/")]
    opening = [part["chapters"].pop(0)["file"] for part in parts if part["chapters"][0]["file"].startswith("parts/")]
    assert sorted(opening) == sorted(f"parts/{path.stem}" for path in (ROOT / "book" / "parts").glob("*.md"))
    listed = [chapter["file"].removeprefix("chapters/") for part in parts for chapter in part["chapters"]]
    entries = catalog.load()
    expected = [entry.slug for entry in entries if entry.slug in executed_chapters()]
    assert listed == expected
    assert [part["caption"] for part in parts] == list(
        dict.fromkeys(catalog.PARTS[slug.split("/")[0]] for slug in expected)
    )


def test_the_opening_page_of_a_part_compares_its_runs(book):
    page = BeautifulSoup((book.html / "parts" / "tabular.html").read_text(encoding="utf-8"), "html.parser")
    table = page.find("table", class_="pr-comparison")
    assert "accuracy on its table" in table.thead.get_text()
    rows = [
        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in table.tbody.find_all("tr")
    ]
    assert [row[0] for row in rows] == ["method", "plain"]  # the better one first
    assert rows[0][1:] == ["AlphaNet", "73.7", "+2.7 [+1.3, +4.1]", "5"]
    links = {link["href"] for link in table.find_all("a")}
    assert links == {"../chapters/tabular/alpha-net.html"}
    papers = {
        row.th.get_text(" ", strip=True) for row in page.find("table", attrs={"data-board": ""}).find_all("tr")[1:]
    }
    assert any("AlphaNet" in paper for paper in papers) and not any("BetaAug" in paper for paper in papers)


def test_no_numbered_formula_is_split(any_book):
    # Sphinx wraps a formula that holds a line break in `split`, where MathJax refuses a tag: write \cr in `cases`
    for page in any_book.html.rglob("*.html"):
        for formula in re.findall(r"\\begin\{split\}.*?\\end\{split\}", page.read_text(encoding="utf-8"), re.DOTALL):
            assert "\\tag" not in formula, f"{page.name}: {formula}"


def test_executed_chapters_leave_no_residue():
    for slug in executed_chapters():
        text = (ROOT / "book" / "chapters" / f"{slug}.ipynb").read_text(encoding="utf-8")
        for cell in json.loads(text)["cells"]:
            for output in cell.get("outputs", ()):
                assert output["output_type"] != "error", slug
                assert output.get("name") != "stderr", slug
                printed = "".join(output.get("text", "")) + "".join(output.get("data", {}).get("text/plain", ""))
                assert not re.search(r"\r|\d+%\|", printed), f"{slug}: a progress bar in {printed[:80]!r}"
        assert len(text) < 400_000, slug


def test_the_repository_is_named_in_one_way():
    url = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    for page in (ROOT / "book").glob("*.md"):
        for address in re.findall(r"https://github\.com/[\w./-]+", page.read_text(encoding="utf-8")):
            assert address.startswith(url), f"{page.name} names {address}"
