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
    y: (N,) int64 class indices into `classes`, or float64 targets when `classes` is empty; (N, T) when there are T
    `targets`: float64 for regression, int64 0 or 1 for several labels at once.
    columns: d names. kinds: "numeric" or "categorical" for each column.
    categories: for each categorical column, the labels that its codes stand for.
    groups: (N,) int64, rows of one group belong on one side of a split; None when rows are independent.
    held_out: (N,) bool, the rows of the source's own test set; None when it has none.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    columns: list[str]
    kinds: list[str]
    classes: list[str] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    groups: np.ndarray | None = None
    held_out: np.ndarray | None = None

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
    """Labelled images: `images` (N, C, H, W) uint8 in 0..255, `labels` (N,) int64 indices into `classes`.

    details: more about each image, (N, ...) each; the loader says which. Those that are indices have what they stand
    for in `names`.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: list[str]
    details: dict[str, torch.Tensor] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Scenes:
    """Images of several objects, with K places for objects each; what an unused place holds is said below.

    images: (N, C, H, W) uint8 in 0..255. labels: (N, K) int64 indices into `classes`, -1 where unused.
    boxes: (N, K, 4) int64, x1, y1, x2, y2 in pixels from the upper left corner, x2 and y2 just outside of the object,
    all 0 where unused; a box encloses its mask exactly. masks: (N, K, H, W) bool, the pixels that are seen of each
    object, empty where unused. captions: N sentences. tokens: (N, L) int64 indices into `vocabulary` of the captions'
    words, closed by "<end>" and filled up with "<pad>" (index 0). details and names: as in `Images`.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: list[str]
    boxes: torch.Tensor
    masks: torch.Tensor
    captions: list[str]
    tokens: torch.Tensor
    vocabulary: list[str]
    details: dict[str, torch.Tensor] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class Hyperspectral:
    """One aerial image of many bands: cube (B, H, W) int16, labels (H, W) int64 indices into `classes`, -1 where the
    ground was not surveyed, wavelengths (B,) float32 in nanometres.
    """

    name: str
    cube: torch.Tensor
    labels: torch.Tensor
    classes: list[str]
    wavelengths: torch.Tensor


@dataclass
class Ratings:
    """Who rated what, when.

    ratings: columns user, item (int64, as in `users` and `items`), rating (1.0 to 5.0), timestamp (int64, seconds
    since 1970). users: indexed by user; age, gender, occupation, zip_code. items: indexed by item; title, year
    (Int64, may be missing), genres (list of str).
    A knowledge graph about items, where there is one: triples, columns head, relation, tail (str); entities, the
    entity of an item by its number, in the numbering that the name of the index says.
    """

    name: str
    ratings: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    entities: pd.Series | None = None
    triples: pd.DataFrame | None = None


@dataclass
class Impressions:
    """Logged recommendations: what a known policy showed to whom, and whether it was clicked.

    log: one row an impression in the order of time; timestamp (datetime64, UTC), item (int64), position (int64, from
    1), click (int64 0 or 1), propensity (float64, the probability with which the policy showed this item at this
    position), then categories that describe the user. affinity: (N, items) float64, the user's past clicks on what is
    like each item. items: indexed by item; its features.
    """

    name: str
    log: pd.DataFrame
    affinity: np.ndarray
    items: pd.DataFrame

    def __len__(self) -> int:
        return len(self.log)


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


@dataclass
class Texts:
    """Texts, with or without labels.

    texts: N strings. labels: (N,) int64 indices into `classes`, or float32 scores when `classes` is empty, or None.
    details: more about each text, a data frame with N rows, or None; the loader says which columns it has.
    """

    name: str
    texts: list[str]
    labels: torch.Tensor | None
    classes: list[str]
    details: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class Series:
    """Labelled time series.

    x: (N, C, T) float32, C channels of at most T steps; a missing value is NaN, and what lies beyond the end of a
    shorter series is 0. lengths: (N,) int64, steps of each series. labels: (N,) int64 indices into `classes`.
    """

    name: str
    x: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    classes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mask(self) -> torch.Tensor:
        """(N, T) bool: the steps that belong to each series."""
        import torch

        return torch.arange(self.x.shape[-1]) < self.lengths[:, None]
