"""Images made from others, by seed: digits on photographs, coloured, rotated and shifted digits, long-tailed subsets.

The functions work on any batch of images; the data sets of the same names apply them to `mnist5k` and keep its order,
so that a split by index is the same split in all of them. Everything is made on the CPU. What a seed gives depends on
nothing else: not on the global random state, not on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import corruptions
from .containers import Images
from .corruptions import KINDS, corrupt
from .errors import DataError
from .images import SCENERY
from .registry import load, loader

__all__ = ["KINDS", "PALETTE", "colour", "corrupt", "long_tailed", "on_photos", "patches", "rotate", "shift"]

#: Ten colours that are told apart easily: red, green, blue and so on, (10, 3) in 0..1, with their names.
PALETTE = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.10, 0.65, 0.15),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (0.95, 0.90, 0.10),
    "magenta": (0.90, 0.15, 0.85),
    "cyan": (0.10, 0.85, 0.90),
    "orange": (1.00, 0.55, 0.05),
    "violet": (0.50, 0.15, 0.75),
    "brown": (0.55, 0.33, 0.15),
    "grey": (0.60, 0.60, 0.60),
}


def _generator(seed: int):
    import torch

    return torch.Generator().manual_seed(seed)


def _checked(images, channels: Sequence[int] = (1, 3)):
    import torch

    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in channels:
        wanted = " or ".join(map(str, channels))
        raise DataError(f"Images must be uint8 (N, {wanted}, H, W), not {images.dtype} {tuple(images.shape)}.")
    return images


def patches(photos: Iterable, count: int, size: int, seed: int = 0):
    """Random square pieces of photographs: (count, 3, size, size) uint8, and the number of each one's photograph
    (count,).

    photos: (3, H, W) uint8 tensors, as the values of `load("photos")`; each is as likely as any other, and so is each
    place in it.
    """
    import torch

    photos = list(photos)
    if not photos or min(min(photo.shape[1:]) for photo in photos) < size:
        raise DataError(f"Patches of {size} pixels need at least one photograph, none of them smaller than that.")
    generator = _generator(seed)
    source = torch.randint(len(photos), (count,), generator=generator)
    place = torch.rand(2, count, generator=generator, dtype=torch.float64)
    cut = torch.empty(count, 3, size, size, dtype=torch.uint8)
    for number, photo in enumerate(photos):
        mine = source == number
        room = torch.tensor(photo.shape[1:])[:, None] - size + 1
        y, x = (place[:, mine] * room).long()
        cut[mine] = photo.unfold(1, size, 1).unfold(2, size, 1)[:, y, x].transpose(0, 1)
    return cut, source


def on_photos(images, photos: Iterable, seed: int = 0):
    """Blend grey images (N, 1, H, H) with random pieces of photographs as MNIST-M does: |piece - image| in each
    channel.

    Returns (N, 3, H, H) uint8 and the number of each one's photograph (N,). Where the image is 0 the photograph is
    unchanged, where it is 255 the photograph is inverted (Ganin et al., 2016).
    """
    cut, source = patches(photos, len(_checked(images, [1])), images.shape[-1], seed)
    return (cut.short() - images.short()).abs().to(cut.dtype), source


@loader("mnist-m")
def mnist_m(name: str, photos: Iterable[str] = SCENERY, seed: int = 0) -> Images:
    """MNIST-M from `mnist5k`: images (5000, 3, 28, 28) uint8 in 0..255, labels (5000,) int64, |photograph - digit|.

    In the order of `mnist5k`. details["photo"] is (5000,) int64, its names in names["photo"]. photos: names of
    photographs to cut from (see `photos`); give training and test other ones to test on unseen backgrounds.
    """
    digits, pictures = load("mnist5k"), load("photos", names=photos)
    images, source = on_photos(digits.images, pictures.values(), seed)
    return Images(name, images, digits.labels, digits.classes, {"photo": source}, {"photo": list(pictures)})


def colour(images, labels, bias: float, paint: str = "digit", jitter: float = 0.0, palette=None, seed: int = 0):
    """Colour grey images (N, 1, H, W) so that colour and class agree with probability `bias`.

    Image i gets colour labels[i] of the palette with probability `bias`, else one of the others, each as likely; with
    bias 1 / (number of colours) colour tells nothing about the class. paint: "digit" colours what is bright and leaves
    the ground black, "field" colours the ground and leaves what is bright white. jitter: standard deviation of noise
    added to the colour of an image (its channels in 0..1). palette: (colours, 3) in 0..1, by default the ten of
    `PALETTE`. Returns (N, 3, H, W) uint8 and the colours (N,) int64.
    """
    import torch

    palette = torch.tensor(list(PALETTE.values())) if palette is None else torch.as_tensor(palette)
    if not 0 <= bias <= 1:
        raise DataError(f"A bias is a probability, 0 to 1, not {bias}.")
    if len(palette) < 2 or (len(labels) and int(labels.max()) >= len(palette)):
        raise DataError(f"A palette of {len(palette)} colours is too short: give one for each class, two or more.")
    if paint not in ("digit", "field"):
        raise DataError(f"Colour goes on the 'digit' or on the 'field', not on {paint!r}.")
    generator = _generator(seed)
    count = len(_checked(images, [1]))
    agrees = torch.rand(count, generator=generator, dtype=torch.float64) < bias
    other = (labels + torch.randint(1, len(palette), (count,), generator=generator)) % len(palette)
    chosen = torch.where(agrees, labels, other)
    shade = palette[chosen] + jitter * torch.randn(count, 3, generator=generator)
    shade = shade.clamp(0, 1)[:, :, None, None]
    ink = images.float()
    painted = ink * shade if paint == "digit" else ink + (255 - ink) * shade
    return painted.round().to(torch.uint8), chosen


@loader("coloured-mnist")
def coloured_mnist(name: str, bias: float = 0.95, paint: str = "digit", jitter: float = 0.0, seed: int = 0) -> Images:
    """Digits whose colour goes with the class: images (5000, 3, 28, 28) uint8 in 0..255, labels (5000,) int64, in the
    order of `mnist5k`.

    bias: probability that a digit has the colour of its class, else it has one of the nine others; 0.1 makes colour and
    class independent (for tests). paint: "digit", as in the coloured MNIST of Nam et al. (Learning from failure, 2020),
    with `jitter` around the class's colour; or "field", the ground, as in the Biased MNIST of Bahng et al. (ReBias,
    2020). details["colour"] is (5000,) int64, its names in names["colour"]; class c goes with colour c.
    """
    digits = load("mnist5k")
    images, chosen = colour(digits.images, digits.labels, bias, paint, jitter, seed=seed)
    return Images(name, images, digits.labels, digits.classes, {"colour": chosen}, {"colour": list(PALETTE)})


def rotate(images, degrees):
    """Rotate images (N, C, H, W) uint8 about their middle by degrees (N,), counter-clockwise; bilinear, filled with 0.

    Multiples of 90 degrees are exact for square images.
    """
    import torch
    from torch.nn import functional as F

    _checked(images)
    angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    cos, sin = angle.cos(), angle.sin()
    height, width = images.shape[-2:]
    zero = torch.zeros_like(cos)
    # grid_sample measures each axis in half sides, hence the ratios of height and width.
    maps = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], -1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images.double(), grid, align_corners=False).round().to(torch.uint8)


@loader("rotated-mnist")
def rotated_mnist(name: str, limit: float = 180.0, angles: Sequence[float] | None = None, seed: int = 0) -> Images:
    """Rotated digits: images (5000, 1, 28, 28) uint8 in 0..255, labels (5000,) int64, in the order of `mnist5k`.

    limit: angles are uniform in -limit..limit degrees, counter-clockwise. angles: draw from these few instead, each as
    likely (0, 15, 30, 45, 60, 75 are the domains of Rotated MNIST, Ghifary et al., 2015). details["degrees"] is (5000,)
    float64.
    """
    import torch

    digits, generator = load("mnist5k"), _generator(seed)
    if angles is None:
        degrees = limit * (2 * torch.rand(len(digits), generator=generator, dtype=torch.float64) - 1)
    else:
        drawn = torch.randint(len(angles), (len(digits),), generator=generator)
        degrees = torch.tensor(angles, dtype=torch.float64)[drawn]
    return Images(name, rotate(digits.images, degrees), digits.labels, digits.classes, {"degrees": degrees})


def shift(images, offsets, size: int | None = None):
    """Put images (N, C, H, W) uint8 on black frames (N, C, size, size), `offsets` (N, 2) pixels right of and below the
    middle.

    Whole pixels are copied; what leaves the frame is cut. size: the frame's side, by default that of the images.
    """
    import torch

    _checked(images)
    height, width = images.shape[-2:]
    size = size or max(height, width)
    offsets = torch.as_tensor(offsets)
    right, down = offsets.T
    x = torch.arange(size) - (size - width) // 2 - right[:, None]
    y = torch.arange(size) - (size - height) // 2 - down[:, None]
    inside = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[:, None, None, :]
    row = torch.arange(len(images))[:, None, None]
    moved = images.permute(0, 2, 3, 1)[row, y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous() * inside


@loader("translated-mnist")
def translated_mnist(name: str, size: int = 40, limit: int | None = None, seed: int = 0) -> Images:
    """Shifted digits: images (5000, 1, size, size) uint8 in 0..255, labels (5000,) int64, in the order of `mnist5k`.

    size: side of the black frame, at least 28. limit: offsets from the middle are uniform over -limit..limit pixels in
    each direction, by default as far as the 28 x 28 digit stays inside (6 for 40); what leaves the frame is cut.
    details["offset"] is (5000, 2) int64: right, down.
    """
    import torch

    if size < 28:
        raise DataError(f"Digits of 28 pixels do not fit into a frame of {size}: ask for a size of at least 28.")
    digits = load("mnist5k")
    limit = (size - 28) // 2 if limit is None else limit
    offsets = torch.randint(-limit, limit + 1, (len(digits), 2), generator=_generator(seed))
    return Images(name, shift(digits.images, offsets, size), digits.labels, digits.classes, {"offset": offsets})


@loader("mnist-c")
def mnist_c(name: str, kind: str | None = None, severity: int = 3, seed: int = 0) -> Images:
    """Corrupted digits: images (5000, 1, 28, 28) uint8 in 0..255, labels (5000,) int64, in the order of `mnist5k`.

    kind: one of `derived.KINDS` (see `corruptions.corrupt`); by default the 15 kinds take turns, image by image.
    severity: 1 to 5. details["kind"] is (5000,) int64, its names in names["kind"].
    """
    import torch

    digits = load("mnist5k")
    number = corruptions.number(kind) if kind else torch.arange(len(digits)) % len(KINDS)
    number = torch.as_tensor(number).expand(len(digits)).clone()
    images = torch.empty_like(digits.images)
    for i in number.unique().tolist():
        mine = number == i
        images[mine] = corrupt(digits.images[mine], KINDS[i], severity, seed)
    return Images(name, images, digits.labels, digits.classes, {"kind": number}, {"kind": list(KINDS)})


def long_tailed(labels, factor: float, largest: int | None = None, order: Sequence[int] | None = None, seed: int = 0):
    """Indices of a subset whose class sizes fall exponentially: the k-th class (from 0) of C keeps
    floor(largest * factor ** (-k / (C - 1))) examples, drawn at random (the profile of Cui et al., 2019).

    labels: (N,) int64, each of 0..C-1 present. factor: size of the largest class over that of the smallest, at least 1.
    largest: size of the largest class, by default that of the smallest class in `labels`, so that the profile is exact.
    order: classes from the most to the least frequent, by default by number. Returns sorted indices (M,) int64.
    """
    import torch

    counts = labels.bincount()
    if factor < 1 or len(counts) < 2 or int(counts.min()) < 1:
        raise DataError("A long tail needs a factor of at least 1 and two or more classes, none of them empty.")
    largest = int(counts.min()) if largest is None else largest
    order = list(range(len(counts))) if order is None else list(order)
    if sorted(order) != list(range(len(counts))):
        raise DataError(f"The order must name each of the classes 0 to {len(counts) - 1} once, not {order}.")
    place = torch.empty(len(counts), dtype=torch.float64)
    place[torch.tensor(order)] = torch.linspace(0, 1, len(counts), dtype=torch.float64)
    wanted = (largest * factor**-place + 1e-9).long()  # a last class of exactly 5 must not become 4
    if (wanted > counts).any() or wanted.min() < 1:
        raise DataError(f"Classes of {wanted.max()} down to {wanted.min()} examples cannot be drawn: change `largest`.")
    shuffled = torch.randperm(len(labels), generator=_generator(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return by_class[rank < wanted[labels[by_class]]].sort().values


@loader("mnist-lt")
def mnist_lt(name: str, factor: float = 100.0, order: Sequence[int] | None = None, seed: int = 0) -> Images:
    """A long-tailed subset of `mnist5k`: images (N, 1, 28, 28) uint8 in 0..255, labels (N,) int64; 500 zeros down to 5
    nines, N = 1,236 with factor 100.

    factor: size of the largest class over that of the smallest; 1 keeps all. order: classes from the most to the least
    frequent. details["source"] is (N,) int64, the index in `mnist5k`: test on digits that are not in it.
    """
    digits = load("mnist5k")
    kept = long_tailed(digits.labels, factor, order=order, seed=seed)
    return Images(name, digits.images[kept], digits.labels[kept], digits.classes, {"source": kept})
