"""The theme's icon script, cut down to the icons that the site shows: 1.5 MB a page become 0.1 MB."""

import re
from pathlib import Path

#: One icon in the script: name, size, other names and code points, its own code point, path or paths.
ICON = re.compile(
    r'(?:"(?P<quoted>[a-z0-9-]+)"|(?P<bare>[a-z0-9]+)):\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",'
    r'(?:"[^"]*"|\["[^"]*"(?:,"[^"]*")*\])\],?'
)
USED = re.compile(r"\bfa-([a-z0-9-]+)")


def prune(script: str, used: set[str]) -> str:
    """The script without the icons whose name and other names are not in ``used``."""

    def kept(icon: re.Match) -> str:
        names = {icon["quoted"] or icon["bare"], *re.findall(r'"([a-z0-9-]+)"', icon["aliases"])}
        return icon[0] if names & used else ""

    return ICON.sub(kept, script)


def prune_site(html: Path) -> None:
    """Prune the icon script of a built site to what its pages and scripts name."""
    script = html / "_static" / "scripts" / "fontawesome.js"
    others = (path for path in html.rglob("*") if path.suffix in (".html", ".js") and path != script)
    readers = (path for path in others if "mathjax" not in path.parts and "vendor" not in path.parts)
    used = {name for path in readers for name in USED.findall(path.read_text(encoding="utf-8"))}
    script.write_text(prune(script.read_text(encoding="utf-8"), used), encoding="utf-8")
