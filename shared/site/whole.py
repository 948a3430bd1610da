"""The whole book as one PDF, printed from the built site by Chromium, without a network: ``make pdf``."""

import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from shared.site.records import SiteError

ARTICLE = re.compile(r'<article class="bd-article">(.*)</article>', re.DOTALL)
HEAD = re.compile(r"<head>(.*)</head>", re.DOTALL)
SCRIPT = re.compile(r"<script\b.*?</script>|<link rel=\"preload\"[^>]*>", re.DOTALL)
#: Of the site's scripts, those of formulas and of figures to move are needed on paper.
NEEDED = re.compile(r"mathjax|/play\.js", re.IGNORECASE)
TITLE = re.compile(r"<h1[^>]*>(.*?)(?:<a class=\"headerlink\".*?)?</h1>", re.DOTALL)
TAG = re.compile(r"<[a-zA-Z][^>]*>")
ATTRIBUTE = re.compile(r'(?<= )(href|src|id|aria-labelledby|aria-describedby|loading|for)="([^"]*)"')
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: What the printed page needs besides the site's own head: light colours, one column, a new page for every chapter.
STYLE = """
<script>document.documentElement.dataset.theme = document.documentElement.dataset.mode = "light";</script>
<style>
  body { background: #fff; }
  .pr-whole { margin: 0 auto; max-width: 46rem; }
  .pr-whole article { break-before: page; }
  .pr-whole pre, .pr-whole .highlight pre { overflow: visible; white-space: pre-wrap; }
  .pr-whole :is(.headerlink, .copybtn, .pr-filters, .pr-play-controls) { display: none !important; }
  .pr-whole .pr-glance :is(.pr-actions, details) { display: none !important; }
  .pr-whole :is(figure, img, svg, table tr, .pr-glance) { break-inside: avoid; }
  .pr-whole :is(h1, h2, h3, h4) { break-after: avoid; }
  .pr-whole table.pr-board { font-size: 0.68rem; }
  @page { margin: 16mm 15mm; size: A4; }
</style>
"""


def order(toc: dict) -> list[tuple[str, list[str]]]:
    """The pages of a table of contents under their captions, the front page under none."""
    return [("", [toc["root"]])] + [(part["caption"], [c["file"] for c in part["chapters"]]) for part in toc["parts"]]


def anchor(page: str, identity: str = "") -> str:
    """What a page, or an element of it, is called in the whole book."""
    return f"{page.replace('/', '--')}{f'---{identity}' if identity else ''}"


def moved(article: str, page: str, pages: set[str]) -> str:
    """An article with its addresses and names as they have to be on the page of the whole book, at the site's root."""

    def attribute(found: re.Match) -> str:
        name, value = found.groups()
        if name == "loading":
            return ""  # what is printed has to be there
        if name in ("id", "for", "aria-labelledby", "aria-describedby"):
            return f'{name}="{" ".join(anchor(page, word) for word in value.split())}"'
        parts = urlsplit(value)
        if parts.scheme or parts.netloc or not value:
            return found[0]
        path = posixpath.join(posixpath.dirname(page), parts.path) if parts.path else f"{page}.html"
        target = posixpath.normpath(path)
        if target.removesuffix(".html") in pages:
            return f'{name}="#{anchor(target.removesuffix(".html"), parts.fragment)}"'
        return f'{name}="{target}{f"#{parts.fragment}" if parts.fragment else ""}"'

    return TAG.sub(lambda tag: ATTRIBUTE.sub(attribute, tag[0]), article)


def whole(html: Path, toc: dict) -> str:
    """One page with all pages of a built site. Raises SiteError when a page is missing or is not one of the site."""
    groups = order(toc)
    pages = {page for _, group in groups for page in group}
    contents, articles, head, scripts = [], [], "", {}
    for caption, group in groups:
        if caption:
            contents.append(f"<h3>{escape(caption)}</h3>")
        for page in group:
            path = html / f"{page}.html"
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            article, title = ARTICLE.search(text), TITLE.search(text)
            if not article or not title:
                raise SiteError(f"The site has no page {page}: build it with 'make book' first.")
            found = HEAD.search(text)[1]
            head = head or SCRIPT.sub("", found)
            up = "../" * page.count("/")
            needed = (script for script in SCRIPT.findall(found) if NEEDED.search(script))
            scripts |= dict.fromkeys(script.replace(f'src="{up}', 'src="') for script in needed)
            contents.append(f'<div><a href="#{anchor(page)}">{title[1]}</a></div>')
            body = moved(article[1], page, pages)
            articles.append(f'<article id="{anchor(page)}" class="bd-article">{body}</article>')
    nav = f'<nav class="bd-article" aria-label="Contents"><h2>Contents</h2>{"".join(contents)}</nav>'
    first, *rest = articles
    return (
        f'<!DOCTYPE html><html lang="en"><head>{head}{"".join(scripts)}{STYLE}</head>'
        f'<body><main class="pr-whole bd-content">{first}{nav}{"".join(rest)}</main></body></html>'
    )


def print_pdf(html: Path, toc: dict, target: Path, limit: float = 900) -> None:
    """Print a built site to a PDF. Raises SiteError without Chromium, and when it prints nothing within ``limit`` s."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise SiteError("The PDF is printed by Chromium, and there is none here: install it (Debian: chromium).")
    page = html / "whole-book.html"
    page.write_text(whole(html, toc), encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--disable-background-networking", "--allow-file-access-from-files", "--no-pdf-header-footer"]
        command += ["--virtual-time-budget=60000", f"--print-to-pdf={target.resolve()}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise SiteError(f"Chromium did not print the book within {limit:.0f} s.") from error
        finally:
            page.unlink()
    if done.returncode or not target.exists():
        raise SiteError(f"Chromium could not print the book: {done.stderr.strip()[-500:]}")


def main() -> None:
    """``python -m shared.site.whole SITE TOC PDF``."""
    html, toc, target = map(Path, sys.argv[1:4])
    try:
        print_pdf(html, yaml.safe_load(toc.read_text(encoding="utf-8")), target)
    except SiteError as error:
        sys.exit(str(error))
    print(f"PDF: {target.resolve()}")


if __name__ == "__main__":
    main()
