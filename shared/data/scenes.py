"""Scenes of several objects with boxes, masks and captions: digits on photographs, coloured shapes on plain fields.

What a seed gives depends on nothing else. `counted_shapes` and `related_shapes` draw what they are told to, on a layout
that depends on the seed alone: with one attribute changed they give the same scene with that one change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .containers import Scenes
from .derived import patches
from .errors import DataError
from .images import SCENERY
from .registry import load, loader

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.15, 0.75, 0.20),
    "blue": (0.25, 0.45, 1.00),
    "yellow": (0.97, 0.90, 0.15),
    "purple": (0.75, 0.25, 0.85),
    "white": (1.00, 1.00, 1.00),
}
FIELDS = {
    "black": (0.00, 0.00, 0.00),
    "gray": (0.45, 0.45, 0.45),
    "navy": (0.05, 0.05, 0.35),
    "brown": (0.35, 0.20, 0.08),
}
COUNTS = ("one", "two", "three")
#: Where the first of two shapes is, as seen from the second.
RELATIONS = ("left of", "right of", "above", "below")

_PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "centre", "right")
_CHUNK = 256  # scenes drawn at once
_INK = 64  # a pixel of a digit belongs to its mask from this grey level on, or from half of the digit's brightest


def _generator(seed: int):
    import torch

    return torch.Generator().manual_seed(seed)


def boxes_of(masks):
    """The smallest boxes around masks: (..., H, W) bool -> (..., 4) int64, x1, y1, x2, y2, all 0 for an empty mask.

    x2 and y2 lie just outside, so `mask[y1:y2, x1:x2]` holds the whole object.
    """
    import torch

    ends = []
    for axis in (-2, -1):  # columns that the mask touches, then rows
        touched = masks.any(axis)
        places = torch.arange(touched.shape[-1])
        first = torch.where(touched, places, touched.shape[-1]).amin(-1)
        last = torch.where(touched, places + 1, 0).amax(-1)
        ends.append((first * (last > 0), last))
    (x1, x2), (y1, y2) = ends
    return torch.stack([x1, y1, x2, y2], -1)


def tokens_of(captions: Sequence[str], vocabulary: Sequence[str]):
    """Words as numbers: (N, L) int64 indices into the vocabulary, each caption closed by "<end>", filled up with
    "<pad>" (0); L is the longest caption and its end.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    number = {word: i for i, word in enumerate(vocabulary)}
    rows = [torch.tensor([number[word] for word in (*caption.split(), "<end>")]) for caption in captions]
    return pad_sequence(rows, batch_first=True, padding_value=number["<pad>"])


def _vocabulary(*groups: Iterable[str]) -> list[str]:
    """All words of the phrases, in alphabetical order, after "<pad>" and "<end>"."""
    return ["<pad>", "<end>", *sorted({word for group in groups for phrase in group for word in phrase.split()})]


# Digits on photographs


def _resized(digits, sizes, places, side: int):
    """Digits (N, H, H) float scaled to `sizes` (N,) pixels with the upper left corner at `places` (N, 2), on (N, side,
    side) frames of 0.

    Each pixel is the average of the digit over its area: exact, and without aliasing at any scale.
    """
    import torch

    whole = digits.shape[-1]
    weights = []
    for start in places.T:
        edges = start[:, None] + sizes[:, None] * (torch.arange(whole + 1) / whole)
        cell = torch.arange(side)[None, :, None]
        over = torch.minimum(cell + 1, edges[:, None, 1:]) - torch.maximum(cell, edges[:, None, :-1])
        weights.append(over.clamp(min=0))
    across, down = weights
    return down @ digits @ across.transpose(1, 2)


def _placed(sizes, side: int, generator, tries: int = 60):
    """Upper left corners (N, K, 2) for squares of `sizes` (N, K), 0 for none, so that no two overlap; and which of them
    found room (N, K).
    """
    import torch

    count, most = sizes.shape
    place = torch.zeros(count, most, 2, dtype=torch.int64)
    there = torch.zeros(count, most, dtype=torch.bool)
    for k in range(most):
        room = side - sizes[:, k] + 1
        drawn = (torch.rand(count, tries, 2, generator=generator, dtype=torch.float64) * room[:, None, None]).long()
        # A candidate clashes with a square of before unless they are apart along one axis.
        near = drawn[:, :, None] < (place + sizes[..., None])[:, None, :k]
        far = (drawn + sizes[:, k, None, None])[:, :, None] > place[:, None, :k]
        clash = ((near & far).all(-1) & there[:, None, :k]).any(-1)
        chosen = (~clash).int().argmax(1)
        place[:, k] = drawn[torch.arange(count), chosen]
        there[:, k] = (sizes[:, k] > 0) & ~clash[torch.arange(count), chosen]
    return place, there


def digit_scenes(
    digits,
    labels,
    photos: Iterable,
    count: int,
    size: int = 64,
    objects: tuple[int, int] = (1, 4),
    sizes: tuple[int, int] = (16, 24),
    blend: str = "difference",
    seed: int = 0,
) -> dict:
    """Scenes of digits at random sizes and places, no two overlapping, on random pieces of photographs.

    digits: (M, 1, H, H) uint8, labels: (M,) int64, photos: (3, H, W) uint8 tensors. count: number of scenes, size:
    their side in pixels. objects: least and most digits in a scene (one that finds no room is left out, but never all).
    sizes: least and most pixels for the side of a digit's frame, of which MNIST's ink fills about 5/7. blend:
    "difference" (|photograph - digit|, seen on any ground) or "paint" (white over the photograph).

    Returns what `Scenes` holds: images (count, 3, size, size) uint8, labels, boxes, masks (count, K, ...) with K =
    objects[1], ordered from top to bottom, then left to right, unused places last; source (count, K) int64 indices into
    `digits` (-1 unused), photo (count,).
    """
    import torch

    least, most = objects
    if not 1 <= least <= most or not 8 <= sizes[0] <= sizes[1] <= size or blend not in ("difference", "paint"):
        raise DataError(
            f"Scenes need 1 <= objects, 8 <= sizes <= {size} (least first) and blend 'difference' or 'paint', not "
            f"objects {objects}, sizes {sizes}, blend {blend!r}."
        )
    generator = _generator(seed)
    grounds, photo = patches(photos, count, size, seed)
    wanted = torch.randint(least, most + 1, (count, 1), generator=generator)
    side = torch.randint(sizes[0], sizes[1] + 1, (count, most), generator=generator)
    side = side * (torch.arange(most) < wanted)
    source = torch.randint(len(digits), (count, most), generator=generator)
    place, there = _placed(side, size, generator)
    middle = 2 * place + side[..., None]
    order = torch.where(there, middle[..., 1] * 4 * size + middle[..., 0], torch.iinfo(torch.int64).max).argsort(1)
    source, there, side = (values.gather(1, order) for values in (source, there, side))
    place = place.gather(1, order[..., None].expand(-1, -1, 2))

    images = grounds.float()
    masks = torch.zeros(count, most, size, size, dtype=torch.bool)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        for k in range(most):
            ink = _resized(digits[source[part, k], 0].float(), side[part, k], place[part, k], size)
            ink = ink * there[part, k, None, None]
            ground = images[part]
            least_ink = (ink.amax((1, 2), keepdim=True) / 2).clamp(max=_INK)  # thin strokes fade when made small
            ink, masks[part, k] = ink[:, None], (ink >= least_ink) & there[part, k, None, None]
            images[part] = (ground - ink).abs() if blend == "difference" else ground + (255 - ground) * ink / 255
    return {
        "images": images.round().to(torch.uint8),
        "labels": torch.where(there, labels[source], -1),
        "boxes": boxes_of(masks),
        "masks": masks,
        "source": torch.where(there, source, -1),
        "photo": photo,
    }


def _digit_captions(labels, boxes, size: int) -> list[str]:
    """For example "a seven at the upper left and a two at the lower centre"."""
    third = ((boxes[..., :2] + boxes[..., 2:]) * 3 // (2 * size)).clamp(max=2).tolist()
    captions = []
    for row, places in zip(labels.tolist(), third, strict=True):
        parts = [
            f"{'an' if label == 8 else 'a'} {_DIGITS[label]} at the {_ROWS[y]} {_COLUMNS[x]}"
            for label, (x, y) in zip(row, places, strict=True)
            if label >= 0
        ]
        captions.append(" and ".join(parts))
    return captions


@loader("digit-scenes")
def load_digit_scenes(
    name: str,
    count: int = 1000,
    size: int = 64,
    objects: tuple[int, int] = (1, 4),
    sizes: tuple[int, int] = (16, 24),
    blend: str = "difference",
    photos: Iterable[str] = SCENERY,
    digits: tuple[int, int] = (0, 5000),
    seed: int = 0,
) -> Scenes:
    """Scenes of 1 to 4 digits on photographs: images (count, 3, size, size) uint8 in 0..255, labels (count, 4) int64,
    boxes, masks, captions such as "a seven at the upper left and a two at the lower centre" and their tokens (see
    `Scenes`).

    count, size, objects, sizes, blend: see `scenes.digit_scenes`. photos: names of photographs for the ground. digits:
    the first and past the last digit of `mnist5k` to draw from; give training and test other digits and other photos.
    details["source"] is (count, K) int64, the digits' indices in `mnist5k`; details["photo"] is (count,), its names in
    names["photo"].
    """
    known, pictures = load("mnist5k"), load("photos", names=photos)
    first, last = digits
    if not 0 <= first < last <= len(known):
        raise DataError(f"Digits {first} to {last} cannot be drawn from: give a range within 0 to {len(known)}.")
    pool = slice(first, last)
    made = digit_scenes(
        known.images[pool], known.labels[pool], pictures.values(), count, size, objects, sizes, blend, seed
    )
    source = made["source"] + first * (made["source"] >= 0)
    captions = _digit_captions(made["labels"], made["boxes"], size)
    vocabulary = _vocabulary(("a an at the and",), _DIGITS, _ROWS, _COLUMNS)
    return Scenes(
        name=name,
        images=made["images"],
        labels=made["labels"],
        classes=known.classes,
        boxes=made["boxes"],
        masks=made["masks"],
        captions=captions,
        tokens=tokens_of(captions, vocabulary),
        vocabulary=vocabulary,
        details={"source": source, "photo": made["photo"]},
        names={"photo": list(pictures)},
    )


# Coloured shapes


def _distances(shape, x, y):
    """Signed distances, negative inside, from points to each object's outline, in radii: shape (...) int64, x and y
    (..., H, W).

    The square and the cross have sides, the triangle corners, that reach as far as the circle or a little less, so that
    size does not tell the shape.
    """
    import torch

    def block(width, height):
        return torch.maximum(x.abs() - width, y.abs() - height)

    outlines = (
        (x.square() + y.square()).sqrt() - 1,
        block(0.88, 0.88),
        torch.maximum(y - 0.8, 0.8944 * x.abs() - 0.4472 * y - 0.4472),
        torch.minimum(block(1.0, 0.34), block(0.34, 1.0)),
    )
    inside = torch.empty_like(x)
    for number, distance in enumerate(outlines):
        inside = torch.where((shape == number)[..., None, None], distance, inside)
    return inside


def _drawn(shape, colour, centre, radius, there, field, size: int, noise: float, generator):
    """Images (N, 3, size, size) uint8 and masks (N, K, size, size) of shapes: shape, colour, radius, there (N, K),
    centre (N, K, 2), field (N,).

    Edges are smooth over one pixel; a pixel belongs to the mask when at least half of it is covered.
    """
    import torch

    palette, grounds = torch.tensor(list(COLOURS.values())), torch.tensor(list(FIELDS.values()))
    axis = torch.arange(size) + 0.5
    images, masks = [], []
    for start in range(0, len(field), _CHUNK):
        part = slice(start, start + _CHUNK)
        reach = radius[part, :, None, None]
        x = (axis - centre[part, :, 0, None, None]) / reach
        y = (axis[:, None] - centre[part, :, 1, None, None]) / reach
        x, y = torch.broadcast_tensors(x, y)
        cover = (0.5 - _distances(shape[part], x, y) * reach).clamp(0, 1) * there[part, :, None, None]
        picture = grounds[field[part]][:, :, None, None].expand(-1, -1, size, size)
        for k in range(shape.shape[1]):
            picture = torch.lerp(picture, palette[colour[part, k]][:, :, None, None], cover[:, k, None])
        images.append(picture)
        masks.append(cover >= 0.5)
    images = torch.cat(images)
    images = images + noise * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1).mul(255).round().to(torch.uint8), torch.cat(masks)


def _indices(values, length: int, what: str, most: int):
    import torch

    values = torch.as_tensor(values)
    if values.dtype != torch.int64 or len(values) != length or ((values < 0) | (values >= most)).any():
        raise DataError(f"Give {what} as {length} int64 indices from 0 to {most - 1}.")
    return values


def _shape_scenes(name, images, masks, shape, colour, there, field, captions, groups, details, names) -> Scenes:
    import torch

    vocabulary = _vocabulary(*groups, SHAPES, COLOURS, FIELDS, ("on a field",))
    return Scenes(
        name=name,
        images=images,
        labels=torch.where(there, shape, -1),
        classes=list(SHAPES),
        boxes=boxes_of(masks),
        masks=masks,
        captions=captions,
        tokens=tokens_of(captions, vocabulary),
        vocabulary=vocabulary,
        details={"colour": torch.where(there, colour, -1), "field": field, **details},
        names={"colour": list(COLOURS), "field": list(FIELDS), **names},
    )


def counted_shapes(count, shape, colour, field, size: int = 32, noise: float = 0.03, seed: int = 0) -> Scenes:
    """One to three equal shapes in cells of a 3 x 3 grid, described as "two red circles on a gray field".

    count, shape, colour, field: (N,) int64 indices into `COUNTS`, `SHAPES`, `COLOURS`, `FIELDS` (so count 0 is one
    shape). size: side in pixels, at least 24. noise: standard deviation of noise on each value, in 0..1. seed: decides
    cells, sizes, offsets and noise, and nothing else does: change an attribute and only that changes in the picture.
    details: "count" (N,), "colour" (N, 3), "field" (N,).
    """
    import torch

    length = len(count)
    count, shape, colour, field = (
        _indices(values, length, what, len(known))
        for what, values, known in (
            ("count", count, COUNTS),
            ("shape", shape, SHAPES),
            ("colour", colour, COLOURS),
            ("field", field, FIELDS),
        )
    )
    _check_size(size)
    generator = _generator(seed)
    cell = torch.rand(length, 9, generator=generator).argsort(1)[:, : len(COUNTS)]
    offset = 0.03 * size * (2 * torch.rand(length, len(COUNTS), 2, generator=generator) - 1)
    centre = (torch.stack([cell % 3, cell // 3], -1) + 0.5) * size / 3 + offset
    radius = size * (0.10 + 0.03 * torch.rand(length, 1, generator=generator)).expand(-1, len(COUNTS))
    there = torch.arange(len(COUNTS)) <= count[:, None]
    shapes, colours = (values[:, None].expand(-1, len(COUNTS)) for values in (shape, colour))
    images, masks = _drawn(shapes, colours, centre, radius, there, field, size, noise, generator)
    hues, grounds = list(COLOURS), list(FIELDS)
    captions = [
        f"{COUNTS[n]} {hues[c]} {_PLURALS[SHAPES[s]] if n else SHAPES[s]} on a {grounds[f]} field"
        for n, s, c, f in zip(count.tolist(), shape.tolist(), colour.tolist(), field.tolist(), strict=True)
    ]
    return _shape_scenes(
        "coloured-shapes", images, masks, shapes, colours, there, field, captions,
        (COUNTS, _PLURALS.values()), {"count": count}, {"count": list(COUNTS)},
    )  # fmt: skip


def related_shapes(shape, colour, relation, field, size: int = 32, noise: float = 0.03, seed: int = 0) -> Scenes:
    """Two shapes, described as "a red circle above a blue square on a gray field".

    shape, colour: (N, 2) int64 indices into `SHAPES` and `COLOURS`, first what the caption names first. relation,
    field: (N,) int64 indices into `RELATIONS`, `FIELDS`. size, noise, seed: as in `counted_shapes`. The distance along
    the relation's axis is always the larger one, so that only one relation is true. details: "colour" (N, 2),
    "relation" and "field" (N,).
    """
    import torch

    length = len(relation)
    shape, colour = torch.as_tensor(shape), torch.as_tensor(colour)
    for what, values, known in (("shape", shape, SHAPES), ("colour", colour, COLOURS)):
        if values.shape != (length, 2):
            raise DataError(f"Give {what} as {length} pairs of int64 indices from 0 to {len(known) - 1}.")
        _indices(values.flatten(), 2 * length, what, len(known))
    relation = _indices(relation, length, "relation", len(RELATIONS))
    field = _indices(field, length, "field", len(FIELDS))
    _check_size(size)
    generator = _generator(seed)
    drawn = 2 * torch.rand(length, 4, generator=generator) - 1
    radius = size * (0.13 + 0.02 * torch.rand(length, 2, generator=generator))
    apart, aside = 0.21 + 0.03 * drawn[:, 0], 0.12 * drawn[:, 1]  # half of the distance along the axis, and across
    middle = 0.5 + 0.08 * drawn[:, 2:]
    level = (relation < 2)[:, None]
    sign = torch.where(relation % 2 == 0, -1.0, 1.0)[:, None]
    along = torch.stack([apart, aside], 1)
    step = torch.where(level, along, along.flip(1)) * sign
    centre = torch.stack([middle + step, middle - step], 1) * size
    there = torch.ones(length, 2, dtype=torch.bool)
    images, masks = _drawn(shape, colour, centre, radius, there, field, size, noise, generator)
    hues, grounds = list(COLOURS), list(FIELDS)
    captions = [
        f"a {hues[c[0]]} {SHAPES[s[0]]} {RELATIONS[r]} a {hues[c[1]]} {SHAPES[s[1]]} on a {grounds[f]} field"
        for s, c, r, f in zip(shape.tolist(), colour.tolist(), relation.tolist(), field.tolist(), strict=True)
    ]
    return _shape_scenes(
        "shape-relations", images, masks, shape, colour, there, field, captions,
        (RELATIONS,), {"relation": relation}, {"relation": list(RELATIONS)},
    )  # fmt: skip


def _check_size(size: int) -> None:
    if size < 24:
        raise DataError(f"Shapes cannot be told apart on {size} pixels: ask for a size of at least 24.")


@loader("coloured-shapes")
def coloured_shapes(name: str, count: int = 1000, size: int = 32, noise: float = 0.03, seed: int = 0) -> Scenes:
    """One to three equal coloured shapes: images (count, 3, size, size) uint8 in 0..255, labels (count, 3) int64,
    boxes, masks, captions such as "two red circles on a gray field" and their tokens (see `Scenes`).

    Number, shape, colour and field are drawn independently and uniformly; for a bias between them, or for one scene
    with one attribute changed, use `scenes.counted_shapes`. count: number of images. size, noise: see there.
    """
    import torch

    generator = _generator(seed + 2**32)  # attributes must not repeat the random numbers of the layout
    drawn = [torch.randint(len(known), (count,), generator=generator) for known in (COUNTS, SHAPES, COLOURS, FIELDS)]
    return counted_shapes(*drawn, size=size, noise=noise, seed=seed)


@loader("shape-relations")
def shape_relations(name: str, count: int = 1000, size: int = 32, noise: float = 0.03, seed: int = 0) -> Scenes:
    """Two coloured shapes: images (count, 3, size, size) uint8 in 0..255, labels (count, 2) int64, boxes, masks,
    captions such as "a red circle above a blue square on a gray field" and their tokens (see `Scenes`).

    Everything is drawn independently and uniformly, but the two shapes never agree in both shape and colour. count:
    number of images. size, noise: see `scenes.related_shapes`, which draws what it is told to.
    """
    import torch

    generator = _generator(seed + 2**32)
    kinds = len(SHAPES) * len(COLOURS)
    first = torch.randint(kinds, (count,), generator=generator)
    second = (first + torch.randint(1, kinds, (count,), generator=generator)) % kinds
    both = torch.stack([first, second], 1)
    relation, field = (torch.randint(len(known), (count,), generator=generator) for known in (RELATIONS, FIELDS))
    return related_shapes(both // len(COLOURS), both % len(COLOURS), relation, field, size, noise, seed)
