"""ResizeMix: the authors' own function, PyTorch's nearest neighbour, torchvision's CutMix, and invariants."""

import itertools
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from shared import data, mixing, tasks
from tests.notebooks import load_method

m = load_method("mixing/resizemix")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    """Positive numbers, no two alike for what matters here, so that every pixel tells where it came from."""
    return torch.rand(shape, generator=seeded(seed)) + 1


def formula(b, c, h, w):
    """Whole numbers 0..250 in a pattern without symmetries: (b, c, h, w) float32."""
    image, channel, row, column = torch.meshgrid(*(torch.arange(n) for n in (b, c, h, w)), indexing="ij")
    return ((7919 * image + 104729 * channel + 31 * row + 17 * column**2 + 13 * row * column) % 251).float()


# Made once with the authors' code (JayQine/ResizeMix, commit 45441ffe): `getbox_new` of tools/utils.py after
# numpy.random.seed(0), (1), ..., and the lines of run_apis/trainer.py that shrink and paste, on `formula(6, 3, H, W)`,
# the partners rolled on by 1, 2, ... Columns: scale, (H, W), partners rolled by, centres (rows, columns), starts (rows,
# columns), weight of the target in the loss, sum of each mixed image weighted by `formula(1, 3, H, W)`.
OFFICIAL = [
    (
        *(0.1, (32, 32), 1, [12, 15, 21, 0, 3, 27], [3, 7, 9, 19, 21, 18]),
        *([11, 14, 20, 0, 2, 26], [2, 6, 8, 18, 20, 17], 0.991211),
        [64941969, 40243552, 55513031, 42751838, 48281353, 46936032],
    ),
    (
        *(0.33, (32, 32), 2, [5, 11, 12, 8, 31, 9], [11, 5, 15, 0, 16, 1]),
        *([0, 6, 7, 3, 22, 4], [6, 0, 10, 0, 11, 0], 0.902344),
        [63324120, 41207104, 54928328, 43074981, 48398527, 46845896],
    ),
    (
        *(0.5, (32, 24), 3, [8, 15, 13, 8, 22, 11], [18, 11, 8, 7, 2, 17]),
        *([0, 7, 5, 0, 14, 3], [12, 5, 2, 1, 0, 11], 0.75),
        [45831946, 31838729, 40853012, 33223013, 36253016, 35342452],
    ),
    (
        *(0.6180339, (28, 28), 4, [10, 24, 25, 3, 24, 8], [0, 21, 19, 10, 11, 25]),
        *([2, 11, 11, 0, 11, 0], [0, 11, 11, 2, 3, 11], 0.631378),
        [44866025, 32874466, 40430594, 34399112, 37258284, 36210251],
    ),
    (
        *(0.799, (32, 24), 5, [26, 14, 23, 5, 1, 8], [23, 8, 18, 9, 7, 13]),
        *([7, 2, 7, 0, 0, 0], [5, 0, 5, 0, 0, 4], 0.38151),
        [40861502, 34538817, 38494746, 34503635, 36456502, 36132924],
    ),
    (
        *(0.45, (33, 29), 6, [14, 16, 9, 8, 27, 30], [16, 7, 12, 15, 17, 21]),
        *([7, 9, 2, 1, 19, 19], [10, 1, 6, 9, 11, 15], 0.809822),
        [57832283, 39024283, 50642817, 41070495, 45052306, 44258351],
    ),
]


def with_draws(scale, partner, centres, call):
    """``call`` with the scale, the permutation and the centres (rows, columns) given in place of random ones."""
    draws = iter(torch.tensor(one) for one in centres)
    with (
        mock.patch.object(torch, "rand", lambda *_, **__: torch.tensor((scale - 0.1) / 0.7, dtype=torch.float64)),
        mock.patch.object(torch, "randint", lambda *_, **__: next(draws)),
        mock.patch.object(mixing, "partners", lambda *_, **__: partner),
    ):
        return call()


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda case: str(case[0]))
def test_the_authors_function(case):
    scale, frame, roll, rows, columns, top, left, weight, sums = case
    x, partner = formula(6, 3, *frame), torch.arange(6).roll(roll)
    side = [int(scale * length) for length in frame]
    assert m.shifted(torch.tensor(rows), side[0], frame[0]).tolist() == top
    assert m.shifted(torch.tensor(columns), side[1], frame[1]).tolist() == left
    # a hair more than the scale: 0.1 + 0.7 (scale - 0.1) / 0.7 must not fall below it by rounding
    mixture = with_draws(scale + 1e-9, partner, (rows, columns), lambda: m.resizemix(x, 0.1, 0.8, seeded()))
    assert (mixture.x.double() * formula(1, 3, *frame)).sum((1, 2, 3)).tolist() == sums
    assert mixture.ratio.tolist() == pytest.approx([weight] * 6, abs=1e-6)
    assert torch.equal(mixture.partner, partner)


def test_shrinking_is_pytorchs_nearest_neighbour():
    x = noise(2, 3, 32, 29)
    scales = torch.rand(300, generator=seeded(1)).mul(0.9).add(0.08).tolist() + [k / 32 for k in range(3, 33)]
    for scale in scales:
        assert torch.equal(m.shrink(x, scale), F.interpolate(x, scale_factor=scale)), scale


def test_shrinking_by_hand():
    square = torch.arange(16.0).view(1, 1, 4, 4)
    assert m.shrink(square, 0.5)[0, 0].tolist() == [[0, 2], [8, 10]]
    sizes = {0.1: 3, 0.33: 10, 0.5: 16, 0.799: 25, 1.0: 32}
    assert {tau: len(m.kept(32, tau, "cpu")) for tau in sizes} == sizes
    # 10 rows of 32 at tau = 0.33: multiples of 1 / 0.33 = 3.03, so that the last four rows are passed over
    assert m.kept(32, 0.33, "cpu").tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("frame", [(32, 32), (27, 40)])
def test_pasting(frame, crop):
    for seed in range(30):
        x = noise(16, 3, *frame, seed=seed)
        before = x.clone()
        mixture = m.resizemix(x, 0.1, 0.8, seeded(seed), crop)
        assert torch.equal(x, before)
        tau = 0.1 + (0.8 - 0.1) * torch.rand((), generator=seeded(seed)).item()
        h, w = int(tau * frame[0]), int(tau * frame[1])
        assert mixture.ratio.tolist() == pytest.approx([1 - h * w / (frame[0] * frame[1])] * 16)
        small = F.interpolate(x, scale_factor=tau)
        for i, j in enumerate(mixture.partner.tolist()):
            if i == j:
                continue
            where = (mixture.x[i] != x[i]).any(0)
            rows, columns = where.any(1).nonzero()[:, 0], where.any(0).nonzero()[:, 0]
            assert where.sum() == h * w == len(rows) * len(columns)
            box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            assert torch.equal(mixture.x[i][box], x[j][box] if crop else small[j])


def test_ablation_differs_in_the_patch_alone():
    x = noise(64, 3, 32, 32)
    shrunk, cropped = (m.resizemix(x, 0.1, 0.8, seeded(5), crop) for crop in (False, True))
    others = shrunk.partner != torch.arange(64)
    assert torch.equal(shrunk.partner, cropped.partner)
    assert torch.equal(shrunk.ratio, cropped.ratio)
    boxes = [(mixture.x != x).any(1)[others] for mixture in (shrunk, cropped)]
    assert torch.equal(*boxes)
    assert not torch.equal(shrunk.x, cropped.x)


def test_limits():
    x = noise(8, 3, 32, 32)
    nothing, everything = (m.resizemix(x, tau, tau, seeded()) for tau in (0.01, 1.0))
    assert torch.equal(nothing.x, x) and nothing.ratio.tolist() == [1] * 8
    assert torch.equal(everything.x, x[everything.partner]) and everything.ratio.tolist() == [0] * 8
    plain = x[:, :, :1, :1].expand_as(x)
    assert torch.equal(*(m.resizemix(plain, 0.1, 0.8, seeded(), crop).x for crop in (False, True)))


def test_labels_follow_the_images():
    """An image of its class's number: the mean of a mixture of constant images is the mean of its label."""
    y = torch.arange(10)
    x = y.float()[:, None, None, None].expand(-1, 1, 32, 32)
    for seed in range(10):
        mixture = m.resizemix(x, 0.1, 0.8, seeded(seed))
        targets = mixture.targets(y, 10)
        assert torch.allclose(targets.sum(1), torch.ones(10))
        assert torch.allclose((targets * torch.arange(10)).sum(1), mixture.x.mean((1, 2, 3)), atol=1e-4)
        logits = noise(10, 10, seed=seed)
        own, other = (F.cross_entropy(logits, labels, reduction="none") for labels in (y, y[mixture.partner]))
        expected = (mixture.ratio * own + (1 - mixture.ratio) * other).mean()
        assert F.cross_entropy(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_scale_is_drawn_once_places_for_each_image():
    mixture = m.resizemix(noise(400, 1, 32, 32), 0.3, 0.3, seeded())
    assert len(mixture.ratio.unique()) == 1
    x = torch.arange(400.0)[:, None, None, None].expand(-1, 1, 32, 32)
    mixture = m.resizemix(x, 0.3, 0.3, seeded())
    starts = (mixture.x != x)[mixture.partner != torch.arange(400), 0].flatten(1).float().argmax(1)
    assert len(starts.unique()) > 200


def test_places_are_a_clipped_uniform_and_the_shared_boxes_are_the_same():
    for side, length in itertools.product((1, 3, 10, 25, 28), (28, 32)):
        start = m.shifted(torch.arange(length), side, length)
        assert start.min() == 0 and start.max() == length - side
        assert (start == 0).sum() == (side // 2 + 1 if side < length else length)
    shared = mixing.random_boxes(500, (10, 7), (32, 24), seeded(), whole=True)
    g = seeded()
    ours = [m.shifted(torch.randint(n, (500,), generator=g), side, n) for side, n in ((10, 32), (7, 24))]
    assert torch.equal(shared[:, [0, 2]], torch.stack(ours, 1))


def test_mean_ratio():
    chances = [max(0, min((k + 1) / 32, 0.8) - max(k / 32, 0.1)) / 0.7 for k in range(32)]
    expected = 1 - sum((k / 32) ** 2 * p for k, p in enumerate(chances))
    assert expected == pytest.approx(0.7703, abs=5e-5)
    g, blank = seeded(), torch.zeros(1, 1, 32, 32)
    drawn = torch.stack([m.resizemix(blank, 0.1, 0.8, g).ratio[0] for _ in range(3000)])
    assert drawn.mean().item() == pytest.approx(expected, abs=4 * drawn.std().item() / 3000**0.5)
    # CutMix: boxes of 2k rows, k = floor(16 sqrt(area)), of which a part lies inside
    means = [sum(min(32, c + k) - max(0, c - k) for c in range(32)) / 32**2 for k in range(16)]
    cut = sum(mean**2 * (((k + 1) / 16) ** 2 - (k / 16) ** 2) for k, mean in enumerate(means))
    assert cut == pytest.approx(0.2993, abs=5e-5)
    drawn = torch.stack([1 - m.WAYS["CutMix"](blank, generator=g).ratio[0] for _ in range(3000)])
    assert drawn.mean().item() == pytest.approx(cut, abs=4 * drawn.std().item() / 3000**0.5)


@pytest.mark.parametrize(
    ("ratio", "row", "column"), [(0.2, 0, 0), (0.5, 31, 5), (0.7, 16, 12), (0.95, 3, 23), (0.01, 9, 9)]
)
def test_cutmix_is_torchvisions(ratio, row, column):
    """The same box, mixture and labels from the same ratio, centre and partners."""
    x, y, peer = noise(5, 3, 32, 24), torch.tensor([3, 1, 4, 1, 5]), v2.CutMix(num_classes=10)
    centre = {32: torch.tensor([row]), 24: torch.tensor([column])}
    partner = torch.arange(5).roll(1)  # torchvision's partner is the image before
    with mock.patch.object(torch, "randint", lambda most, *_, **__: centre[most]):
        with mock.patch.object(peer._dist, "sample", lambda *_: torch.tensor(ratio)):
            images, labels = peer(x, y)
        with mock.patch.object(mixing, "beta", lambda *_: torch.tensor([ratio])):
            with mock.patch.object(mixing, "partners", lambda *_: partner):
                ours = mixing.cutmix(x, 1.0, seeded())
    assert torch.equal(ours.x, images)
    assert torch.allclose(ours.targets(y, 10), labels, atol=1e-6)


def test_ink_shares_by_hand():
    """A mixture made by hand: two images, the left half of the other one pasted."""
    ink = torch.zeros(2, 1, 4, 4)
    ink[0, 0, :, :1] = 3.0  # 12, all of it in the left half
    ink[1, 0, 0] = 1.0  # 4, half of it there

    def left_half(x, generator):
        partner = torch.tensor([1, 0])
        return mixing.Mixture(torch.cat([x[partner][..., :2], x[..., 2:]], 3), partner, torch.tensor([0.5, 0.5]))

    label, visible, share = m.ink_shares(left_half, ink, seeded())
    assert label.tolist() == [0.5, 0.5]
    assert visible.tolist() == pytest.approx([1.0, 12 / 14])  # image 0 keeps none of its own; image 1 keeps 2 of 4
    assert share.tolist() == [0.5, 1.0]


def test_scenes_and_their_ink():
    g = seeded(3)
    digits = data.load("mnist5k").images[::250]
    grey = [torch.full((3, 40, 40), 100, dtype=torch.uint8)]
    pictures, ink = m.scenes(digits, grey, g)
    background = int(100 * m.contrast)
    assert torch.equal(pictures, (background - ink.short()).abs().expand(-1, 3, -1, -1).to(torch.uint8))
    again, _ = m.scenes(digits, grey, g)
    assert not torch.equal(again, pictures)  # the generator moves on


def test_scene_task_is_the_shared_task_but_for_the_contrast():
    recipe = tasks.Recipe(**vars(tasks.RECIPES["scenes32"]) | dict(train=50, validation=20, test=30))
    with mock.patch.object(m, "contrast", 1.0):
        ours, (train_ink, test_ink) = m.scene_task(7, recipe)
    theirs = tasks.load("scenes32", 7, train=50, validation=20, test=30)
    for name in ("train", "validation", "test"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    assert train_ink.shape == (50, 1, 32, 32) and test_ink.shape == (30, 1, 32, 32)
    dark = test_ink.expand(-1, 3, -1, -1) == 0  # what is no ink is the same scene at any contrast, only darker
    dim = m.scene_task(7, recipe)[0]
    full, low = (t.pictures(t.test[0])[dark].double() for t in (ours, dim))
    assert (low - (full * m.contrast)).abs().max() <= 1


def test_every_patch_of_resizemix_has_its_digit_and_many_crops_do_not():
    ink = m.scene_task(0, tasks.Recipe(**vars(tasks.RECIPES["scenes32"]) | dict(train=500, test=10)))[1][0]
    found = {arm: m.truth(arm, ink, 0) for arm in m.WAYS}
    assert found["ResizeMix"]["digit missing"] < 6 < 25 < found[m.CROP]["digit missing"]
    assert found["ResizeMix"]["label error"] < found[m.CROP]["label error"] - 3
    assert found["ResizeMix"]["label error"] < found["CutMix"]["label error"] - 3
