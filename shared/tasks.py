"""Image classification tasks that several chapters share: how images are split, scaled, shifted and trained on.

Chapters that use the same task, network and schedule can be compared: their plain arms give the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared import data, nets, training
from shared import device as devices

NAMES = ("mnist5k", "scenes32", "cifar10", "cifar100")


@dataclass(frozen=True)
class Recipe:
    """How a task's network is built and trained (SGD, Nesterov momentum 0.9, cosine to 0).

    widths, strides: of ``nets.convnet``; without strides, ``nets.resnet18`` of width ``widths[0]``. pad: most pixels by
    which a training image is shifted each way; flip: whether half of them are mirrored.
    """

    train: int
    validation: int
    test: int
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    pad: int
    flip: bool


RECIPES = {
    "mnist5k": Recipe(500, 500, 4000, (16, 32, 64), (2, 2, 1), 30, 50, 0.05, 5e-4, pad=2, flip=False),
    "scenes32": Recipe(1000, 500, 2000, (16, 32, 64), (2, 1, 2), 30, 100, 0.05, 5e-4, pad=2, flip=False),
    # Mirrored, not shifted: so that the network can fit its few images in this short a schedule, as the networks of the
    # papers fit theirs. Shifted as well, it underfits, and whatever mixes samples costs accuracy.
    "cifar10": Recipe(2000, 1000, 10_000, (24, 48, 96), (2, 2, 1), 50, 50, 0.1, 5e-4, pad=0, flip=True),
}

#: The recipe for CIFAR at the scale of the papers, to be given to ``load``.
PAPER = dict(
    train=45_000, validation=5000, test=10_000, widths=(64,), strides=(), epochs=200, batch_size=128, lr=0.1,
    weight_decay=5e-4, pad=4, flip=True,
)  # fmt: skip
RECIPES["cifar100"] = RECIPES["cifar10"]


@dataclass(frozen=True)
class Task:
    """Images of one seed, standardised by the training images' mean and deviation in each channel.

    train, validation, test: (images (N, C, H, W) float32, labels (N,) int64) on the device. centre, scale: (C, 1, 1);
    an image in 0..255 is ``x * scale + centre``.
    """

    name: str
    classes: list[str]
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    centre: Tensor
    scale: Tensor
    recipe: Recipe

    def pictures(self, x: Tensor) -> Tensor:
        """Standardised images (..., C, H, W) as uint8, to be looked at."""
        return (x * self.scale + self.centre).round().clamp(0, 255).to(torch.uint8)


def by_class(y: Tensor, counts: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    """Disjoint rows for sets of ``counts`` examples, each with the same number of every class, in random order.

    Raises ValueError for a count that the classes do not divide, or when a class has too few rows.
    """
    classes = int(y.max()) + 1
    if any(count % classes for count in counts):
        raise ValueError(f"Sets of {counts} images cannot have the same number of each of {classes} classes.")
    each = [count // classes for count in counts]
    order = torch.randperm(len(y), generator=generator)
    rows = [order[y[order] == label] for label in range(classes)]
    if min(map(len, rows)) < sum(each):
        least = min(map(len, rows))
        raise ValueError(f"Sets of {counts} images need {sum(each)} of each class; one class has only {least}.")
    chosen = [torch.stack([row[: sum(each)] for row in rows]).split(each, dim=1)][0]
    return [part.flatten()[torch.randperm(part.numel(), generator=generator)] for part in chosen]


def digits_on_photos(digits: Tensor, photos: list[Tensor], generator: torch.Generator, side: int = 32) -> Tensor:
    """Scenes (N, 3, side, side) uint8: each digit, 16 to 24 pixels large, at a random place on a piece of a photograph.

    digits: (N, 1, H, H) uint8; photos: (3, h, w) uint8. Blended as MNIST-M is, |photograph - digit| in each channel, so
    a digit is brighter or darker than what is behind it, and covers a quarter to a half of the scene.
    """
    count = len(digits)
    frames = torch.zeros(count, 1, side, side)
    sizes = torch.randint(16, 25, (count,), generator=generator)
    places = (torch.rand(count, 2, generator=generator) * (side - sizes + 1)[:, None]).long()
    for size in sizes.unique().tolist():
        rows = (sizes == size).nonzero()[:, 0]
        small = F.interpolate(digits[rows].float(), size=(size, size), mode="area")
        down = places[rows, 0, None] + torch.arange(size)  # (n, size)
        across = places[rows, 1, None] + torch.arange(size)
        frames[rows[:, None, None], 0, down[:, :, None], across[:, None, :]] = small[:, 0]
    seed = int(torch.randint(2**31, (), generator=generator))
    return data.derived.on_photos(frames.round().to(torch.uint8), photos, seed)[0]


def _scenes(seed: int, counts: tuple[int, ...]) -> tuple[list[tuple[Tensor, Tensor]], list[str]]:
    # the photographs of training scenes are not those of validation and test scenes
    photos = list(data.load("photos", names=data.images.SCENERY).values())
    digits, generator = data.load("mnist5k"), devices.generator(seed)
    parts = []
    for number, rows in enumerate(by_class(digits.labels, counts, generator)):
        behind = photos[0::2] if number == 0 else photos[1::2]
        parts.append((digits_on_photos(digits.images[rows], behind, generator), digits.labels[rows]))
    return parts, digits.classes


def _pool(name: str, seed: int, counts: tuple[int, ...]) -> tuple[list[tuple[Tensor, Tensor]], list[str]]:
    pool, generator = data.load(name), devices.generator(seed)
    own_test = data.load(name, split="test") if name.startswith("cifar") else None
    rows = by_class(pool.labels, counts[:2] if own_test else counts, generator)
    parts = [(pool.images[part], pool.labels[part]) for part in rows]
    if own_test:
        chosen = by_class(own_test.labels, counts[2:], generator)[0].sort().values
        parts.append((own_test.images[chosen], own_test.labels[chosen]))
    return parts, pool.classes


def load(name: str, seed: int, device: torch.device | str = "cpu", **changes) -> Task:
    """The task ``name`` of one seed: ``mnist5k`` (digits), ``scenes32`` (digits on photographs), ``cifar10`` or
    ``cifar100``.

    changes: fields of the task's Recipe to set otherwise, such as ``train=200``. The sets have the same number of
    images of each class; CIFAR keeps its own test split. Raises ValueError for another name.
    """
    if name not in NAMES:
        raise ValueError(f"There is no task {name!r}: choose among {', '.join(NAMES)}.")
    recipe = Recipe(**vars(RECIPES[name]) | changes)
    counts = (recipe.train, recipe.validation, recipe.test)
    parts, classes = _scenes(seed, counts) if name == "scenes32" else _pool(name, seed, counts)
    pixels = parts[0][0].float()
    centre, scale = pixels.mean((0, 2, 3))[:, None, None], pixels.std((0, 2, 3))[:, None, None]
    sets = [(((x - centre) / scale).to(device), y.to(device)) for x, y in parts]
    return Task(name, list(classes), *sets, centre.to(device), scale.to(device), recipe)


def flip_and_shift(x: Tensor, pad: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Mirror half of the images (B, C, H, W), if ``flip``, and shift each by up to ``pad`` pixels both ways.

    What comes in at the border is 0: the mean colour of a standardised image.
    """
    b, _, h, w = x.shape
    options = {"generator": generator, "device": x.device}
    rows = torch.randint(2 * pad + 1, (b, 1), **options) + torch.arange(h, device=x.device)  # (B, H)
    columns = torch.randint(2 * pad + 1, (b, 1), **options) + torch.arange(w, device=x.device)  # (B, W)
    if flip:
        mirrored = torch.randint(2, (b, 1), **options).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, [pad] * 4)
    images = torch.arange(b, device=x.device)[:, None, None]
    return padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def network(task: Task, seed: int) -> nn.Sequential:
    """The task's network on its device, with initial weights of ``seed``: the same for every arm."""
    channels, classes, widths, strides = len(task.centre), len(task.classes), task.recipe.widths, task.recipe.strides
    with devices.fork(seed):
        net = nets.convnet(channels, classes, widths, strides) if strides else nets.resnet18(channels, classes, *widths)
    return net.to(task.centre.device, memory_format=torch.channels_last)


def fit(
    task: Task,
    net: nn.Module,
    seed: int,
    *,
    mix: Callable | None = None,
    step: Callable | None = None,
    loss: Callable = F.cross_entropy,
    autocast: torch.dtype | None = None,
    on_epoch: Callable | None = None,
) -> list[float]:
    """Train ``net`` on the task's training images by its recipe; returns the mean loss of every epoch.

    mix(x, y, generator) -> (x, targets): applied to every batch, already flipped and shifted. step and loss: as in
    ``training.fit``. Batches, flips and shifts depend on ``seed`` alone, whatever ``mix`` or ``step`` draw: arms that
    differ in these see the same images.
    """
    recipe = task.recipe
    moves = devices.generator(seed + 2, task.centre.device)

    def batch(x, y, generator):
        x = flip_and_shift(x, recipe.pad, recipe.flip, moves)
        x, y = (x, y) if mix is None else mix(x, y, generator)
        return x.contiguous(memory_format=torch.channels_last), y

    return training.fit(
        net,
        *task.train,
        batch=batch,
        step=step,
        loss=loss,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        seed=seed,
        autocast=autocast,
        on_epoch=on_epoch,
    )
