"""The tasks, networks and scores that chapters share."""

import numpy as np
import pytest
import torch

from shared import metrics, mixing, nets, tasks, training
from shared.device import generator

SMALL = dict(train=50, validation=20, test=30)


@pytest.fixture(scope="module", params=["mnist5k", "scenes32"])
def task(request):
    return tasks.load(request.param, 3, **SMALL)


def test_sets_are_balanced_and_disjoint(task):
    parts = (task.train, task.validation, task.test)
    assert [len(y) for _, y in parts] == [50, 20, 30]
    for x, y in parts:
        assert x.dtype == torch.float32 and len(x) == len(y)
        assert y.bincount().tolist() == [len(y) // 10] * 10
    everything = torch.cat([x for x, _ in parts]).flatten(1)
    assert len(everything.unique(dim=0)) == 100


def test_pixels_are_standardised_by_the_training_images(task):
    x = task.train[0]
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(x.shape[1]), atol=1e-4, rtol=0)
    pictures = task.pictures(x)
    assert pictures.dtype == torch.uint8
    torch.testing.assert_close((pictures.float() - task.centre) / task.scale, x, atol=1e-4, rtol=0)


def test_another_seed_is_another_split():
    one, same, other = (tasks.load("mnist5k", seed, **SMALL).train[0] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_scenes_hold_each_digit_once_and_whole():
    digits = torch.full((200, 1, 28, 28), 255, dtype=torch.uint8)
    black = [torch.zeros(3, 40, 50, dtype=torch.uint8)]
    scenes = tasks.digits_on_photos(digits, black, generator(0))
    assert scenes.shape == (200, 3, 32, 32)
    bright = (scenes == 255).all(1)
    sides = bright.any(2).sum(1)
    assert set(sides.tolist()) == set(range(16, 25))  # 16 to 24 pixels, all of them
    assert torch.equal(bright.flatten(1).sum(1), sides**2)  # square, nothing cut off at the border
    assert bright[:, 0].any() and bright[:, -1].any()  # placed up to the border


def test_a_digit_inverts_the_photograph_behind_it():
    photo = [torch.full((3, 32, 32), 200, dtype=torch.uint8)]
    scenes = tasks.digits_on_photos(torch.full((1, 1, 28, 28), 255, dtype=torch.uint8), photo, generator(0))
    assert scenes.unique().tolist() == [55, 200]


def test_cifar10_keeps_its_test_split(placed_cifar):
    task = tasks.load("cifar10", 0, train=20, validation=10, test=20)
    assert task.test[1].bincount().tolist() == [2] * 10
    assert task.pictures(task.test[0]).unique().tolist() == [200]  # the made test images
    assert 200 not in task.pictures(task.train[0])


@pytest.fixture
def placed_cifar(tmp_path, monkeypatch):
    """A made CIFAR-10: training images darker than 200, test images of 200."""
    import io

    import pyarrow as pa
    import pyarrow.parquet
    from PIL import Image

    def png(value):
        stream = io.BytesIO()
        Image.fromarray(value).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    rng = np.random.default_rng(0)
    (tmp_path / "cifar10").mkdir()
    train = [png(rng.integers(0, 200, (32, 32, 3), dtype=np.uint8)) for _ in range(60)]
    test = [png(np.full((32, 32, 3), 200, np.uint8))] * 40
    for name, pictures in (("train", train), ("test", test)):
        table = pa.table({"img": pictures, "label": [i % 10 for i in range(len(pictures))]})
        pa.parquet.write_table(table, tmp_path / "cifar10" / f"{name}-0.parquet")
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path))
    monkeypatch.setenv("PAPERS_CACHE", str(tmp_path / "cache"))


def test_bad_names_and_counts_are_refused():
    with pytest.raises(ValueError, match="There is no task 'mnist': choose among mnist5k, scenes32"):
        tasks.load("mnist", 0)
    with pytest.raises(ValueError, match="same number of each of 10 classes"):
        tasks.load("mnist5k", 0, train=55)
    with pytest.raises(ValueError, match="need 950 of each class; one class has only 500"):
        tasks.load("mnist5k", 0, train=5000)


def test_shifts_move_the_picture_and_bring_in_zeros():
    x = torch.arange(1.0, 26).reshape(1, 1, 5, 5).expand(400, 1, 5, 5)
    moved = tasks.flip_and_shift(x, 1, False, generator(0))
    seen = {tuple(picture.flatten().int().tolist()) for picture in moved}
    padded = torch.nn.functional.pad(x[0, 0], [1] * 4)
    expected = {tuple(padded[i : i + 5, j : j + 5].flatten().int().tolist()) for i in range(3) for j in range(3)}
    assert seen == expected


def test_flips_mirror_half_of_the_pictures():
    x = torch.arange(6.0).reshape(1, 1, 2, 3).expand(1000, 1, 2, 3)
    moved = tasks.flip_and_shift(x, 0, True, generator(0))
    mirrored = (moved == x.flip(3)).flatten(1).all(1)
    assert ((moved == x).flatten(1).all(1) ^ mirrored).all()
    assert 440 < mirrored.sum() < 560


def test_arms_see_the_same_batches_and_moves_whatever_they_mix(task):
    seen = {}

    def watch(name, draws):
        def mix(x, y, g):
            seen.setdefault(name, []).append((x.clone(), y))
            for _ in range(draws):
                mixing.mixup(x, 1.0, g)
            return x, y

        return mix

    short = tasks.load(task.name, 3, **SMALL, epochs=2, batch_size=20)
    for name, draws in (("few", 0), ("many", 3)):
        tasks.fit(short, tasks.network(short, 3), 3, mix=watch(name, draws))
    assert len(seen["few"]) == 6
    for (x, y), (x2, y2) in zip(seen["few"], seen["many"], strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)


def test_the_network_has_the_seeds_weights_and_learns(task):
    net, again = tasks.network(task, 3), tasks.network(task, 3)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    long = tasks.load(task.name, 3, **SMALL, epochs=60, batch_size=25, pad=0)
    tasks.fit(long, net, 3)
    assert training.accuracy(net, *long.train) > 90


def test_convnet_is_the_size_that_it_should_be():
    net = nets.convnet(3, 10)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert net[:-1](torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    assert sum(p.numel() for p in net.parameters()) == 9 * (3 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 650
    with pytest.raises(ValueError):
        nets.convnet(3, 10, (16, 32), (2,))


def test_resnet18_is_torchvisions_but_for_the_stem():
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    ours = nets.resnet18(3, 10)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 32, 32, generator=generator(0))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_the_recipe_of_the_papers_trains_a_resnet(placed_cifar):
    task = tasks.load("cifar10", 0, **tasks.PAPER | dict(train=20, validation=10, test=20, widths=(8,), epochs=1))
    net = tasks.network(task, 0)
    assert isinstance(net[3], nets.BasicBlock) and net[-1].in_features == 64
    assert len(tasks.fit(task, net, 0)) == 1


def test_calibration_error_by_hand():
    probabilities = torch.tensor([[0.93, 0.07], [0.93, 0.07], [0.17, 0.83], [0.45, 0.55]])
    y = torch.tensor([0, 1, 1, 0])
    # bins of width 1/10: 0.93 twice, once right (|0.5 - 0.93|); 0.83 right; 0.55 wrong
    expected = 100 * (2 * 0.43 + 0.17 + 0.55) / 4
    assert metrics.calibration_error(probabilities, y, bins=10) == pytest.approx(expected, abs=1e-4)


def test_calibration_error_of_a_calibrated_classifier_is_small():
    g = generator(0)
    probabilities = torch.randn(50_000, 3, generator=g).softmax(1)
    y = torch.multinomial(probabilities, 1, generator=g)[:, 0]
    assert metrics.calibration_error(probabilities, y) < 1
    assert metrics.calibration_error(torch.eye(3)[y], y) == 0
    assert metrics.calibration_error(torch.eye(3)[(y + 1) % 3], y) == 100
