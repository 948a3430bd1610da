"""The built site in a real browser: this machine's own Chromium, driven by Playwright."""

import contextlib
import functools
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, sync_playwright
from scipy import stats

from shared import catalog
from shared.site import whole
from tests.site.conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
#: Bytes that a chapter may weigh without MathJax.
LIMIT = 1_500_000


def toc_pages() -> list[str]:
    """Every page of the table of contents, by its address inside the site."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    return [f"{file}.html" for file in files]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium. Of this module only: while Playwright runs, so does its event loop."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def served(folder: Path):
    """The address of a web server on this machine that serves a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Visitor:
    """A browser tab that remembers what went wrong on the page it shows, and what the page loaded."""

    def __init__(self, page: Page, address: str):
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.bytes: dict[str, int] = {}
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _request(self, request):
        if not request.url.startswith((f"{self.address}/", "data:", "blob:")):
            self.problems.append(f"asked another host for {request.url}")

    def _response(self, response):
        if response.status >= 400:
            self.problems.append(f"{response.status} for {response.url}")
        self.bytes[response.url] = int(response.headers.get("content-length", 0))

    def open(self, name: str, viewport: dict = DESKTOP) -> Page:
        """Show a page of the site, with its formulas typeset."""
        self.problems.clear()
        self.bytes.clear()
        self.page.set_viewport_size(viewport)
        self.page.goto(f"{self.address}/{name}")
        self.page.evaluate("window.MathJax?.startup?.promise.then(() => null)")
        return self.page


@pytest.fixture(scope="module")
def tab(browser):
    """Opens tabs with empty storage on a built book."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def address(html: Path) -> str:
            return stack.enter_context(served(html))

        def open_tab(book) -> Visitor:
            context = browser.new_context(reduced_motion="reduce")  # colours do not fade in
            stack.enter_context(contextlib.closing(context))
            return Visitor(context.new_page(), address(book.html))

        yield open_tab


@pytest.fixture(scope="module")
def reader(tab, real_book) -> Visitor:
    """One tab for all pages of the book, since what they share is then loaded once; like a reader's."""
    return tab(real_book)


#: What reaches beyond the window, though it does not scroll by itself and is not out of sight on purpose.
TOO_WIDE = """() => {
  const scrolls = ".pr-scroll, .papers-scroll, .cell_output, pre, mjx-container, .math, svg, .pr-map, " +
    ".pst-scrollable-table-container, .bd-sidebar-primary, .bd-sidebar-secondary";
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && box.right > innerWidth + 1 && !element.closest(scrolls);
  });
  const page = document.documentElement.scrollWidth;
  const parts = wide.slice(0, 3).map((element) => element.outerHTML.slice(0, 120));
  return page > innerWidth ? [`the page is ${page} wide`, ...parts] : parts;
}"""


#: What a phone distorts: figures that lost their proportions, formulas whose beginning is out of sight.
DISTORTED = """() => {
  const figures = [...document.querySelectorAll(".bd-article img")].filter((image) => {
    const style = getComputedStyle(image);
    const inner = (side, ...edges) => image[side] - edges.reduce((sum, edge) => sum + parseFloat(style[edge]), 0);
    const width = inner("clientWidth", "paddingLeft", "paddingRight");
    const height = inner("clientHeight", "paddingTop", "paddingBottom");
    return image.naturalWidth && style.objectFit !== "contain" &&
      Math.abs(width / height / (image.naturalWidth / image.naturalHeight) - 1) > 0.03;
  }).map((image) => `not in proportion: ${image.alt.slice(0, 60)}`);
  const formulas = [...document.querySelectorAll("div.math mjx-container")].filter((formula) =>
    formula.getBoundingClientRect().left < formula.closest("div.math").getBoundingClientRect().left - 1
  ).map((formula) => `begins out of sight: ${formula.textContent.slice(0, 60)}`);
  return [...figures, ...formulas];
}"""


@pytest.mark.parametrize("name", toc_pages())
def test_page(reader, name):
    page = reader.open(name)
    problems = [*reader.problems]
    problems += page.eval_on_selector_all(
        "mjx-merror, [data-mjx-error]", "all => all.map(e => `formula: ${e.getAttribute('data-mjx-error')}`)"
    )
    formulas = page.locator("div.math, span.math").count()
    if formulas and page.locator("mjx-container").count() < formulas:
        problems.append("formulas were not typeset")
    problems += [f"1280 px: {text}" for text in page.evaluate(TOO_WIDE)]
    page.set_viewport_size(PHONE)
    problems += [f"360 px: {text}" for text in page.evaluate(TOO_WIDE) + page.evaluate(DISTORTED)]
    assert not problems + [p for p in reader.problems if p not in problems]


def heaviest(count: int) -> list[str]:
    """The chapters whose executed notebooks are the largest files."""
    folder = ROOT / "book"
    largest = sorted((folder / "chapters").glob("*/*.ipynb"), key=lambda path: -path.stat().st_size)
    return [path.relative_to(folder).with_suffix(".html").as_posix() for path in largest[:count]]


@pytest.mark.parametrize("name", heaviest(3))
def test_chapters_are_light(tab, real_book, name):
    """All that a chapter loads on a first visit, every picture included, without MathJax."""
    visitor = tab(real_book)
    page = visitor.open(name)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_load_state("networkidle")
    weight = sum(size for url, size in visitor.bytes.items() if "/mathjax/" not in url)
    assert not [url for url in visitor.bytes if "/webfonts/" in url]  # icons are drawn
    assert 100_000 < weight < LIMIT, sorted(visitor.bytes.items(), key=lambda item: -item[1])[:8]


#: Text whose contrast with its ground is under what WCAG 2 asks for (AA: 4.5, large text 3), by the colours in effect.
FAINT = r"""() => {
  const parse = (text) => {
    const numbers = text.match(/[\d.]+/g).map(Number);
    if (text.startsWith("color(srgb")) for (let i = 0; i < 3; i++) numbers[i] *= 255;
    return [...numbers.slice(0, 3), numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], ground) => [r, g, b].map((c, i) => c * a + ground[i] * (1 - a));
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(parse(getComputedStyle(e).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    const page = parse(getComputedStyle(document.documentElement).backgroundColor);
    return layers.reverse().reduce((below, layer) => over(layer, below), page[3] ? page.slice(0, 3) : [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Map();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true}))
      continue;
    const box = element.getBoundingClientRect();
    if (element.closest("script, style, noscript, title, desc, mjx-assistive-mml") || box.width < 2 || box.height < 2)
      continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize), below = ground(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    const [dark, light] = [luminance(over(ink, below)), luminance(below)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    count += 1;
    if (ratio < (large ? 3 : 4.5)) {
      const name = `${element.tagName.toLowerCase()}.${element.getAttribute("class") ?? ""}`;
      found.set(name, `${name} ${ratio.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 40)}`);
    }
  }
  return [count, [...found.values()]];
}"""


@pytest.mark.parametrize(
    "name",
    [f"{name}.html" for name in ("index", "scoreboard", "ideas", "glossary", "execution", "data", "methods")]
    + ["parts/mixing.html", *heaviest(1)],
)
def test_text_is_legible(reader, name):
    """In both colour schemes, which follow the reader's system."""
    page = reader.open(name)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("scheme => document.documentElement.dataset.theme === scheme", arg=scheme)
        count, faint = page.evaluate(FAINT)
        assert count > 50
        assert faint == [], scheme


def test_the_theme_can_be_chosen(tab, book):
    visitor = tab(book)
    page = visitor.open("index.html")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    switch = page.locator("button.theme-switch-button:visible").first
    for _ in range(3):
        switch.click()
        if page.locator("html").get_attribute("data-theme") == "dark":
            break
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert visitor.problems == []


def shown(page: Page, kind: str = "row") -> list[str]:
    """Names of the rows of the scoreboard, or of the cards of the gallery, that can be seen, in their order."""
    cell = "th" if kind == "row" else "h3 a"
    return (
        page.locator(f'[data-item="{kind}"]:visible')
        .locator(cell)
        .locator("visible=true")
        .evaluate_all("all => all.map(e => e.dataset.value ?? e.textContent)")
    )


def focus_by_keyboard(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus: whoever has no mouse reaches it, too."""
    page.evaluate("document.activeElement.blur()")
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_search_and_filters_by_mouse(tab, book, viewport):
    visitor = tab(book)
    page = visitor.open("index.html", viewport)
    assert shown(page) == ["BetaAug", "AlphaNet"] == shown(page, "card")
    page.get_by_role("searchbox", name="Search", exact=True).locator("visible=true").first.click()
    page.locator("[data-filter-text]").fill("alphanet")
    assert shown(page) == ["AlphaNet"] == shown(page, "card")
    assert page.locator("[data-count]").inner_text() == "1 of 2 claims"
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelectorAll('tr[data-item]:not([hidden])').length === 2")
    page.locator("[data-filter=part]").select_option("augmentation")
    assert shown(page) == ["BetaAug"] == shown(page, "card")
    assert page.locator(".pr-part:visible").all_inner_texts() == [catalog.PARTS["augmentation"]]
    page.locator("[data-filter=verdict]").select_option("contradicted")
    assert shown(page) == [] == shown(page, "card")
    assert visitor.problems == []


def test_scoreboard_sorts_by_mouse(tab, book):
    page = tab(book).open("index.html")
    heading = page.get_by_role("columnheader", name="Paper")
    found = []
    for _ in range(3):
        heading.get_by_role("button").click()
        found.append((shown(page), heading.get_attribute("aria-sort")))
    assert found == [
        (["AlphaNet", "BetaAug"], "ascending"),
        (["BetaAug", "AlphaNet"], "descending"),
        (["BetaAug", "AlphaNet"], None),  # the book's order again
    ]


def test_scoreboard_searches_and_sorts_by_keyboard(tab, book):
    visitor = tab(book)
    page = visitor.open("index.html")
    focus_by_keyboard(page, "[data-filter-text]")
    page.keyboard.type("betaaug")
    assert shown(page) == ["BetaAug"]
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    assert shown(page) == ["BetaAug", "AlphaNet"]
    focus_by_keyboard(page, "[data-filter=verdict]")
    page.keyboard.type("holds")
    page.keyboard.press("Enter")
    assert page.locator("[data-filter=verdict]").input_value() == "holds"
    focus_by_keyboard(page, "th[data-sort=text] button")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline not in ("none", "")
    page.keyboard.press("Enter")
    assert shown(page) == ["AlphaNet", "BetaAug"]
    page.keyboard.press("Space")
    assert shown(page) == ["BetaAug", "AlphaNet"]
    focus_by_keyboard(page, ".pr-card h3 a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/augmentation/beta.html")
    assert visitor.problems == []


def test_the_site_works_from_files(browser, book):
    """Without any server: filters, sorting, pictures and the search."""
    with contextlib.closing(browser.new_context(viewport=DESKTOP)) as context:
        visitor = Visitor(context.new_page(), book.html.as_uri())
        page = visitor.open("index.html")
        page.locator("[data-filter-text]").fill("alphanet")
        assert shown(page) == ["AlphaNet"]
        page = visitor.open("search.html?q=alphanet")
        assert "AlphaNet" in page.locator("#search-results li a").first.inner_text()
        assert visitor.problems == []


def test_pages_lead_on_and_back(tab, book):
    page = tab(book).open("chapters/augmentation/beta.html")
    page.locator(".prev-next-area a.right-next").click()
    page.wait_for_url("**/tabular/alpha-net.html")
    page.locator(".prev-next-area a.left-prev").click()
    page.wait_for_url("**/augmentation/beta.html")


def play(page: Page, name: str):
    """A figure to move: its slider or box by label, and the line that says what is drawn."""
    figure = page.locator(f"[data-play={name}][data-ready]")
    figure.wait_for()
    return (lambda label: figure.get_by_label(re.compile(rf"^\s*{label}"))), (
        lambda: figure.locator("[data-words]").inner_text()
    )


def set_slider(slider, value: float) -> None:
    """Move a slider as a reader does, but at once."""
    slider.evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value)


def test_the_interval_can_be_moved_by_keyboard_and_follows_the_rule(reader):
    page = reader.open("methods.html")
    control, words = play(page, "interval")
    focus_by_keyboard(page, "[data-play=interval] input")
    assert "from 8 seeds" in words() and control("seeds").get_attribute("aria-valuetext") == "8"
    page.keyboard.press("ArrowRight")
    assert "from 9 seeds" in words()
    page.keyboard.press("Home")
    assert "from 2 seeds: not judged" in words()
    set_slider(control("seeds"), 10)
    for effect, spread, verdict in ((4, 0.1, "claim holds"), (-4, 0.1, "is contradicted"), (0, 4, "is inconclusive")):
        set_slider(control("true effect"), effect)
        set_slider(control("spread"), spread)
        assert words().rstrip(".").endswith(verdict)
    set_slider(control("true effect"), 1)
    set_slider(control("spread"), 0.1)
    set_slider(control("margin"), 2)
    assert words().endswith("margin of 2.0, so the claim is contradicted.")
    page.get_by_role("button", name="Other seeds").press("Enter")
    assert reader.problems == []


def test_the_quantiles_are_students():
    script = (ROOT / "book" / "_static" / "play.js").read_text(encoding="utf-8")
    numbers = [float(x) for x in re.search(r"quantiles = \[([^\]]*)\]", script)[1].split(",")]
    assert numbers == pytest.approx([stats.t.ppf(0.975, df) for df in range(1, 20)], abs=5e-4)


def test_mixup_can_be_moved_and_knows_the_beta_distribution(reader):
    page = reader.open("chapters/mixing/adamixup.html")
    control, words = play(page, "mixup")
    for place, alpha in enumerate((0.1, 0.2, 0.4, 0.7, 1, 1.5, 2, 4, 8)):
        set_slider(control("α"), place)
        near = 2 * stats.beta.cdf(0.1, alpha, alpha)
        assert int(re.search(rf"α = {alpha}, (\d+)%", words())[1]) == pytest.approx(100 * near, abs=0.6)
    set_slider(control("λ"), 0.25)
    assert "25% circle and 75% triangle" in words()
    page.get_by_role("button", name="Draw λ").click()
    assert reader.problems == []


def test_propagation_mends_then_levels_unless_early_hops_are_kept(reader):
    page = reader.open("chapters/graphs/dagnn.html")
    control, words = play(page, "hops")

    def at(place: int) -> tuple[int, float]:
        set_slider(control("hops"), place)
        return int(re.search(r"(\d+) of 12", words())[1]), float(re.search(r"SMV is ([\d.]+)", words())[1])

    last = int(control("hops").get_attribute("max"))
    few, far = at(2), at(last)
    assert at(0)[0] < few[0] == 12
    assert at(0)[1] > few[1] > far[1] and far[1] < 0.001 and far[0] < 12
    control("average").check()
    assert at(last)[1] > far[1]
    assert reader.problems == []


def test_a_low_temperature_looks_at_the_hardest_negative(reader):
    page = reader.open("chapters/language/cab-kws.html")
    control, words = play(page, "temperature")
    set_slider(control("similarity"), 0.62)
    set_slider(control("temperature"), 0.5)
    warm = int(re.search(r"(\d+)% of the push", words())[1])
    set_slider(control("temperature"), -1.7)
    # Level with the hardest negative and cold, the positive gets a half: the loss is log 2.
    assert "the positive gets 50%, so the loss is 0.69; 100% of the push" in words()
    assert warm < 30
    assert reader.problems == []


def test_the_whole_book_is_one_page_without_a_dead_link_and_prints(browser, book, tmp_path):
    toc = yaml.safe_load((book.folder / "_toc.yml").read_text(encoding="utf-8"))
    one = book.html / "one-page.html"
    one.write_text(whole.whole(book.html, toc), encoding="utf-8")
    with contextlib.closing(browser.new_context(viewport=DESKTOP)) as context:
        visitor = Visitor(context.new_page(), book.html.as_uri())
        page = visitor.open("one-page.html")
        one.unlink()
        assert visitor.problems == []
        assert page.locator("article").count() == sum(len(pages) for _, pages in whole.order(toc))
        assert page.locator("mjx-container").count() >= page.locator(".math").count() > 10
        assert page.locator("mjx-merror").count() == 0
        dead = """[...document.querySelectorAll('a[href^="#"]')].map((a) => decodeURIComponent(a.hash.slice(1)))
            .filter((id) => id && !document.getElementById(id))"""
        assert page.evaluate(dead) == []
        # MathJax names numbered formulas by their numbers, which every chapter counts anew; nothing leads to these.
        ids = page.evaluate("[...document.querySelectorAll('[id]:not([id^=mjx])')].map((e) => e.id)")
        assert len(ids) == len(set(ids)) > 100
    whole.print_pdf(book.html, toc, tmp_path / "book.pdf")
    printed = (tmp_path / "book.pdf").read_bytes()
    assert printed.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", printed)) > 20


#: What a reader types, and the chapter that has to be among the first three results.
QUESTIONS = {
    "DAGNN": "graphs/dagnn",
    "mixup": "mixing/mixup-neural-collapse",
    "InfoNCE": "language/cab-kws",
    "RandAugment": "augmentation/randaugment",
    "hypernetwork": "tabular/hypertab",
    "SPA": "tabular/excelformer",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_search_finds_methods_by_name_and_abbreviation(reader, question):
    page = reader.open(f"search.html?q={question}")
    results = page.locator("#search-results li a:not(.toggle)")
    results.first.wait_for()
    page.wait_for_function("document.querySelector('.search-summary')?.textContent.match(/found/)")
    first = [link.get_attribute("href") for link in results.all()[:5]]
    assert any(QUESTIONS[question] in address for address in first), first
    assert reader.problems == []
