"""Images: every set is what its card says, and what is known of it from elsewhere."""

import io
import pickle
import re

import numpy as np
import pytest
import torch

from shared import data
from shared.data import images, wheels

NAMES = [name for name in data.names(kind="images") if data.card(name).origin in ("wheel", "installed")]
LABELLED = [name for name in NAMES if name not in ("photos", "ihc", "indian-pines", "solar-cells")]


def shape_on(card):
    """The numbers of "5,000 x 1 x 28 x 28"."""
    return tuple(int(number.replace(",", "")) for number in re.match(r"[\d, x]+\d", card.shape)[0].split(" x "))


def test_the_names():
    assert set(NAMES) == {
        "mnist5k", "optdigits8", "optdigits-images", "photos", "ihc", "faces25", "solar-cells", "orl-faces",
        "indian-pines", "imagenet-samples", "cifar10-samples", "cifar100-samples", "fashion-mnist-samples", "glyphs",
    }  # fmt: skip
    assert {name for name in NAMES if not data.card(name).ship} == {"solar-cells", "imagenet-samples"}


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_images_are_what_their_cards_say(name):
    card, loaded, again = data.card(name), data.load(name), data.load(name)
    assert loaded.name == name and loaded.images.shape == shape_on(card) and loaded.images.is_contiguous()
    assert loaded.images.dtype == torch.uint8 and loaded.labels.dtype == torch.int64
    assert len(loaded) == len(loaded.labels) == len(loaded.images)
    assert loaded.images.max() > 200 and loaded.images.min() < 30
    if card.classes:
        assert tuple(loaded.classes) == card.classes
    if card.balance:
        counts = loaded.labels.bincount(minlength=len(loaded.classes))
        assert dict(zip(loaded.classes, counts.tolist())) == card.balance
    for detail in loaded.details.values():
        assert len(detail) == len(loaded)
    assert set(loaded.names) <= set(loaded.details)
    assert torch.equal(loaded.images, again.images) and torch.equal(loaded.labels, again.labels)


def test_optical_digits_agree_with_scikit_learn_and_with_each_other():
    from sklearn.datasets import load_digits

    small, full, known = data.load("optdigits8"), data.load("optdigits-images"), load_digits()
    np.testing.assert_array_equal(np.rint(small.images[:, 0].numpy() * (16 / 255)), known.images)
    np.testing.assert_array_equal(small.labels, known.target)
    test = full.details["writers"] == 1
    assert torch.equal(full.images[test], small.images) and torch.equal(full.labels[test], small.labels)
    assert full.names["writers"] == ["training", "test"] and int((~test).sum()) == 3823
    assert set(small.images.unique().tolist()) == {round(255 * count / 16) for count in range(17)}


def test_photos_have_the_sizes_on_their_card_and_grey_ones_are_grey():
    photos = data.load("photos", names=images.PHOTOS)
    assert len(photos) == 19 and list(photos) == list(images.PHOTOS)
    for sizes, names in re.findall(r"3 x ([\d, x]+\d) \(([\w, ]+)\)", data.card("photos").shape):
        size = tuple(int(number.replace(",", "")) for number in sizes.split(" x "))
        for name in names.split(", "):
            photo = photos.pop(name)
            assert photo.shape == (3, *size) and photo.dtype == torch.uint8 and photo.is_contiguous(), name
            grey = torch.equal(photo[0], photo[1]) and torch.equal(photo[0], photo[2])
            assert grey == (name in {"coins", "camera", "moon", "brick", "grass", "gravel"}), name
    assert not photos  # the card names every one of them


def test_photos_fetch_only_the_wheels_they_need(monkeypatch):
    asked = []
    real = wheels.archive
    monkeypatch.setattr(wheels, "archive", lambda package: asked.append(package) or real(package))
    assert set(data.load("photos")) == {"china", "flower"} and asked == []
    assert set(data.load("photos", names=("coffee", "china"))) == {"coffee", "china"}
    assert asked == ["scikit-image"]
    (flamingo,) = data.load("photos", names="flamingo").values()
    assert asked == ["scikit-image", "ISLP"] and flamingo.shape == (3, 1125, 1192)
    with pytest.raises(data.DataError, match="no photograph 'lena': choose from china, flower, astronaut"):
        data.load("photos", names=["lena"])


def test_photos_made_smaller_keep_their_proportions_and_colours():
    whole, small = (data.load("photos", names=["coffee", "flamingo"], longest=longest) for longest in (None, 200))
    assert small["coffee"].shape == (3, 133, 200) and small["flamingo"].shape == (3, 189, 200)
    for name, photo in small.items():
        torch.testing.assert_close(photo.float().mean((1, 2)), whole[name].float().mean((1, 2)), atol=1.5, rtol=0)


def test_pictures_show_what_they_should():
    photos = data.load("photos", names=["hubble", "flamingo", "retina", "moon"], longest=300)
    assert (photos["hubble"].float().mean() < 40) and photos["hubble"].max() > 200  # galaxies on black
    red, _, blue = photos["retina"][:, 100:200, 100:200].float().mean((1, 2))
    assert red > 2 * blue
    section = data.load("ihc")["ihc"]
    assert section.shape == (3, 512, 512) and section.dtype == torch.uint8
    red, blue = section[0].float(), section[2].float()
    brown, bluish = red > blue + 40, blue > red + 5
    assert 0.1 < brown.float().mean() < 0.6 and bluish.float().mean() > 0.05  # both stains


def test_faces25():
    faces = data.load("faces25")
    average = faces.images[faces.labels == 1].float().mean(0)[0]
    eyes, between, cheeks = average[8, [7, 14]], average[8, 10], average[12, [5, 17]]
    assert eyes.max() < between - 15 and eyes.max() < cheeks.min() - 15
    assert 30 < int(faces.labels[:100].sum()) < 70  # shuffled
    archive = wheels.archive("scikit-image")
    known = np.load(io.BytesIO(archive.read("skimage/data/lfw_subset.npy")))
    ours = np.sort(faces.images[faces.labels == 1].flatten(1).float().mean(1).numpy())
    np.testing.assert_allclose(ours, np.sort(255 * known[:100].mean((1, 2))), atol=0.5)


def test_orl_faces_of_one_person_look_alike():
    faces = data.load("orl-faces")
    pairs = torch.stack([faces.labels, faces.details["take"]], 1)
    assert len(pairs.unique(dim=0)) == 400 and pairs.amax(0).tolist() == [39, 9]
    pixels = faces.images.flatten(1).float()
    distance = torch.cdist(pixels, pixels).fill_diagonal_(float("inf"))
    assert (faces.labels[distance.argmin(1)] == faces.labels).float().mean() > 0.95


def test_solar_cells():
    card, cells = data.card("solar-cells"), data.load("solar-cells", size=60)
    assert shape_on(card) == (2624, 1, 300, 300) and "NC" in card.licence and not card.ship
    assert cells.images.shape == (2624, 1, 60, 60) and cells.images.dtype == torch.uint8
    assert dict(zip(cells.classes, cells.labels.bincount().tolist())) == card.balance
    assert torch.equal(cells.details["probability"] * 3, cells.labels.float())
    mono = cells.details["type"] == 0
    # The four counts of each type that the authors' table of labels holds.
    assert cells.labels[mono].bincount().tolist() == [588, 117, 56, 313]
    assert cells.labels[~mono].bincount().tolist() == [920, 178, 50, 402]
    brightness = cells.images.float().mean((1, 2, 3))
    assert brightness[cells.labels == 3].mean() < brightness[cells.labels == 0].mean()  # defects are dark
    from PIL import Image

    content = wheels.archive("elpv-dataset").read("elpv_dataset/data/images/cell0003.png")
    first = torch.from_numpy(np.array(Image.open(io.BytesIO(content)))).float()
    blocks = first.view(60, 5, 60, 5).mean((1, 3))
    torch.testing.assert_close(cells.images[2, 0].float(), blocks, atol=1, rtol=0)
    for size in (0, 301):
        with pytest.raises(data.DataError, match=f"side of {size} pixels: ask for 1 to 300"):
            data.load("solar-cells", size=size)


def test_indian_pines():
    card, scene = data.card("indian-pines"), data.load("indian-pines")
    assert scene.cube.shape == shape_on(card) and scene.cube.dtype == torch.int16
    assert (scene.cube.min(), scene.cube.max()) == (955, 9604)
    labelled = scene.labels[scene.labels >= 0]
    assert scene.labels.shape == (145, 145) and scene.labels.min() == -1 and len(labelled) == 10_249
    assert dict(zip(scene.classes, labelled.bincount().tolist())) == card.balance
    assert scene.wavelengths.shape == (200,) and 400 <= scene.wavelengths.min() and scene.wavelengths.max() < 2500
    # Leaves reflect far more at 800 than at 670 nm; the steel and stone of the towers do not.
    near = {nm: int((scene.wavelengths - nm).abs().argmin()) for nm in (670, 800)}
    spectra = {
        name: scene.cube[:, scene.labels == scene.classes.index(name)].float().mean(1)
        for name in ("woods", "stone-steel-towers")
    }
    rise = {name: spectrum[near[800]] / spectrum[near[670]] for name, spectrum in spectra.items()}
    assert rise["woods"] > 2 > 1.5 > rise["stone-steel-towers"]


def test_samples_have_the_labels_in_their_names():
    shown = {
        name: [loaded.classes[label] for label in loaded.labels[:3]]
        for name in ("imagenet-samples", "cifar10-samples", "cifar100-samples", "fashion-mnist-samples")
        for loaded in [data.load(name)]
    }
    assert shown == {
        "imagenet-samples": ["bull mastiff", "folding chair", "beaker"],
        "cifar10-samples": ["cat", "ship", "ship"],
        "cifar100-samples": ["mountain", "forest", "seal"],
        "fashion-mnist-samples": ["ankle boot", "pullover", "trouser"],
    }
    assert len(data.load("imagenet-samples").classes) == 1000 and len(data.card("cifar100-samples").classes) == 100


def test_glyphs():
    glyphs = data.load("glyphs", letters="AIlg5", fonts=images.FONTS[:3], size=32)
    assert glyphs.images.shape == (15, 1, 32, 32) and glyphs.classes == list("AIlg5")
    assert glyphs.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert glyphs.details["font"].tolist() == [0, 1, 2] * 5 and glyphs.names["font"] == list(images.FONTS[:3])
    everything = data.load("glyphs", letters="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
    ink = everything.images[:, 0] > 0
    assert not (ink[:, 0].any() or ink[:, -1].any() or ink[..., 0].any() or ink[..., -1].any())  # nothing is cut
    for axis in (1, 2):  # the ink is in the middle, give or take a pixel
        touched = ink.any(3 - axis).int()
        before, after = touched.argmax(1), touched.flip(1).argmax(1)
        assert (before - after).abs().max() <= 1
    for font in range(len(images.FONTS)):
        drawn = everything.images[everything.details["font"] == font].flatten(1)
        alike = (drawn[:, None] == drawn).all(-1).sum() - len(drawn)
        assert alike == 0, images.FONTS[font]  # no two letters of a font are the same picture


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"letters": ""}, "distinct letters A-Z, a-z and digits 0-9, not for ''"),
        ({"letters": "AA"}, "distinct letters"),
        ({"letters": "Aß"}, "distinct letters"),
        ({"fonts": ["../cmr10"]}, "no font '../cmr10': choose from DejaVuSans"),
        ({"size": 15}, "15 pixels: ask for a size of at least 16"),
    ],
)
def test_glyphs_that_cannot_be_drawn(options, message):
    with pytest.raises(data.DataError, match=message):
        data.load("glyphs", **options)


class Hostile:
    """An object whose unpickling leaves a mark."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("name", ["faces25", "indian-pines"])
def test_an_array_of_objects_is_not_unpickled(name, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    np.save(stream, np.array([Hostile(mark)], dtype=object), allow_pickle=True)
    for content in (stream.getvalue(), pickle.dumps(Hostile(mark))):
        fake = type("Archive", (), {"read": lambda self, member, content=content: content})()
        monkeypatch.setattr(wheels, "archive", lambda package, fake=fake: fake)
        with pytest.raises(data.UnsafeData, match="do not use this file"):
            data.load(name)
    assert not mark.exists()


def test_a_source_is_read_not_run(tmp_path):
    mark = tmp_path / "mark"
    source = f"open({str(mark)!r}, 'w')\nwavelengths = [1.0, 2.5]\nothers = [open({str(mark)!r}, 'w')]\n".encode()
    assert images._listed(source, "wavelengths") == [1.0, 2.5]
    with pytest.raises(data.UnsafeData, match="others holds more than constants"):
        images._listed(source, "others")
    with pytest.raises(data.DataError, match="should list missing"):
        images._listed(source, "missing")
    assert not mark.exists()
