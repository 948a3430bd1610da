"""What the theme loads on every page and the page does not need, taken out of the built site.

Its icon script is cut down to the icons that the site shows: 1.5 MB a page become 0.1 MB. The index of the search,
which grows with the book, is left to the search page: no other page searches.
"""

import re
from pathlib import Path

#: One icon in the script: name, size, other names and code points, its own code point, path or paths.
ICON = re.compile(
    r'(?:"(?P<quoted>[a-z0-9-]+)"|(?P<bare>[a-z0-9]+)):\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",'
    r'(?:"[^"]*"|\["[^"]*"(?:,"[^"]*")*\])\],?'
)
USED = re.compile(r"\bfa-([a-z0-9-]+)")
#: The scripts of the search, as the theme puts them on every page.
SEARCH = re.compile(r'[ \t]*<script src="[^"]*\b(?:searchtools|language_data|searchindex)\.js[^"]*"></script>\n?')


def prune(script: str, used: set[str]) -> str:
    """The script without the icons whose name and other names are not in ``used``."""

    def kept(icon: re.Match) -> str:
        names = {icon["quoted"] or icon["bare"], *re.findall(r'"([a-z0-9-]+)"', icon["aliases"])}
        return icon[0] if names & used else ""

    return ICON.sub(kept, script)


def prune_site(html: Path) -> None:
    """Prune the icon script of a built site to what its pages and scripts name, and drop the search where none is."""
    for path in html.rglob("*.html"):
        if path.name != "search.html" and "_static" not in path.parts:
            text = path.read_text(encoding="utf-8")
            if (light := SEARCH.sub("", text)) != text:
                path.write_text(light, encoding="utf-8")
    script = html / "_static" / "scripts" / "fontawesome.js"
    others = (path for path in html.rglob("*") if path.suffix in (".html", ".js") and path != script)
    readers = (path for path in others if "mathjax" not in path.parts and "vendor" not in path.parts)
    used = {name for path in readers for name in USED.findall(path.read_text(encoding="utf-8"))}
    script.write_text(prune(script.read_text(encoding="utf-8"), used), encoding="utf-8")
