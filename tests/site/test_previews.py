"""What the data page shows of each set: made of the data, complete, up to date, and nothing that a licence forbids."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shared import data
from shared.catalog import ROOT
from shared.data.containers import Images
from shared.site import previews

STORED = previews.read(ROOT / "book")
FOLDER = previews.folder(ROOT / "book")


def test_every_set_that_needs_no_download_is_shown():
    shown = [name for name in data.names() if data.card(name).origin != "canonical" and previews.may_show(name)]
    assert set(shown) <= set(STORED) <= {name for name in data.names() if previews.may_show(name)}
    stale = [name for name in shown if STORED[name].key != previews.key(name)]
    assert not stale, f"Make these again with `python -m shared.authoring previews`: {', '.join(stale)}"
    assert {path.stem for path in FOLDER.glob("*.png")} == {name for name, preview in STORED.items() if preview.alt}
    assert all(bool(preview.alt) != bool(preview.rows) for preview in STORED.values())


def test_pictures_are_light_and_of_page_width():
    for path in FOLDER.glob("*.png"):
        assert path.stat().st_size < 120_000, path.name
        assert Image.open(path).width <= 800, path.name


def test_rows_are_those_of_the_data():
    made, picture = previews.make("sonar")
    assert picture is None and made.rows == tuple(map(tuple, STORED["sonar"].rows))
    table = data.load("sonar")
    assert made.rows[0][0] == f"{table.x[0, 0]:.4g}" and made.rows[0][-1] == table.classes[table.y[0]]
    assert made.columns[-2:] == ("…", "target")


def test_a_picture_is_that_of_the_data():
    made, picture = previews.make("mnist5k")
    assert made.alt == STORED["mnist5k"].alt
    stored = Image.open(FOLDER / "mnist5k.png").convert("L")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture)).convert("L")), np.asarray(stored))
    digits = data.load("mnist5k")
    first = digits.images[digits.labels == 3][0, 0]  # the fourth tile, whose pixels are enlarged
    tile = np.asarray(stored)[: previews.TILE, 3 * (previews.TILE + 4) :][:, : previews.TILE]
    rows = np.linspace(0, 27.999, previews.TILE).astype(int)
    assert np.abs(tile.astype(int) - first.numpy()[np.ix_(rows, rows)]).mean() < 5


def test_few_classes_are_shown_with_more_of_each():
    images = torch.arange(24, dtype=torch.uint8).reshape(24, 1, 1, 1).expand(24, 1, 8, 8) * 10
    two = Images("two", images, torch.arange(24) % 2, ["even", "odd"])
    picture, alt = previews.show(two, data.card("mnist5k"))
    assert alt.endswith("even, odd") and alt.startswith("10 examples")
    assert Image.open(io.BytesIO(picture)).size == (10 * previews.TILE + 9 * 4, previews.TILE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (float("nan"), "–"),
        (None, "–"),
        (pd.NA, "–"),
        ([1, 2.5, "a"], "1, 2.5, a"),
        (list(range(9)), "0, 1, 2, 3, 4, 5, …"),
        ("two\n  lines", "two lines"),
        ("x" * 200, "x" * 159 + "…"),
    ],
)
def test_values_are_short_text(value, text):
    assert previews.cell(value) == text


def test_writing_drops_pictures_of_sets_that_are_gone(tmp_path):
    rows = previews.Preview("key", columns=("a",), rows=(("1",),))
    seen = previews.Preview("key", alt="A digit")
    previews.write(tmp_path, {"mnist5k": seen, "sonar": rows}, {"mnist5k": b"png"})
    assert (tmp_path / "_static/previews/mnist5k.png").read_bytes() == b"png"
    previews.write(tmp_path, {"sonar": rows}, {})
    assert list(previews.read(tmp_path)) == ["sonar"]
    assert not (tmp_path / "_static/previews/mnist5k.png").exists()


def test_an_unknown_kind_of_value_is_an_error():
    with pytest.raises(TypeError, match="No preview is known for what the loader of 'sonar' returns, a int"):
        previews.show(3, data.card("sonar"))


def test_texts_are_shown_by_class_and_with_what_else_is_known():
    found = pd.DataFrame({"by": ["ann", "bob", "cem", "dan", "eva"]})
    texts = data.Texts("two", ["a", "b", "c", "d", "e"], torch.tensor([1, 1, 0, 1, 0]), ["bad", "good"], found)
    shown = previews.show(texts, data.card("sonar"))
    assert shown.values.tolist() == [["c", "bad", "cem"], ["a", "good", "ann"]]
    scored = data.Texts("scored", ["a", "b", "c", "d", "e"], torch.tensor([0.5, -1, 2, 0, 1]), [])
    assert previews.show(scored, data.card("sonar"))["label"].tolist() == [0.5, -1, 2, 0]
    plain = data.Texts("plain", ["a", "b", "c", "d", "e"], None, [])
    assert previews.show(plain, data.card("sonar"))["text"].tolist() == ["a", "b", "c", "d"]


def test_time_is_shown_with_a_series():
    first = previews.show(data.load("airline"), data.card("airline"))
    assert list(first) == ["month", "passengers"] and str(first.iloc[1, 0]) == "1949-02"
    assert list(previews.show(pd.DataFrame({"a": [1]}), data.card("sonar"))) == ["a"]
