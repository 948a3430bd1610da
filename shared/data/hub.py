"""Canonical sets: taken from `$PAPERS_DATA/<name>/` when placed there, else downloaded from their home."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from . import cache
from .errors import FetchError, HashMismatch

# Name here -> name of the data set on the hub.
_HUB = {"cifar10": "uoft-cs/cifar10"}


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

    Raises `FetchError` when it is neither placed nor reachable.
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
