"""Canonical sets as they are placed by hand: those of the papers in full where they are there, made ones everywhere."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from shared import data
from shared.data import hub


def need(placed, name):
    if not os.path.isdir(placed(name)) or not os.environ.get("PAPERS_DATA"):
        pytest.skip(f"{name} is not under $PAPERS_DATA")
    return data.card(name)


def numbers(text):
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", text)]


def test_cifar10_is_what_its_card_says(placed):
    card = need(placed, "cifar10")
    train, test, *size = numbers(card.shape)
    for split, count in (("train", train), ("test", test)):
        images = data.load("cifar10", split=split)
        assert images.images.shape == (count, *size) and images.images.dtype == torch.uint8
        assert images.images.min() == 0 and images.images.max() == 255
        assert tuple(images.classes) == card.classes and len(card.classes) == 10
        assert images.labels.bincount().tolist() == [count // 10] * 10


def test_spoken_digits_are_what_their_card_says(placed):
    card = need(placed, "free-spoken-digits")
    digits = data.load("free-spoken-digits")
    assert list(digits.waveforms.shape) == numbers(card.shape)
    assert dict(zip(digits.classes, digits.labels.bincount().tolist())) == card.balance
    assert digits.speakers.bincount().tolist() == [500] * 6 and "Six speakers" in card.note
    assert digits.waveforms.abs().max() <= 1


@pytest.mark.parametrize("graph", ["cora", "citeseer"])
def test_planetoid_is_what_its_card_says(placed, graph):
    card = need(placed, "planetoid")
    made = data.load("planetoid", graph=graph)
    sizes = numbers(card.shape)
    assert list(made.x.shape) == sizes[:2] if graph == "cora" else sizes[2:4]
    assert made.y.bincount().tolist() == list(data.card(graph).balance.values())


def test_olid_is_what_its_card_says(placed):
    card = need(placed, "olid")
    parts = [data.load("olid", split=split) for split in ("train", "test")]
    assert [len(part) for part in parts] == numbers(card.shape)
    counts = [part.labels.bincount() for part in parts]
    assert dict(zip(parts[0].classes, sum(counts).tolist())) == card.balance
    said = "Train has {:,} NOT and {:,} OFF, test {} and {}".format(*counts[0].tolist(), *counts[1].tolist())
    assert said in card.note and not card.ship
    for part in parts:
        assert all(part.texts) and set(part.details["target"].dropna()) == {"TIN", "UNT"}
        assert set(part.details["whom"].dropna()) == {"IND", "GRP", "OTH"} and part.details["id"].is_unique
        offensive = part.labels.numpy() == part.classes.index("OFF")
        assert (part.details["target"].notna() == offensive).all()
        assert (part.details["whom"].notna() == (part.details["target"] == "TIN")).all()


def test_olid_from_its_files(own_cache, tmp_path, monkeypatch):
    folder = tmp_path / "olid"
    folder.mkdir()
    (folder / "olid-training-v1.0.tsv").write_text(
        'id\ttweet\tsubtask_a\tsubtask_b\tsubtask_c\n7\t@USER "quoted\tNOT\tNULL\tNULL\n9\tNA\tOFF\tTIN\tGRP\n'
    )
    (folder / "testset-levela.tsv").write_text("id\ttweet\n3\tone\n1\ttwo\n2\tthree\n")
    (folder / "labels-levela.csv").write_text("1,OFF\n2,OFF\n3,NOT\n")
    (folder / "labels-levelb.csv").write_text("2,TIN\n1,UNT\n")
    (folder / "labels-levelc.csv").write_text("2,IND\n")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    train = data.load("olid")
    assert train.texts == ['@USER "quoted', "NA"] and train.labels.tolist() == [0, 1]
    assert train.details.to_numpy().tolist() == [[7, None, None], [9, "TIN", "GRP"]]
    test = data.load("olid", split="test")
    assert test.texts == ["one", "two", "three"] and [test.classes[i] for i in test.labels] == ["NOT", "OFF", "OFF"]
    assert test.details.to_numpy().tolist() == [[3, None, None], [1, "UNT", None], [2, "TIN", "IND"]]
    with pytest.raises(data.DataError, match="no split 'dev': ask for 'train' or 'test'"):
        data.load("olid", split="dev")


def picture(path, size, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_a_folder_of_pictures(own_cache, tmp_path, monkeypatch):
    home = tmp_path / "birds-by-hand"
    picture(home / "train" / "owl" / "b.png", (40, 20), (255, 0, 0))
    picture(home / "train" / "owl" / "a.JPG", (8, 8), (0, 0, 255))
    picture(home / "train" / "duck" / "1.webp", (20, 50), (0, 255, 0))
    (home / "train" / "owl" / "notes.txt").write_text("not a picture")
    # Stripes, upright: the middle square is cut, the sides go.
    stripes = Image.new("RGB", (60, 20), (0, 0, 0))
    stripes.paste((200, 200, 200), (20, 0, 40, 20))
    stripes.save(home / "train" / "owl" / "c.png")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    for _ in range(2):  # decoded, then from the cache
        images = hub.image_folder("birds-by-hand", size=16, split="train")
        assert images.images.shape == (4, 3, 16, 16) and images.images.dtype == torch.uint8
        assert images.classes == ["duck", "owl"] and images.labels.tolist() == [0, 1, 1, 1]
    middle = images.images[:, :, 8, 8].tolist()
    np.testing.assert_allclose(middle, [[0, 255, 0], [0, 0, 255], [255, 0, 0], [200, 200, 200]], atol=4)
    assert (images.images[3].int() - 200).abs().max() < 8  # but for the interpolation at the edges
    (entry,) = own_cache.glob("decoded/*.npz")
    assert hub.image_folder("birds-by-hand", size=4, split="train").images.shape == (4, 3, 4, 4)
    picture(home / "train" / "owl" / "d.png", (5, 5), (9, 9, 9))
    assert len(hub.image_folder("birds-by-hand", size=16, split="train")) == 5 and entry.exists()


def test_a_picture_is_turned_upright(own_cache, tmp_path, monkeypatch):
    sideways = Image.new("RGB", (20, 20), (255, 255, 255))
    sideways.paste((0, 0, 0), (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    (tmp_path / "turned" / "any").mkdir(parents=True)
    sideways.save(tmp_path / "turned" / "any" / "1.png", exif=exif)
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    (image,) = hub.image_folder("turned", size=20).images
    assert (image[:, 0] == 0).all() and (image[:, -1] == 255).all()


def test_folder_errors(own_cache, tmp_path, monkeypatch):
    monkeypatch.delenv("PAPERS_DATA", raising=False)
    with pytest.raises(
        data.DataError, match=r"no pictures for 'mine': put them into \$PAPERS_DATA/mine/<class>/.*not set"
    ):
        hub.image_folder("mine", size=8)
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match=r"\$PAPERS_DATA/mine/test/<class>/"):
        hub.image_folder("mine", size=8, split="test")
    picture(tmp_path / "mine" / "cat" / "1.png", (9, 9), (1, 2, 3))
    (tmp_path / "mine" / "dog").mkdir()
    with pytest.raises(data.DataError, match="The class 'dog' of 'mine' has no pictures"):
        hub.image_folder("mine", size=8)
    (tmp_path / "mine" / "dog" / "1.jpg").write_bytes(b"\xff\xd8 not a picture")
    with pytest.raises(data.DataError, match="The picture .*1.jpg cannot be read: replace or remove it"):
        hub.image_folder("mine", size=8)
    assert not list(own_cache.rglob("*.npz"))
