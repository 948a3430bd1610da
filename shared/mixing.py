"""Mixing samples, a batch at a time: blending, pasting boxes, and the soft labels that go with them.

All functions work on the device of their input and draw from the generator that they are given. A mixture is described
by the partner of each sample (a permutation of the batch) and by the weight of the sample itself, so that a chapter can
make labels, losses or figures from the same draw.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Mixture(NamedTuple):
    """A mixed batch: sample i with weight ``ratio[i]``, sample ``partner[i]`` with the rest."""

    x: Tensor  # (B, ...) the mixed samples
    partner: Tensor  # (B,) int64
    ratio: Tensor  # (B,) in [0, 1], the weight of the sample itself in the label

    def targets(self, y: Tensor, classes: int) -> Tensor:
        """Soft labels (B, classes) from labels (B,) int64: what ``F.cross_entropy`` takes as probabilities."""
        return soft_labels(y, self.partner, self.ratio, classes)


def beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Draws (count,) float32 from Beta(alpha, alpha), on the generator's device.

    Raises ValueError unless alpha > 0. PyTorch's own Beta takes no generator; NumPy's is seeded from the one given.
    """
    if not alpha > 0:
        raise ValueError(f"Beta(alpha, alpha) needs alpha > 0, not {alpha}.")
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    draws = np.random.default_rng(seed).beta(alpha, alpha, count)
    return torch.as_tensor(draws, dtype=torch.float32).to(generator.device)


def partners(count: int, generator: torch.Generator) -> Tensor:
    """A random permutation (count,) of the batch; a sample may be its own partner."""
    return torch.randperm(count, generator=generator, device=generator.device)


def over(ratio: Tensor, x: Tensor) -> Tensor:
    """A weight for each sample (B,), or one for all (), shaped so that it multiplies ``x`` (B, ...)."""
    return ratio.reshape(-1, *[1] * (x.ndim - 1))


def blend(x: Tensor, partner: Tensor, ratio: Tensor) -> Tensor:
    """ratio x + (1 - ratio) x[partner], for x (B, ...) and a ratio for each sample (B,) or one for all ()."""
    return x[partner].lerp(x, over(ratio, x))


def soft_labels(y: Tensor, partner: Tensor, ratio: Tensor, classes: int) -> Tensor:
    """ratio e_y + (1 - ratio) e_y[partner]: (B, classes) float, rows that sum to 1, from labels (B,) int64."""
    one_hot = F.one_hot(y, classes).to(ratio.dtype)
    return blend(one_hot, partner, ratio)


def mixup(x: Tensor, alpha: float, generator: torch.Generator, per_sample: bool = False) -> Mixture:
    """Mixup (Zhang et al., 2018, arXiv 1710.09412): blend a batch (B, ...) with a permutation of itself.

    One ratio ~ Beta(alpha, alpha) for the whole batch, as the authors' code draws it, or one for each sample.
    """
    partner = partners(len(x), generator)
    ratio = beta(alpha, len(x) if per_sample else 1, generator).expand(len(x))
    return Mixture(blend(x, partner, ratio), partner, ratio)


def random_boxes(
    count: int, side: tuple[int, int], frame: tuple[int, int], generator: torch.Generator, whole: bool = False
) -> Tensor:
    """Boxes (count, 4) int64 of height and width ``side`` around centres uniform over the pixels of a ``frame``.

    Columns: top, bottom, left, right; bottom and right are exclusive. At the border a box is cut (as CutMix does), or,
    if ``whole``, shifted until it lies inside (as ResizeMix does). Raises ValueError for a side above the frame's.
    """
    if min(side) < 0 or side[0] > frame[0] or side[1] > frame[1]:
        raise ValueError(f"A box of {side[0]} x {side[1]} pixels does not fit a frame of {frame[0]} x {frame[1]}.")
    ends = []
    for length, most in zip(side, frame, strict=True):
        centre = torch.randint(most, (count,), generator=generator, device=generator.device)
        start = centre - length // 2
        if whole:
            start = start.clamp(0, most - length)
        ends += [start.clamp(min=0), (start + length).clamp(max=most)]
    return torch.stack(ends, 1)


def box_mask(boxes: Tensor, frame: tuple[int, int]) -> Tensor:
    """Which pixels lie in each box: (B, 1, H, W) bool from boxes (B, 4) as ``random_boxes`` gives them."""
    top, bottom, left, right = (edge[:, None] for edge in boxes.T)
    rows, columns = (torch.arange(length, device=boxes.device) for length in frame)
    inside_rows, inside_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def cutmix(x: Tensor, alpha: float, generator: torch.Generator) -> Mixture:
    """CutMix (Yun et al., 2019, arXiv 1905.04899): paste one box of the partner, at the same place, into images.

    x: (B, C, H, W). One ratio ~ Beta(alpha, alpha) and one box a batch, as the authors' code draws them: the box goes
    floor(H sqrt(1 - ratio) / 2) pixels up and down from its centre, likewise left and right, and is cut at the border;
    the ratio in the label is the share of pixels that remain.
    """
    frame = tuple(x.shape[2:])
    partner = partners(len(x), generator)
    cut = (1 - beta(alpha, 1, generator).item()) ** 0.5
    box = random_boxes(1, (2 * int(frame[0] * cut / 2), 2 * int(frame[1] * cut / 2)), frame, generator)
    mask = box_mask(box, frame)
    ratio = 1 - mask.float().mean().expand(len(x))
    return Mixture(torch.where(mask, x[partner], x), partner, ratio)
