"""What chapters do to their data, against what one would otherwise use for it, in one run on one device.

    python tests/benchmarks/bench_inputs.py [--device cuda]

Batches: tensors on the device and random index tensors, against a DataLoader over a TensorDataset (which hands out CPU
tensors that are then moved). Mixing: mixup and CutMix of a batch with its soft labels, against torchvision's v2
transforms, which mix each image with its neighbour where these draw a permutation. Speech: log-mel features of clips of
a second, against those of transformers, which are computed in NumPy on the CPU; their agreement is printed.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2
from transformers.audio_utils import mel_filter_bank, spectrogram_batch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shared import mixing, training
from shared.data import speech


def rate(function, count, device, seconds):
    """Examples per second of CPU time (on a GPU: of wall time), ``count`` of them a call, after a warm-up call."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    function()
    done, start = 0, clock()
    while clock() - start < seconds:
        function()
        if on_gpu:
            torch.cuda.synchronize()
        done += count
    return done / (clock() - start)


def batches(device, generator):
    """One epoch over 10,000 images in batches: here, and with a DataLoader."""
    x, y = torch.randn(10_000, 1, 28, 28), torch.randint(10, (10_000,))
    there_x, there_y = x.to(device), y.to(device)
    for size in (32, 128, 512):

        def here(size=size):
            for index in training.minibatches(len(x), size, generator, device):
                there_x[index], there_y[index]

        def there(size=size):
            for images, labels in DataLoader(TensorDataset(x, y), batch_size=size, shuffle=True):
                images.to(device), labels.to(device)

        yield f"batches of {size}", here, there, len(x)


def mixtures(device, generator):
    """A mixed batch with soft labels: here, and with torchvision."""
    own = torch.Generator(device).manual_seed(0)
    for size in (64, 512):
        x, y = torch.randn(size, 3, 32, 32, device=device), torch.randint(10, (size,), device=device)
        for name, mix, peer in (
            ("mixup", mixing.mixup, v2.MixUp(alpha=1.0, num_classes=10)),
            ("CutMix", mixing.cutmix, v2.CutMix(alpha=1.0, num_classes=10)),
        ):

            def here(mix=mix, x=x, y=y):
                mixed = mix(x, 1.0, own)
                return mixed.x, mixed.targets(y, 10)

            yield f"{name} of {size}", here, lambda peer=peer, x=x, y=y: peer(x, y), size


def features(device, generator):
    """Log-mel features of 64 clips: here, and with transformers."""
    clips = torch.randn(64, speech.RATE, generator=generator)
    on_device, as_arrays = clips.to(device), list(clips.numpy())
    filters = mel_filter_bank(257, 40, 20.0, speech.RATE / 2, speech.RATE, triangularize_in_mel_space=True)
    window = np.hanning(401)[:-1]  # periodic, as torch has it
    options = dict(frame_length=400, hop_length=160, fft_length=512, power=2.0, center=False, mel_filters=filters)

    def there():
        return spectrogram_batch(as_arrays, window, log_mel="log", **options)

    difference = np.abs(speech.log_mel(on_device).cpu().numpy() - np.stack(there()).transpose(0, 2, 1)).max()
    yield f"log-mel (differ by {difference:.0e})", lambda: speech.log_mel(on_device), there, len(clips)


def main():
    """Print a table: what, examples per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    print(f"{'':32s}{'here':>12s}{'elsewhere':>12s}{'ratio':>8s}   (examples/s, {device})")
    for group in (batches, mixtures, features):
        for name, here, there, count in group(device, torch.Generator().manual_seed(0)):
            ours, theirs = (rate(function, count, device, options.seconds) for function in (here, there))
            print(f"{name:32s}{ours:12,.0f}{theirs:12,.0f}{ours / theirs:8.1f}")


if __name__ == "__main__":
    main()
