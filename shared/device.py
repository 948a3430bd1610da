"""Where a chapter runs and how it stays reproducible: device, seeds, determinism, threads, time and memory."""

import contextlib
import ctypes
import os
import random
import threading
import time
from dataclasses import dataclass

import numpy as np
import psutil
import torch


class DeviceError(RuntimeError):
    """The device that was asked for is not there."""


@dataclass(frozen=True)
class Compute:
    """A device, the type that autocast should use on it, and a line that says so."""

    device: torch.device
    dtype: torch.dtype
    line: str


def pick(want: str = "auto") -> Compute:
    """Choose the device: ``auto`` (cuda, else mps, else cpu), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises DeviceError when a device that was named is absent.
    """
    kind = want.split(":")[0]
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise DeviceError(f"There is no kind of device {want!r}: ask for auto, cpu, cuda, cuda:<number> or mps.")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        want = kind = next(k for k in ("cuda", "mps", "cpu") if present[k])
    if not present[kind]:
        raise DeviceError(
            f"{want!r} was asked for and PyTorch sees no such device here: install its driver, "
            "or ask for 'cpu' (device='cpu', or PAPERS_DEVICE=cpu)."
        )
    device = torch.device(want)
    if kind == "cuda":
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise DeviceError(f"{want!r} was asked for and there are only {torch.cuda.device_count()} GPUs here.")
        props = torch.cuda.get_device_properties(device)
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return Compute(device, dtype, f"{props.name}, {props.total_memory / 2**30:.0f} GiB")
    if kind == "mps":
        return Compute(device, torch.float16, "Apple GPU (mps)")
    threads = torch.get_num_threads()
    return Compute(device, torch.bfloat16, f"CPU, {threads} thread{'s' if threads > 1 else ''}")


def pin_threads(threads: int = 1) -> None:
    """Limit every numerical library in this process, loaded or not, to so many CPU threads.

    Sums are split by thread, so a chapter's last digits would otherwise depend on the number of cores.
    """
    from threadpoolctl import threadpool_limits

    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)  # for libraries that are loaded after this call
    threadpool_limits(threads)
    torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc; elsewhere do nothing.

    By default glibc gives every large array back to the system at once, and the next one of that size is paid for
    with page faults: a third of the time of a small network's training step on a CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
    mallopt(mmap_threshold, 32 * 2**20)  # the most it takes
    mallopt(trim_threshold, 2**31 - 1)


def seed_everything(seed: int) -> None:
    """Seed random, numpy and torch (CPU and every GPU) from one integer."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def deterministic() -> None:
    """Let PyTorch use deterministic algorithms only; an operation that has none raises, see ``nondeterministic``."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it before its first call
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # guards against bugs, at the price of speed
    torch.backends.cudnn.benchmark = False


@contextlib.contextmanager
def nondeterministic(reason: str):
    """Allow, inside the block, operations without a deterministic form; prints why, so that the page says so."""
    print(f"Not bit-for-bit reproducible: {reason}")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def fork(seed: int):
    """Seed random, numpy and torch inside the block and restore their states after it.

    Networks built inside blocks of the same seed start from the same weights, whatever was drawn before.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        seed_everything(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A seeded random generator on a device."""
    return torch.Generator(device).manual_seed(seed)


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


class timer:
    """Context manager: ``seconds`` of wall time and ``cpu_seconds`` of this process; waits for the GPU at both ends."""

    seconds = cpu_seconds = float("nan")

    def __enter__(self):
        _synchronize()
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        _synchronize()
        wall, cpu = self._start
        self.seconds, self.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu


class memory:
    """Context manager: peak memory inside the block, in MB (10^6 bytes): ``resident_mb`` and, with a GPU, ``gpu_mb``.

    The resident peak is sampled every 5 ms: a shorter peak can be missed.
    """

    resident_mb = gpu_mb = float("nan")

    def __enter__(self):
        self._process, self._done = psutil.Process(), threading.Event()
        self._peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def _sample(self):
        while not self._done.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()
        self.resident_mb = max(self._peak, self._process.memory_info().rss) / 1e6
        if torch.cuda.is_available():
            self.gpu_mb = torch.cuda.max_memory_allocated() / 1e6
