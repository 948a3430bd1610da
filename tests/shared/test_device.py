"""Devices, seeds, determinism, threads, time and memory."""

import platform
import random
import time

import numpy as np
import pytest
import torch

from shared import device


def test_a_device_that_is_absent_is_a_clear_error():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(device.DeviceError, match="'cuda' was asked for .* ask for 'cpu'"):
        device.pick("cuda")


def test_an_unknown_kind_of_device_is_an_error():
    with pytest.raises(device.DeviceError, match="no kind of device 'tpu'"):
        device.pick("tpu")


def test_pick_names_the_device_it_chose():
    compute = device.pick("cpu")
    assert compute.device == torch.device("cpu")
    assert compute.dtype == torch.bfloat16
    assert compute.line.startswith("CPU, ")


def test_one_integer_seeds_every_generator():
    draws = []
    for _ in range(2):
        device.seed_everything(7)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    device.seed_everything(8)
    assert draws[0] == draws[1]
    assert draws[0] != (random.random(), np.random.rand(), torch.rand(1).item())


def test_fork_gives_equal_weights_and_restores_the_generators():
    device.seed_everything(1)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    device.seed_everything(1)
    with device.fork(5):
        first = torch.nn.Linear(3, 3).weight.clone()
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    with device.fork(5):
        assert torch.equal(torch.nn.Linear(3, 3).weight, first)


def test_deterministic_mode_can_be_left_with_a_note(capsys):
    device.deterministic()
    assert torch.are_deterministic_algorithms_enabled()
    with device.nondeterministic("scatter without order"):
        assert not torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled()
    assert "scatter without order" in capsys.readouterr().out


def test_pinned_threads_reach_torch_and_blas():
    from threadpoolctl import threadpool_info

    device.pin_threads(1)
    assert torch.get_num_threads() == 1
    assert all(pool["num_threads"] == 1 for pool in threadpool_info())


def test_freed_memory_is_kept():
    resource = pytest.importorskip("resource", reason="page faults are counted on Unix")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc has mallopt")
    device.keep_freed_memory()
    faults = []
    for _ in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(1_000_000)  # 4 MB, a thousand pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < 100


def test_memory_sees_an_allocation_and_the_timer_sees_a_wait():
    with device.memory() as empty:
        pass
    with device.memory() as peak, device.timer() as clock:
        block = np.ones(40_000_000)  # 320 MB
        time.sleep(0.05)
        del block
    assert 250 < peak.resident_mb - empty.resident_mb < 450
    assert clock.seconds > 0.05
    assert clock.cpu_seconds < clock.seconds + 0.05
