"""Canonical sets: taken from `$PAPERS_DATA/<name>/` when placed there, else downloaded from their home.

For data of the Hugging Face hub see `table`, for single files `download`, for pictures in class folders `image_folder`;
for graphs of PyTorch Geometric see `graphs.pyg`.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from . import cache
from .containers import Images, Texts
from .errors import DataError, FetchError, HashMismatch
from .registry import classes, loader

_PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
_OLID = "https://github.com/idontflow/OLID/raw/master"
# Name here -> name of the data set on the hub. To add a set of the hub, add it here, write its card, and a loader that
# turns the columns of `table` into tensors.
_HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}


def folder(name: str) -> Path | None:
    """The folder `$PAPERS_DATA/<name>` when there is one."""
    root = os.environ.get("PAPERS_DATA")
    return Path(root, name) if root and Path(root, name).is_dir() else None


def placed(name: str, pattern: str) -> list[Path]:
    """Files that somebody placed under `$PAPERS_DATA/<name>/`, sorted; empty when there are none."""
    here = folder(name)
    return sorted(here.glob(pattern)) if here else []


def no_network(name: str, home: str, error: Exception) -> FetchError:
    """The error to raise when a canonical set is neither placed nor reachable."""
    said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return FetchError(
        f"The data set {name!r} could not be downloaded from {home}: connect to the network, or place it under "
        f"$PAPERS_DATA/{name}/ (now {os.environ.get('PAPERS_DATA', 'not set')}). It said: {said}"
    )


def fingerprint(name: str, split: str = "") -> str:
    """A key for what is decoded from a set's files: it changes when those under `$PAPERS_DATA` do."""
    files = placed(name, f"{split}*.parquet")
    return cache.key(*[cache.sha256_of(file) for file in files]) if files else cache.key("downloaded", name, split)


def table(name: str, split: str):
    """A split of a data set as a pyarrow table: `$PAPERS_DATA/<name>/<split>*.parquet`, else from the Hugging Face hub.

    Files are read in the order of their names; their columns are those of the data set on the hub. Raises `FetchError`
    when it is neither placed nor reachable.
    """
    files = placed(name, f"{split}*.parquet")
    if files:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(files)
    import datasets

    # Each failed attempt would print a line; one error is raised instead.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():  # no residue of progress bars in a page or a log
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(_HUB[name], split=split).with_format("arrow")[:]
    except (OSError, datasets.exceptions.DatasetsError, RuntimeError) as error:
        raise no_network(name, "the Hugging Face hub", error) from error


def download(name: str, url: str, sha256: str | None) -> Path:
    """A single file: `$PAPERS_DATA/<name>/<file name of the url>`, else downloaded into the cache by pooch.

    sha256: None where no trustworthy digest is known; then whatever the home serves is taken as it is (the card says
    so). Raises `FetchError` when it is neither placed nor reachable, `HashMismatch` when the digest is another.
    """
    file = url.rsplit("/", 1)[-1]
    here = placed(name, file)
    if here:
        return here[0]
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)

    def fetch(path):
        try:
            pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, progressbar=sys.stderr.isatty())
        except requests.RequestException as error:
            raise no_network(name, url, error) from error
        got = cache.sha256_of(path)
        if sha256 not in (None, got):
            message = f"{file} has sha256 {got} where {sha256} was expected"
            raise HashMismatch(f"{message}. Nothing was kept: {url} serves another file than it used to.")

    return cache.built(f"downloads/{name}/{file}", fetch)


def image_folder(name: str, size: int, split: str = "") -> Images:
    """Pictures placed by hand, one folder a class: `$PAPERS_DATA/<name>/<split>/<class>/*.jpg` (or png, bmp, webp).

    Each is turned upright, scaled so that its shorter side has `size` pixels, cut to the middle square, and made RGB:
    images (N, 3, size, size) uint8, labels (N,) int64. Classes are the folders' names in alphabetical order, pictures
    are in the order of their paths; so a set is sorted by class. Without a split the class folders lie right under
    `<name>`. Decoded once, then cached until a file changes.

    Raises `DataError` when there is no such folder, a class has no pictures, or a picture cannot be read.
    """
    import numpy as np
    import torch

    here = folder(name)
    root = here / split if here else None
    where = f"$PAPERS_DATA/{name}/{split + '/' if split else ''}<class>/"
    labels = sorted(path.name for path in root.iterdir() if path.is_dir()) if root and root.is_dir() else []
    if not labels:
        raise DataError(
            f"There are no pictures for {name!r}: put them into {where}, one folder a class (PAPERS_DATA is now "
            f"{os.environ.get('PAPERS_DATA', 'not set')})."
        )
    files = {
        label: sorted(path for path in (root / label).iterdir() if path.suffix.lower() in _PICTURES) for label in labels
    }
    if empty := [label for label in labels if not files[label]]:
        raise DataError(f"The class {empty[0]!r} of {name!r} has no pictures: put some into {where}, or remove it.")
    listed = [(label, path) for label in labels for path in files[label]]

    def decode(draft):
        pixels = np.stack([_square(path, size) for _, path in listed])
        np.savez(draft, images=pixels, labels=np.array([labels.index(label) for label, _ in listed]))

    known = [(path.relative_to(root).as_posix(), *_changed(path)) for _, path in listed]
    stored = np.load(cache.built(f"decoded/{name}-{cache.key('v1', size, split, *known)}.npz", decode))
    return Images(name, torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"]), labels)


def _changed(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _square(path: Path, size: int):
    """The middle square of a picture, (3, size, size) uint8."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"The picture {path} cannot be read: replace or remove it.") from error
    return np.asarray(fitted).transpose(2, 0, 1)


@loader("olid")
def olid(name: str, split: str = "train") -> Texts:
    """Offensive tweets (OLID, 2019): `Texts` with 13,240 (train) or 860 (test) tweets, labels (N,) int64: NOT or OFF.

    split: "train" or "test". details: columns id (int64), target (level B: TIN targeted, UNT not, None where the tweet
    is not offensive) and whom (level C: IND, GRP or OTH, None where not targeted). Mentions read @USER, links URL. Read
    from `$PAPERS_DATA/olid/`, else downloaded from a copy on GitHub.
    """
    import pandas as pd
    import torch

    def table(file, **options):
        # Quotes are part of a tweet; a missing label reads NULL, and "NA" would be a word.
        path = download(name, f"{_OLID}/{file}", None)
        return pd.read_csv(path, quoting=3, keep_default_na=False, na_values={}, encoding="utf-8", **options)

    if split == "train":
        frame = table("olid-training-v1.0.tsv", sep="\t")
    elif split == "test":
        frame = table("testset-levela.tsv", sep="\t")
        for level in "abc":
            labels = table(f"labels-level{level}.csv", header=None, names=["id", f"subtask_{level}"])
            frame = frame.merge(labels, on="id", how="left", validate="one_to_one")
    else:
        raise DataError(f"OLID has no split {split!r}: ask for 'train' or 'test'.")
    levels = frame[["subtask_b", "subtask_c"]].astype(object)
    levels = levels.where(levels.notna() & (levels != "NULL"), None)
    details = pd.DataFrame({"id": frame["id"], "target": levels["subtask_b"], "whom": levels["subtask_c"]})
    known = classes(name)
    labels = torch.tensor([known.index(label) for label in frame["subtask_a"]])
    return Texts(name, frame["tweet"].tolist(), labels, known, details)
