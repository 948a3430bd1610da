"""Ratings: MovieLens 100K, and the Amazon reviews of the Deep Interest Network paper."""

from __future__ import annotations

import io

from . import cache, hub, wheels
from .containers import Ratings
from .registry import loader

_AMAZON = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_AMAZON_FILES = ("reviews_Electronics_5.json.gz", "meta_Electronics.json.gz")


def _atomic(part: str):
    """One of the tab-separated tables of MovieLens 100K as a data frame of text, its columns without their types."""
    import pandas as pd

    content = wheels.archive("recbole").read(f"recbole/dataset_example/ml-100k/ml-100k.{part}")
    frame = pd.read_csv(io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False, quoting=3)
    return frame.rename(columns=lambda column: column.split(":")[0])


@loader("ml100k")
def ml100k(name: str) -> Ratings:
    """MovieLens 100K: 100,000 ratings of 1,682 films by 943 users, 1997-98, with time stamps, user fields, titles and
    genres.

    `Ratings` with ratings (100000 rows: user, item int64, rating 1.0 to 5.0, timestamp int64), users and items
    (indexed by number; items: title, year, genres as a list). Takes no options.
    """
    import pandas as pd

    ratings = _atomic("inter").rename(columns={"user_id": "user", "item_id": "item"})
    ratings = ratings.astype({"user": "int64", "item": "int64", "rating": "float64", "timestamp": "int64"})
    users = _atomic("user").rename(columns={"user_id": "user"}).astype({"user": "int64", "age": "int64"})
    items = _atomic("item").astype({"item_id": "int64"})
    items = pd.DataFrame(
        {
            "title": items["movie_title"].to_numpy(),
            "year": pd.to_numeric(items["release_year"], errors="coerce").astype("Int64").array,
            "genres": [genres.split() for genres in items["class"]],
        },
        index=pd.Index(items["item_id"], name="item"),
    )
    return Ratings(name, ratings, users.set_index("user").sort_index(), items.sort_index())


def _records(path):
    """Records of a gzipped file with one Python literal (or JSON object) a line."""
    import ast
    import gzip
    import json

    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except ValueError:  # the product file is written as Python dictionaries
                yield ast.literal_eval(line)


@loader("amazon-electronics")
def amazon_electronics(name: str) -> Ratings:
    """Amazon Electronics, 5-core: 1,689,188 reviews (about 192,000 users, 63,000 items), for the paper profile of
    DIN.

    `Ratings` with ratings (user, item int64 from 0, rating, timestamp), users (reviewer) and items (title, year
    missing, genres: the product's path of categories, the last one is the most special). Takes no options. 0.7 GB to
    download from its home (SNAP, Stanford); no digest of these files is published, so what comes is taken as it is.
    """
    import pandas as pd

    files = [hub.download(name, _AMAZON + file, None) for file in _AMAZON_FILES]
    digest = cache.key("v1", *[cache.sha256_of(file) for file in files])

    def parse(path):
        columns = ["reviewerID", "asin", "overall", "unixReviewTime"]
        reviews = pd.DataFrame(([record[c] for c in columns] for record in _records(files[0])), columns=columns)
        known = set(reviews["asin"])
        kept = (record for record in _records(files[1]) if record["asin"] in known)
        products = {r["asin"]: (r.get("title", ""), "|".join((r.get("categories") or [[]])[-1])) for r in kept}
        reviews["title"] = [products.get(asin, ("", ""))[0] for asin in reviews["asin"]]
        reviews["path"] = [products.get(asin, ("", ""))[1] for asin in reviews["asin"]]
        reviews.to_parquet(path)

    reviews = pd.read_parquet(cache.built(f"parsed/{name}-{digest}.parquet", parse))
    user, reviewers = pd.factorize(reviews["reviewerID"], sort=True)
    item, asins = pd.factorize(reviews["asin"], sort=True)
    ratings = reviews[["overall", "unixReviewTime"]].astype({"overall": float, "unixReviewTime": "int64"})
    ratings = ratings.rename(columns={"overall": "rating", "unixReviewTime": "timestamp"})
    ratings.insert(0, "user", user)
    ratings.insert(1, "item", item)
    products = reviews.drop_duplicates("asin").set_index("asin").loc[asins]
    items = pd.DataFrame(
        {
            "title": products["title"].to_numpy(),
            "year": pd.array([pd.NA] * len(asins), dtype="Int64"),
            "genres": [path.split("|") if path else [] for path in products["path"]],
        },
        index=pd.RangeIndex(len(asins), name="item"),
    )
    users = pd.DataFrame({"reviewer": reviewers}, index=pd.RangeIndex(len(reviewers), name="user"))
    return Ratings(name, ratings, users, items)
