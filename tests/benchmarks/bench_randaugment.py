"""Images per second of the RandAugment chapter's batched operations and of torchvision's, in one run on one device.

    python tests/benchmarks/bench_randaugment.py [--device cuda]

Both apply N = 2 operations at M = 9 to the same 8-bit images. torchvision draws the operations once for all images that
it is given together, so a policy for each image means a call for each image; that is what is measured.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.notebooks import load_method


def rate(function, images, seconds):
    """Images per second of CPU time (on a GPU: of wall time), measured for ``seconds`` after one warm-up call."""
    on_gpu = images.device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    function(images)
    done, start = 0, clock()
    while clock() - start < seconds:
        function(images)
        if on_gpu:
            torch.cuda.synchronize()
        done += len(images)
    return done / (clock() - start)


def main():
    """Print a table: image shape, batch size, images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    method, peer = load_method("augmentation/randaugment"), v2.RandAugment(num_ops=2, magnitude=9)
    generator = torch.Generator(options.device).manual_seed(0)
    print(f"{'images':12s}{'batch':>6s}{'here':>12s}{'torchvision':>14s}{'ratio':>8s}   (images/s, {options.device})")
    for shape, batch in [((1, 28, 28), 50), ((3, 32, 32), 64), ((3, 32, 32), 512)]:
        images = torch.randint(256, (batch, *shape), generator=generator, device=options.device).to(torch.uint8)
        here = rate(lambda x: method.rand_augment(x, 2, 9, generator), images, options.seconds)
        there = rate(lambda x: [peer(image) for image in x], images, options.seconds)
        name = "x".join(str(size) for size in shape)
        print(f"{name:12s}{batch:6d}{here:12,.0f}{there:14,.0f}{here / there:8.1f}")


if __name__ == "__main__":
    main()
