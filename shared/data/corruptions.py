"""The fifteen usual corruptions of images, in five severities, for whole batches.

The kinds are those of ImageNet-C (Hendrycks and Dietterich, 2019). Strengths of noise, light and compression follow it;
lengths (blur, displacement, flakes) are given for images of 224 pixels and scaled with the shorter side, so that small
images keep as much of their content as large ones. Severities are evened out so that each is stronger than the one
before. Frost, snow and fog are made by seed from random fields: no photographs of ice are needed. Images stay on the
CPU.
"""

from __future__ import annotations

import math

from .errors import DataError

_CHUNK = 2**22  # values worked on at once


def number(kind: str) -> int:
    """The place of a kind in `KINDS`. Raises `DataError` for an unknown one."""
    if kind not in KINDS:
        raise DataError(f"There is no corruption {kind!r}: choose from {', '.join(KINDS)}.")
    return KINDS.index(kind)


def corrupt(images, kind: str, severity: int, seed: int = 0):
    """Corrupt a batch: (N, 1 or 3, H, W) uint8 in 0..255 -> the same shape, uint8.

    kind: one of `KINDS`. severity: 1 (mild) to 5. Every image gets random numbers of its own; the same batch, kind,
    severity and seed give the same result, while a part of a batch may come out otherwise than in the whole.
    """
    import torch

    number(kind)
    if severity not in range(1, 6):
        raise DataError(f"There is no severity {severity}: ask for 1 (mild) to 5 (strong).")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(f"Images must be uint8 (N, 1 or 3, H, W), not {images.dtype} {tuple(images.shape)}.")
    generator = torch.Generator().manual_seed(seed)
    method, strengths = _METHODS[kind]
    step = max(1, _CHUNK // max(1, images[:1].numel()))
    done = [
        method(part.float() / 255, strengths[int(severity) - 1], generator).clamp(0, 1).mul(255).round().to(torch.uint8)
        for part in images.split(step)
    ]
    return torch.cat(done) if done else images.clone()


def _length(images, pixels: float) -> float:
    """A length given for 224 pixels, in the pixels of these images."""
    return pixels * min(images.shape[-2:]) / 224


def _uniform(count: int, low: float, high: float, generator):
    import torch

    return low + (high - low) * torch.rand(count, generator=generator)


# Noise


def _gaussian_noise(x, deviation, generator):
    import torch

    return x + deviation * torch.randn(x.shape, generator=generator)


def _shot_noise(x, photons, generator):
    """Poisson counts of `photons` at full brightness: dark pixels stay dark."""
    import torch

    return torch.poisson(x * photons, generator=generator) / photons


def _impulse_noise(x, share, generator):
    """A share of the values becomes 0 or 1."""
    import torch

    drawn = torch.rand(x.shape, generator=generator)
    return torch.where(drawn < share, (drawn < share / 2).float(), x)


# Blur


def _average(x, dx, dy):
    """The average of x moved by each of (dx, dy) pixels, (N or 1, points); borders are repeated, in between bilinear.

    The moves are gathered into one kernel for each image and applied shift by shift: the same sums in the same order on
    any number of threads.
    """
    import torch
    from torch.nn import functional as F

    reach = int(math.ceil(max(dx.abs().max().item(), dy.abs().max().item()))) or 1
    cell = torch.arange(-reach, reach + 1)
    # Bilinear weights of a point for every whole shift, (N, points, shifts), then their averages over the points.
    across, down = ((1 - (d[:, :, None] - cell).abs()).clamp(min=0) for d in (dx, dy))
    kernel = (down[:, :, :, None] * across[:, :, None, :]).mean(1)
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    height, width = x.shape[-2:]
    total = torch.zeros_like(x)
    for i in range(2 * reach + 1):
        for j in range(2 * reach + 1):
            weight = kernel[:, i, j, None, None, None]
            if weight.any():
                total.addcmul_(padded[..., i : i + height, j : j + width], weight)
    return total


def _defocus_blur(x, radius, generator):
    """The average over a disc."""
    import torch

    steps = torch.linspace(-1, 1, 21)
    y, x0 = torch.meshgrid(steps, steps, indexing="ij")
    inside = x0**2 + y**2 <= 1
    radius = _length(x, radius)
    return _average(x, radius * x0[inside][None], radius * y[inside][None])


def _motion_blur(x, length, generator):
    """The average along a line, up to 45 degrees from level, of its own for each image."""
    return _streak(x, _length(x, length), _uniform(len(x), -45, 45, generator))


def _streak(x, length, degrees):
    """The average along a line of `length` pixels at an angle (N,) in degrees."""
    import torch

    along = torch.linspace(-0.5, 0.5, 41) * length
    angle = torch.deg2rad(degrees)[:, None]
    return _average(x, angle.cos() * along, angle.sin() * along)


def _zoom_blur(x, most, generator):
    """The average of ten enlargements from 1 to `most`."""
    import torch
    from torch.nn import functional as F

    total = x.clone()
    for zoom in torch.linspace(1, most, 10)[1:].tolist():
        map_ = torch.tensor([[[1 / zoom, 0, 0], [0, 1 / zoom, 0]]])
        grid = F.affine_grid(map_, [1, *x.shape[1:]], align_corners=False).expand(len(x), -1, -1, -1)
        total += F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return total / 10


def _displaced(x, moves):
    """X read at places moved by (N, H, W, 2) pixels; borders are repeated."""
    import torch
    from torch.nn import functional as F

    height, width = x.shape[-2:]
    here = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    grid = here + moves * torch.tensor([2 / width, 2 / height])
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _glass_blur(x, reach, generator):
    """Every pixel is read at a place of its own nearby."""
    import torch

    count, _, height, width = x.shape
    return _displaced(x, _length(x, reach) * (2 * torch.rand(count, height, width, 2, generator=generator) - 1))


# Weather


def _smooth_field(x, cells, generator):
    """A smooth random field (N, 1, H, W) with `cells` independent values along the shorter side, in 0..1."""
    import torch
    from torch.nn import functional as F

    height, width = x.shape[-2:]
    rows, columns = (max(2, math.ceil(cells * side / min(height, width)) + 1) for side in (height, width))
    coarse = torch.rand(len(x), 1, rows, columns, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)


def _clouds(x, decay, generator):
    """A random field (N, 1, H, W) in 0..1 with structure of every size; the finer, the weaker by `decay` an octave."""
    total, cells, weight = 0, 2, 1.0
    while cells <= min(x.shape[-2:]):
        total = total + weight * _smooth_field(x, cells, generator)
        cells, weight = 2 * cells, weight / decay
    low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
    return (total - low) / (high - low)


def _snow(x, strength, generator):
    """Light falls on everything, and bright flakes fall along a slanted line."""
    import torch
    from torch.nn import functional as F

    share, veil = strength
    count, _, height, width = x.shape
    flake = max(1, round(_length(x, 3)))
    rows, columns = -(-height // flake), -(-width // flake)
    flakes = (torch.rand(count, 1, rows, columns, generator=generator) < share).float()
    flakes = F.interpolate(flakes, scale_factor=flake, mode="nearest")[..., :height, :width]
    flakes = _streak(flakes, _length(x, 10), _uniform(count, 45, 135, generator))
    grey = x.mean(1, keepdim=True)
    light = torch.maximum(x, (1.5 * grey + 0.5).clamp(max=1))
    return (1 - veil) * x + veil * light + flakes


def _frost(x, strength, generator):
    """Crystals: bluish ridges of random fields, brightest where several meet."""
    import torch

    keep, ice = strength
    ridges, weight = 0, 1.0
    for cells in (4, 9, 18):
        ridges = ridges + weight * (1 - (2 * _smooth_field(x, cells, generator) - 1).abs()) ** 4
        weight *= 0.7
    spread = _clouds(x, 1.6, generator)
    crystals = (0.25 + 0.75 * spread) * (0.35 + 0.65 * ridges / 2.19)
    tint = torch.tensor([0.82, 0.93, 1.0])[:, None, None] if x.shape[1] == 3 else torch.tensor(0.92)
    return keep * x + ice * 1.6 * crystals * tint


def _fog(x, density, generator):
    return (x + density * _clouds(x, 1.7, generator)) / (1 + density)


# Light and coding


def _brightness(x, amount, generator):
    """The value of hue, saturation, value rises; hue and saturation stay."""
    import torch

    value = x.amax(1, keepdim=True)
    raised = (value + amount).clamp(max=1)
    return torch.where(value > 0, x * raised / value.clamp(min=1e-6), raised.expand_as(x))


def _contrast(x, factor, generator):
    mean = x.double().mean((2, 3), keepdim=True).float()
    return mean + factor * (x - mean)


def _elastic_transform(x, amount, generator):
    """Smooth random displacements of `amount` pixels (root mean square)."""
    import torch

    fields = torch.cat([_smooth_field(x, 9, generator) for _ in range(2)], 1) - 0.5
    fields = fields / fields.square().mean((1, 2, 3), keepdim=True).sqrt() / math.sqrt(2)
    return _displaced(x, _length(x, amount) * fields.permute(0, 2, 3, 1))


def _pixelate(x, ratio, generator):
    """Every pixel becomes the average of its block; blocks are 1 / ratio pixels wide, on average."""
    import torch

    averages = []
    for side in x.shape[-2:]:
        blocks = max(1, int(side * ratio))
        block = torch.arange(side) * blocks // side
        together = (block[:, None] == block).float()
        averages.append(together / together.sum(1, keepdim=True))
    return averages[0] @ x @ averages[1].T


# Quantisation tables of the JPEG standard (annex K) for quality 50: brightness and colour.
_TABLES = (
    (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
     87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
     72, 92, 95, 98, 112, 100, 103, 99),
    (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
     99, 99, 99) + (99,) * 32,
)  # fmt: skip


def _requantised(plane, table):
    """A plane (N, 1, H, W) of values around 0 through the discrete cosine transform of 8 x 8 blocks, rounded to
    multiples of a table (8, 8).
    """
    import torch
    from torch.nn import functional as F

    height, width = plane.shape[-2:]
    plane = F.pad(plane, (0, -width % 8, 0, -height % 8), mode="replicate")
    place = torch.arange(8, dtype=torch.float64)
    cosine = torch.cos((2 * place + 1) * place[:, None] * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    blocks = plane.unfold(2, 8, 8).unfold(3, 8, 8)
    coded = torch.round(cosine @ blocks @ cosine.T / table) * table
    decoded = cosine.T @ coded @ cosine
    return decoded.transpose(3, 4).reshape(plane.shape)[..., :height, :width]


def _jpeg_compression(x, quality, generator):
    """What JPEG loses: 8 x 8 blocks requantised at a quality, colour at half the resolution; nothing is written."""
    import torch
    from torch.nn import functional as F

    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = ((torch.tensor(_TABLES, dtype=torch.float64) * scale + 50) / 100).floor().clamp(1, 255).view(2, 8, 8)
    pixels = (x.double() * 255).round()
    if x.shape[1] == 1:
        return ((_requantised(pixels - 128, tables[0]) + 128).round() / 255).float()
    red, green, blue = pixels.split(1, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    height, width = x.shape[-2:]
    shown = _requantised(luma.round() - 128, tables[0]) + 128
    hues = []
    for plane, share in ((blue, 1.772), (red, 1.402)):
        hue = F.pad((plane - luma) / share, (0, width % 2, 0, height % 2), mode="replicate")
        coded = _requantised(F.avg_pool2d(hue, 2).round(), tables[1])
        whole = F.interpolate(coded, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
        hues.append(share * whole)
    blue, red = shown + hues[0], shown + hues[1]
    green = (shown - 0.299 * red - 0.114 * blue) / 0.587
    return (torch.cat([red, green, blue], 1).round() / 255).float()


#: Kind -> how it is made and its five strengths.
_METHODS = {
    "gaussian_noise": (_gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (_shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": (_impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": (_defocus_blur, (3, 4, 6, 8, 10)),
    "glass_blur": (_glass_blur, (4, 6, 8, 11, 14)),
    "motion_blur": (_motion_blur, (10, 15, 20, 28, 36)),
    "zoom_blur": (_zoom_blur, (1.11, 1.16, 1.21, 1.26, 1.31)),
    "snow": (_snow, ((0.02, 0.1), (0.03, 0.15), (0.045, 0.22), (0.06, 0.3), (0.08, 0.4))),
    "frost": (_frost, ((1.0, 0.3), (0.9, 0.4), (0.8, 0.5), (0.7, 0.6), (0.6, 0.7))),
    "fog": (_fog, (1.0, 1.5, 2.0, 2.5, 3.0)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": (_elastic_transform, (3, 4.5, 6, 8, 10)),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": (_jpeg_compression, (25, 18, 15, 10, 7)),
}
#: The kinds of corruption: noise, blur, weather, light and coding.
KINDS = tuple(_METHODS)
