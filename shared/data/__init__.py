"""Every data set by name, with its card: `load("sonar")`, `card("sonar")`, `names()`, `prefetch()`.

Data come from data wheels (packages used as archives), installed packages, what is made from these at run time, and,
for the papers' own settings, canonical downloads; `$PAPERS_CACHE` moves the cache, `$PAPERS_DATA` holds canonical
sets placed by hand. Importing this package is cheap; a loader imports what it needs when it is called.
"""

from . import (
    canonical,
    corruptions,
    derived,
    graphs,
    hub,
    images,
    importnet,
    nas,
    ratings,
    scenes,
    series,
    source_code,
    speech,
    tables,
    texts,
    weights,
)
from .containers import Hyperspectral, Images, Impressions, Ratings, Recordings, Scenes, Series, Table, Texts
from .errors import CacheError, DataError, FetchError, HashMismatch, UnknownName, UnsafeData
from .registry import Card, card, describe, load, names, prefetch, sources

__all__ = [
    "CacheError",
    "Card",
    "DataError",
    "FetchError",
    "HashMismatch",
    "Hyperspectral",
    "Images",
    "Impressions",
    "Ratings",
    "Recordings",
    "Scenes",
    "Series",
    "Table",
    "Texts",
    "UnknownName",
    "UnsafeData",
    "canonical",
    "card",
    "corruptions",
    "derived",
    "describe",
    "graphs",
    "hub",
    "images",
    "importnet",
    "load",
    "names",
    "nas",
    "prefetch",
    "ratings",
    "scenes",
    "series",
    "source_code",
    "sources",
    "speech",
    "tables",
    "texts",
    "weights",
]
