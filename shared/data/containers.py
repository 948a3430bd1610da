"""What the loaders return: plain containers with documented shapes, dtypes and ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch


@dataclass
class Table:
    """A table for classification or regression.

    x: (N, d) float64; categorical columns hold integer codes, missing values are NaN.
    y: (N,) int64 class indices into `classes`, or float64 targets when `classes` is empty.
    columns: d names. kinds: "numeric" or "categorical" for each column.
    categories: for each categorical column, the labels that its codes stand for.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    columns: list[str]
    kinds: list[str]
    classes: list[str] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def categorical(self) -> list[int]:
        """Indices of the categorical columns."""
        return [i for i, kind in enumerate(self.kinds) if kind == "categorical"]

    @property
    def numeric(self) -> list[int]:
        """Indices of the numeric columns."""
        return [i for i, kind in enumerate(self.kinds) if kind == "numeric"]


@dataclass
class Images:
    """Labelled images: `images` (N, C, H, W) uint8 in 0..255, `labels` (N,) int64 indices into `classes`."""

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: list[str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Ratings:
    """Who rated what, when.

    ratings: columns user, item (int64, as in `users` and `items`), rating (1.0 to 5.0), timestamp (int64, seconds
    since 1970). users: indexed by user; age, gender, occupation, zip_code. items: indexed by item; title, year
    (Int64, may be missing), genres (list of str).
    """

    name: str
    ratings: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame


@dataclass
class Recordings:
    """Labelled clips of speech of equal length.

    waveforms: (N, T) float32 in -1..1. labels: (N,) int64 indices into `classes`. speakers: (N,) int64 indices into
    `speaker_names`. rate: samples a second. details: more about each clip, (N,) int64 each; the loader says which.
    """

    name: str
    waveforms: torch.Tensor
    labels: torch.Tensor
    classes: list[str]
    speakers: torch.Tensor
    speaker_names: list[str]
    rate: int
    details: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)
