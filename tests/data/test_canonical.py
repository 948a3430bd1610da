"""Canonical tables and ratings, read from small files of the same form as those of their homes."""

import gzip
import json
import zipfile

import numpy as np
import pytest

from shared import data
from shared.data import cache


@pytest.fixture
def place(own_cache, tmp_path, monkeypatch):
    """A function that gives the folder of a set placed by hand."""
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))

    def folder(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    return folder


def test_amazon_beauty_reads_its_own_files(place):
    rows = [("u2", "b", 5.0, 20), ("u1", "a", 3.0, 10)]
    with gzip.open(place("amazon-beauty") / "reviews_Beauty_5.json.gz", "wt") as stream:
        for user, item, stars, seconds in rows:
            row = {"reviewerID": user, "asin": item, "overall": stars, "unixReviewTime": seconds}
            stream.write(json.dumps(row) + "\n")
    with gzip.open(place("amazon-beauty") / "meta_Beauty.json.gz", "wt") as stream:
        stream.write(str({"asin": "a", "title": "Soap", "categories": [["Beauty", "Bath"]]}) + "\n")
    shop = data.load("amazon-beauty")
    assert shop.name == "amazon-beauty" and shop.ratings.to_numpy().tolist() == [[1, 1, 5, 20], [0, 0, 3, 10]]
    assert shop.items["genres"].tolist() == [["Beauty", "Bath"], []] and shop.items["title"].tolist() == ["Soap", ""]


def test_movielens_1m(place):
    with zipfile.ZipFile(place("movielens-1m") / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "2::30::4::978300760\n1::7::5::978300000\n")
        archive.writestr("ml-1m/users.dat", "2::M::56::16::70072\n1::F::1::10::48067-1\n")
        films = "30::Amélie (fr) (2001)::Comedy|Romance\n7::No year::Drama\n".encode("latin-1")
        archive.writestr("ml-1m/movies.dat", films)
    films = data.load("movielens-1m")
    assert films.ratings.to_numpy().tolist() == [[2, 30, 4, 978300760], [1, 7, 5, 978300000]]
    assert films.items.loc[30, "title"] == "Amélie (fr)" and films.items.loc[30, "year"] == 2001
    assert films.items.loc[7, "title"] == "No year" and films.items["year"].isna().sum() == 1
    assert films.items.loc[30, "genres"] == ["Comedy", "Romance"] and films.items.index.tolist() == [7, 30]
    assert films.users.loc[1].tolist() == ["F", 1, "10", "48067-1"]


def test_gowalla_keeps_the_first_visit_of_each_pair(place):
    lines = [
        "5\t2010-10-19T23:55:27Z\t30.2\t-97.7\t900",
        "5\t2010-10-18T22:17:43Z\t30.2\t-97.7\t900",
        "3\t2010-10-17T23:42:03Z\t30.2\t-97.7\t100",
        "5\t2010-10-17T00:00:00Z\t30.2\t-97.7\t100",
    ]
    with gzip.open(place("gowalla") / "loc-gowalla_totalCheckins.txt.gz", "wt") as stream:
        stream.write("\n".join(lines) + "\n")
    for _ in range(2):  # parsed, then from the cache
        visits = data.load("gowalla")
        assert visits.ratings[["user", "item", "rating"]].to_numpy().tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 1]]
        assert visits.ratings["timestamp"].tolist() == [1287273600, 1287358923, 1287440263]
        assert visits.users["number"].tolist() == [3, 5] and visits.items["number"].tolist() == [100, 900]


def covertype_file(path, columns):
    with gzip.open(path, "wt") as stream:
        for k in range(3):
            stream.write(",".join(map(str, [2596 + k, *range(columns - 2), k + 1])) + "\n")


def test_covertype(place):
    covertype_file(place("covertype") / "covtype.data.gz", 55)
    table, card = data.load("covertype"), data.card("covertype")
    assert table.x.shape == (3, 54) and table.x[:, 0].tolist() == [2596, 2597, 2598] and table.x.dtype == np.float64
    assert table.y.tolist() == [0, 1, 2] and table.classes[:2] == ["Spruce/Fir", "Lodgepole Pine"]
    assert len(set(table.columns)) == 54 and table.columns[9] == "horizontal_distance_to_fire_points"
    assert sum(card.balance.values()) == 581_012


def test_a_file_with_other_columns_is_refused(place):
    covertype_file(place("covertype") / "covtype.data.gz", 54)
    with pytest.raises(data.DataError, match="54 columns where 55 belong"):
        data.load("covertype")


def test_uji_indoor_loc(place):
    header = "WAP001,WAP002,LONGITUDE,LATITUDE,FLOOR,BUILDINGID,SPACEID,RELATIVEPOSITION,USERID,PHONEID,TIMESTAMP\n"
    with zipfile.ZipFile(place("uji-indoor-loc") / "ujiindoorloc.zip", "w") as archive:
        archive.writestr("UJIndoorLoc/trainingData.csv", header + "-97,100,-7541.2,4864921,2,1,106,2,2,23,1371713733\n")
        archive.writestr("UJIndoorLoc/validationData.csv", header + "100,0,-7515.9,4864890,4,2,0,0,0,0,1380872703\n")
    table = data.load("uji-indoor-loc")
    assert table.x.tolist() == [[-97, -110], [-110, 0]] and table.columns == ["WAP001", "WAP002"]
    assert [table.classes[k] for k in table.y] == ["1-2", "2-4"] and len(table.classes) == 13
    assert table.held_out.tolist() == [False, True] and table.groups.tolist() == [2, 0]


def test_an_archive_without_the_tables_is_refused(place):
    with zipfile.ZipFile(place("uji-indoor-loc") / "ujiindoorloc.zip", "w") as archive:
        archive.writestr("else.csv", "a\n")
    with pytest.raises(data.DataError, match="no trainingData.csv"):
        data.load("uji-indoor-loc")
    assert not list(cache.directory().rglob("*.npy"))
