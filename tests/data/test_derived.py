"""What is made from other images: worked examples, agreement with the card, the same bytes for the same seed."""

import io
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from shared import data
from shared.data import corruptions, derived, scenes

IMAGES = data.names(kind="images", origin="derived")
SCENES = data.names(kind="scenes")
RANDOM = IMAGES + SCENES


def small(name, **options):
    """A data set, of few scenes when it consists of scenes."""
    return data.load(name, **({"count": 60} if name in SCENES else {}), **options)


def flatten(loaded):
    """All tensors of a data set."""
    parts = {"images": loaded.images, "labels": loaded.labels, **loaded.details}
    if isinstance(loaded, data.Scenes):
        parts |= {"boxes": loaded.boxes, "masks": loaded.masks, "tokens": loaded.tokens}
    return parts


@pytest.fixture(scope="module")
def digits():
    return data.load("mnist5k")


@pytest.fixture(scope="module")
def pieces():
    """Ten pieces of photographs, (10, 3, 64, 64)."""
    return derived.patches(data.load("photos").values(), 10, 64, seed=3)[0]


def test_the_names():
    assert set(IMAGES) == {
        "mnist-m", "coloured-mnist", "rotated-mnist", "translated-mnist", "mnist-c", "mnist-lt",
    }  # fmt: skip
    assert set(SCENES) == {"digit-scenes", "coloured-shapes", "shape-relations"}


@pytest.mark.parametrize("name", IMAGES)
def test_derived_images_are_what_their_cards_say(name, digits):
    card, loaded = data.card(name), data.load(name)
    shape = re.match(r"[\d, x]+\d", card.shape)[0]
    assert tuple(loaded.images.shape) == tuple(int(n.replace(",", "")) for n in shape.split(" x "))
    assert loaded.images.dtype == torch.uint8 and loaded.images.is_contiguous() and loaded.labels.dtype == torch.int64
    assert tuple(loaded.classes) == card.classes == tuple("0123456789")
    assert dict(zip(loaded.classes, loaded.labels.bincount().tolist())) == card.balance
    assert loaded.details and all(len(detail) == len(loaded) for detail in loaded.details.values())
    for detail, named in loaded.names.items():
        assert 0 <= loaded.details[detail].min() and loaded.details[detail].max() < len(named)
    if name != "mnist-lt":
        assert torch.equal(loaded.labels, digits.labels)  # in the order of mnist5k
    assert card.bytes == sum(wheel.bytes for wheel in data.sources(name)) > 0


@pytest.mark.parametrize("name", SCENES)
def test_scenes_are_what_their_cards_say(name):
    card, loaded = data.card(name), data.load(name)
    count, channels, size, _ = (
        int(n.replace(",", "")) for n in card.shape.split(",  ")[0].split(", as")[0].split(" x ")
    )
    most = loaded.labels.shape[1]
    assert loaded.images.shape == (count, channels, size, size) and loaded.images.dtype == torch.uint8
    assert loaded.masks.shape == (count, most, size, size) and loaded.masks.dtype == torch.bool
    assert loaded.boxes.shape == (count, most, 4) and loaded.boxes.dtype == torch.int64
    assert tuple(loaded.classes) == card.classes and -1 <= loaded.labels.min() < loaded.labels.max() < len(card.classes)
    assert len(loaded) == len(loaded.captions) == len(loaded.tokens) == count
    there = loaded.labels >= 0
    assert torch.equal(there, loaded.masks.flatten(2).any(-1))  # every object is seen, nothing else is
    assert loaded.masks.sum(1).max() == 1  # a pixel belongs to one object
    assert (loaded.boxes[~there] == 0).all()
    for i, k in there.nonzero().tolist()[:500]:  # a box encloses its mask exactly
        rows, columns = np.nonzero(loaded.masks[i, k].numpy())
        assert loaded.boxes[i, k].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert loaded.vocabulary[:2] == ["<pad>", "<end>"] and len(set(loaded.vocabulary)) == len(loaded.vocabulary)
    for caption, tokens in zip(loaded.captions, loaded.tokens.tolist()):
        words = [loaded.vocabulary[token] for token in tokens]
        assert words[: words.index("<end>")] == caption.split()
        assert set(words[words.index("<end>") + 1 :]) <= {"<pad>"}


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_gives_the_same_bytes_whatever_else_happens(name):
    torch.manual_seed(1)
    first = flatten(small(name, seed=5))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    torch.set_num_threads(2)
    second = flatten(small(name, seed=5))
    assert torch.equal(torch.get_rng_state(), before)  # the global state is left alone, too
    for part, values in first.items():
        assert torch.equal(values, second[part]), part
    assert not torch.equal(first["images"], flatten(small(name, seed=6))["images"])


# Blending with photographs


def test_mnist_m_is_the_difference_of_a_digit_and_a_piece_of_a_photograph():
    flat = torch.full((3, 40, 50), 200, dtype=torch.uint8)
    digit = torch.tensor([[[[0, 255], [100, 220]]]], dtype=torch.uint8)
    blended, source = derived.on_photos(digit, [flat])
    assert blended.tolist() == [[[[200, 55], [100, 20]]] * 3] and source.tolist() == [0]


def test_pieces_come_from_everywhere_in_every_photograph():
    # Pieces of a picture whose values are places: where they were cut can be read off.
    values = [torch.arange(30 * 40).to(torch.uint8).view(30, 40).expand(3, -1, -1)] * 2
    cut, source = derived.patches(values, 4000, 28, seed=1)
    assert cut.shape == (4000, 3, 28, 28) and abs(source.float().mean() - 0.5) < 4 * 0.5 / 4000**0.5
    corners = cut[:, 0, 0, 0].unique()
    expected = {int(values[0][0, y, x]) for y in range(3) for x in range(13)}
    assert set(corners.tolist()) == expected  # all 3 x 13 places, also the last ones
    assert torch.equal(cut[:, :, 0, 1], cut[:, :, 0, 0] + 1)
    with pytest.raises(data.DataError, match="Patches of 31 pixels need"):
        derived.patches(values, 1, 31)
    with pytest.raises(data.DataError, match="at least one photograph"):
        derived.patches([], 1, 8)


def test_mnist_m_keeps_the_photograph_around_the_digit(digits):
    photos = ("coffee", "rocket")
    blended = data.load("mnist-m", photos=photos, seed=2)
    assert blended.names["photo"] == list(photos)
    cut, source = derived.patches(data.load("photos", names=photos).values(), 5000, 28, seed=2)
    assert torch.equal(source, blended.details["photo"])
    ground, ink = (digits.images == 0).expand(-1, 3, -1, -1), (digits.images == 255).expand(-1, 3, -1, -1)
    assert torch.equal(blended.images[ground], cut[ground])
    assert torch.equal(blended.images[ink], 255 - cut[ink])


# Colours


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_colour_agrees_with_the_class_as_often_as_the_bias_says(bias, digits):
    coloured = data.load("coloured-mnist", bias=bias, seed=3)
    colour = coloured.details["colour"]
    agree = (colour == digits.labels).double().mean().item()
    assert abs(agree - bias) <= 4 * (bias * (1 - bias) / 5000) ** 0.5
    other = ((colour - digits.labels) % 10)[colour != digits.labels]
    if len(other) > 200:  # the others are equally likely: chi-square of 8 degrees of freedom, 99.99 % point 31.8
        counts = other.bincount(minlength=10)[1:].double()
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 31.8


def test_colours_are_painted_on_the_digit_or_on_the_field(digits):
    grey = torch.tensor([0, 100, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    palette = [(1.0, 0.5, 0.0), (0.0, 0.0, 1.0)]
    on_digit, _ = derived.colour(grey, torch.tensor([0]), 1.0, palette=palette)
    assert on_digit[0, :, 0].tolist() == [[0, 100, 255], [0, 50, 128], [0, 0, 0]]
    on_field, _ = derived.colour(grey, torch.tensor([0]), 1.0, "field", palette=palette)
    assert on_field[0, :, 0].tolist() == [[255, 255, 255], [128, 178, 255], [0, 100, 255]]
    named = torch.tensor(list(derived.PALETTE.values()))
    assert torch.cdist(named, named).fill_diagonal_(9).min() > 0.3  # told apart easily
    noisy, chosen = derived.colour(digits.images, digits.labels, 1.0, "field", jitter=0.04, seed=1)
    corner = noisy[:, :, 0, 0].float() / 255 - named[chosen]
    inner = corner[(named[chosen] > 0.2) & (named[chosen] < 0.8)]
    assert abs(inner.std() - 0.04) < 0.002 and abs(inner.mean()) < 0.002


def test_colours_that_cannot_be_given(digits):
    few = digits.images[:20], digits.labels[:20]
    for options, message in (
        ({"bias": 1.2}, "a probability, 0 to 1, not 1.2"),
        ({"bias": 0.5, "palette": [[0, 0, 0], [1, 1, 1]]}, "palette of 2 colours is too short"),
        ({"bias": 0.5, "paint": "frame"}, "not on 'frame'"),
    ):
        with pytest.raises(data.DataError, match=message):
            derived.colour(*few, **options)
    with pytest.raises(data.DataError, match=r"uint8 \(N, 1, H, W\), not torch.float32"):
        derived.colour(few[0].float(), few[1], 0.5)


# Rotations and shifts


def test_rotations(digits):
    few = digits.images[:50]
    for turns in range(-2, 3):
        turned = derived.rotate(few, torch.full((50,), 90.0 * turns))
        assert torch.equal(turned, few.rot90(turns, (2, 3)))
    wide = torch.zeros(1, 1, 9, 21, dtype=torch.uint8)
    wide[..., 4, 14:19] = 255  # a bar to the right of the middle
    up = derived.rotate(wide, [45.0])[0, 0]
    assert up[:4, 11:].sum() > 500 and up[5:].sum() == 0  # counter-clockwise, and not stretched
    rows, columns = np.nonzero(up.numpy() > 60)
    assert abs((4 - rows.mean()) - (columns.mean() - 10)) < 0.5


def test_angles_of_rotated_mnist():
    free = data.load("rotated-mnist", limit=30, seed=1).details["degrees"]
    assert -30 <= free.min() < -29.5 and 29.5 < free.max() <= 30 and abs(free.mean()) < 4 * 17.3 / 5000**0.5
    few = data.load("rotated-mnist", angles=(0, 15, 75), seed=1)
    values, counts = few.details["degrees"].unique(return_counts=True)
    assert values.tolist() == [0, 15, 75] and counts.min() > 1500
    still = few.details["degrees"] == 0
    assert torch.equal(few.images[still], data.load("mnist5k").images[still])


def test_shifts(digits):
    small = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 1, 2, 2)
    on_four = derived.shift(small.expand(3, 1, 2, 2), [[0, 0], [1, -1], [-2, 0]], size=4)
    assert on_four[:, 0].tolist() == [
        [[0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0]],
        [[0, 0, 1, 2], [0, 0, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [2, 0, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert torch.equal(derived.shift(small, [[0, 0]]), small)
    shifted = data.load("translated-mnist", seed=4)
    offset = shifted.details["offset"]
    assert offset.min() == -6 and offset.max() == 6
    assert torch.equal(shifted.images.sum((1, 2, 3)), digits.images.sum((1, 2, 3)))  # nothing is cut
    x, y = (6 + offset[17]).tolist()
    assert torch.equal(shifted.images[17, 0, y : y + 28, x : x + 28], digits.images[17, 0])
    cut = data.load("translated-mnist", size=28, limit=3).details["offset"]
    assert cut.abs().max() == 3
    with pytest.raises(data.DataError, match="frame of 20: ask for a size of at least 28"):
        data.load("translated-mnist", size=20)


# Corruptions


@pytest.mark.parametrize("kind", derived.KINDS)
def test_corruptions_grow_with_severity_and_depend_on_the_seed_alone(kind, digits, pieces):
    for images in (digits.images[:100], pieces):
        changed = [derived.corrupt(images, kind, severity, seed=2) for severity in range(1, 6)]
        errors = [(bad.float() - images.float()).square().mean().item() for bad in changed]
        assert errors == sorted(errors) and errors[0] > 5 and errors[4] > 1.3 * errors[0], errors
        assert all(bad.shape == images.shape and bad.dtype == torch.uint8 for bad in changed)
        torch.set_num_threads(2)
        assert torch.equal(derived.corrupt(images, kind, 4, seed=2), changed[3])
        torch.set_num_threads(1)
        other = derived.corrupt(images, kind, 4, seed=3)
        calm = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
        assert torch.equal(other, changed[3]) == (kind in calm)


def test_there_are_the_fifteen_usual_kinds():
    assert derived.KINDS == (
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    )  # fmt: skip


def test_what_cannot_be_corrupted(pieces):
    for severity in (0, 6, 2.5):
        with pytest.raises(data.DataError, match=f"no severity {severity}: ask for 1"):
            derived.corrupt(pieces, "fog", severity)
    with pytest.raises(data.DataError, match="no corruption 'rain': choose from gaussian_noise, shot_noise"):
        derived.corrupt(pieces, "rain", 1)
    for wrong in (pieces.float(), pieces[0], pieces[:, :2]):
        with pytest.raises(data.DataError, match="uint8"):
            derived.corrupt(wrong, "fog", 1)
    assert derived.corrupt(pieces[:0], "fog", 1).shape == (0, 3, 64, 64)


def test_noise_has_the_strength_it_should():
    grey = torch.full((20, 1, 40, 40), 128, dtype=torch.uint8)
    gaussian = derived.corrupt(grey, "gaussian_noise", 2).float()
    assert abs(gaussian.std() / 255 - 0.12) < 0.003 and abs(gaussian.mean() - 128) < 1
    impulse = derived.corrupt(grey, "impulse_noise", 5)
    shares = [(impulse == value).float().mean().item() for value in (0, 255, 128)]
    np.testing.assert_allclose(shares, [0.135, 0.135, 0.73], atol=0.01)
    shot = derived.corrupt(grey, "shot_noise", 1).float() / 255
    assert abs(shot.var() - (128 / 255) / 60) < 0.0005  # a Poisson count's variance is its mean
    assert derived.corrupt(torch.zeros_like(grey), "shot_noise", 5).max() == 0


def test_blurs_keep_flat_areas_and_spread_a_point():
    flat = torch.full((2, 3, 32, 32), 90, dtype=torch.uint8)
    for kind in ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform", "pixelate"):
        assert (derived.corrupt(flat, kind, 5).int() - 90).abs().max() <= 1, kind
    point = torch.zeros(4, 1, 31, 31, dtype=torch.uint8)
    point[:, :, 14:17, 14:17] = 255
    blurred = derived.corrupt(point, "defocus_blur", 5).float()
    assert abs(blurred.sum() - point.float().sum()) < 0.01 * point.float().sum()  # rounding apart, no light is lost
    torch.testing.assert_close(blurred, blurred.flip(-1), atol=1, rtol=0)
    torch.testing.assert_close(blurred, blurred.transpose(-1, -2), atol=1, rtol=0)


def test_motion_blur_runs_along_a_line():
    point = torch.zeros(30, 1, 61, 61, dtype=torch.uint8)
    point[:, :, 29:32, 29:32] = 255
    blurred = derived.corrupt(point, "motion_blur", 5)[:, 0].double()
    weight = blurred / blurred.sum((1, 2), keepdim=True)
    along = torch.arange(61) - 30.0
    across_x, across_y = (weight.sum(1) * along**2).sum(1), (weight.sum(2) * along**2).sum(1)
    # Within 45 degrees of level; spread as a line of 36 x 61 / 224 pixels (and a square of three) is.
    assert (across_x >= across_y - 0.3).all()
    length = 36 * 61 / 224
    np.testing.assert_allclose(across_x + across_y, length**2 / 12 + 2 * 9 / 12, rtol=0.08)


def test_light_and_blocks_by_hand():
    colour = torch.tensor([100, 50, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous()
    # Value 100/255 + 0.2 = 151/255, hue and saturation as before: (151, 75.5, 0).
    assert derived.corrupt(colour, "brightness", 2)[0, :, 0, 0].tolist() in ([151, 75, 0], [151, 76, 0])
    assert derived.corrupt(torch.zeros_like(colour), "brightness", 5).unique().tolist() == [128]
    halves = torch.tensor([0, 200], dtype=torch.uint8).repeat(8).view(1, 1, 4, 4)
    assert derived.corrupt(halves, "contrast", 3).unique().tolist() == [80, 120]  # mean 100, a fifth of the distance
    steps = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    blocks = F.avg_pool2d(steps.double(), 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(derived.corrupt(steps, "pixelate", 2).double(), blocks, atol=0.51, rtol=0)


@pytest.mark.parametrize(("severity", "quality"), [(1, 25), (3, 15), (5, 7)])
def test_jpeg_is_what_a_jpeg_library_makes(severity, quality, pieces, digits):
    from PIL import Image

    for images, mode in ((pieces, "RGB"), (digits.images[:20], "L")):
        ours = derived.corrupt(images, "jpeg_compression", severity).int()
        for image, made in zip(images, ours):
            stream = io.BytesIO()
            pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
            Image.fromarray(pixels, mode).save(stream, "JPEG", quality=quality)
            theirs = torch.from_numpy(np.array(Image.open(stream)).reshape(made.shape[1], made.shape[2], -1)).int()
            theirs = theirs.permute(2, 0, 1)
            assert (made - theirs).abs().float().mean() < 1.5
            assert (made - theirs).abs().float().mean() < 0.4 * (image.int() - theirs).abs().float().mean()


def test_weather_brightens_and_fog_is_grey(pieces):
    dark = torch.zeros(10, 3, 64, 64, dtype=torch.uint8)
    for kind in ("snow", "frost", "fog"):
        light = derived.corrupt(dark, kind, 3).float().mean((1, 2, 3))
        assert (light > 15).all(), kind
    fog = derived.corrupt(dark, "fog", 3)
    assert torch.equal(fog[:, 0], fog[:, 2]) and not torch.equal(fog[0], fog[1])  # of its own for each image
    frost = derived.corrupt(dark, "frost", 3).float().mean((0, 2, 3))
    assert frost[2] > frost[1] > frost[0]  # bluish


def test_mnist_c_takes_turns_or_one_kind(digits):
    turns = data.load("mnist-c", severity=2)
    assert turns.details["kind"].tolist() == [i % 15 for i in range(5000)] and turns.names["kind"] == list(
        derived.KINDS
    )
    mine = turns.details["kind"] == 11
    assert torch.equal(turns.images[mine], derived.corrupt(digits.images[mine], "contrast", 2))
    one = data.load("mnist-c", kind="contrast", severity=2)
    assert torch.equal(one.images[mine], turns.images[mine]) and one.details["kind"].unique().tolist() == [11]
    assert corruptions.number("contrast") == 11
    with pytest.raises(data.DataError, match="no severity 0"):
        data.load("mnist-c", severity=0)


# Long tails


def test_long_tails_have_the_exponential_profile(digits):
    labels = torch.arange(4).repeat_interleave(torch.tensor([100, 80, 70, 64]))[torch.randperm(314)]
    kept = derived.long_tailed(labels, factor=8)
    assert labels[kept].bincount().tolist() == [64, 32, 16, 8]  # each half of the one before
    assert torch.equal(kept, kept.unique())  # sorted, none twice
    assert labels[derived.long_tailed(labels, factor=8, order=(3, 1, 0, 2))].bincount().tolist() == [16, 32, 8, 64]
    assert len(derived.long_tailed(labels, factor=1, largest=50)) == 200
    everything = data.load("mnist-lt", factor=1)
    assert torch.equal(everything.images, digits.images)
    tail = data.load("mnist-lt", factor=50, seed=3)
    assert torch.equal(tail.images, digits.images[tail.details["source"]])
    assert torch.equal(tail.labels, digits.labels[tail.details["source"]])
    # Drawn at random, not the first ones: the mean index is near the middle.
    assert abs(tail.details["source"].float().mean() - 2500) < 4 * 1443 / len(tail) ** 0.5
    for options, message in (
        ({"factor": 0.5}, "a factor of at least 1"),
        ({"labels": labels[:0], "factor": 2}, "two or more classes"),
        ({"factor": 2, "order": (0, 1, 2)}, "each of the classes 0 to 3 once"),
        ({"factor": 2, "largest": 110}, "examples cannot be drawn: change `largest`"),
        ({"factor": 500}, "64 down to 0 examples cannot be drawn"),
    ):
        with pytest.raises(data.DataError, match=message):
            derived.long_tailed(**{"labels": labels, **options})


# Scenes of digits


def test_boxes_by_hand():
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 0] = True
    assert scenes.boxes_of(masks).tolist() == [[2, 1, 6, 3], [0, 4, 1, 5], [0, 0, 0, 0]]


def test_resizing_digits_is_exact(digits):
    few = digits.images[:5, 0].float()
    whole = scenes._resized(few, torch.tensor([28] * 5), torch.tensor([[3, 7]] * 5), 40)
    torch.testing.assert_close(whole[:, 7:35, 3:31], few)
    assert whole.sum() == pytest.approx(few.sum().item())
    half = scenes._resized(few, torch.tensor([14] * 5), torch.tensor([[0, 0]] * 5), 14)
    torch.testing.assert_close(half, F.avg_pool2d(few[:, None], 2)[:, 0])
    odd = scenes._resized(few, torch.tensor([17] * 5), torch.tensor([[5, 2]] * 5), 32)
    np.testing.assert_allclose(odd.sum((1, 2)), few.sum((1, 2)) * (17 / 28) ** 2, rtol=1e-4)
    assert odd[:, :2].sum() == odd[:, 19:].sum() == odd[:, :, :5].sum() == odd[:, :, 22:].sum() == 0


def test_digit_scenes_hold_what_they_say(digits):
    made = data.load("digit-scenes", count=300, objects=(2, 3), digits=(100, 400), photos=("china", "coffee"), seed=7)
    there = made.labels >= 0
    found = there.sum(1)
    assert (
        made.labels.shape == (300, 3) and found.max() == 3 and found.min() >= 1 and (found >= 2).float().mean() > 0.99
    )
    assert torch.equal(there.int().sort(1, descending=True).values, there.int())  # unused places last
    source = made.details["source"]
    assert (source[there] >= 100).all() and (source[there] < 400).all() and (source[~there] == -1).all()
    assert torch.equal(made.labels[there], digits.labels[source[there]])
    assert made.names["photo"] == ["china", "coffee"] and set(made.details["photo"].tolist()) == {0, 1}
    sides = (made.boxes[..., 2:] - made.boxes[..., :2])[there].amax(-1)
    assert sides.max() <= 24 and sides.min() >= 16 * 16 // 28  # MNIST's ink is 20 of 28 pixels in its longer direction
    # The mask is where the digit is: the scene differs from its photograph there, and only near there.
    grounds, photo = derived.patches(data.load("photos", names=("china", "coffee")).values(), 300, 64, seed=7)
    assert torch.equal(photo, made.details["photo"])
    change = (made.images.int() - grounds.int()).abs().sum(1)
    near = F.max_pool2d(made.masks.any(1).float()[:, None], 5, 1, 2)[:, 0] > 0
    assert change[~near].float().mean() < 0.5 < 20 < change[made.masks.any(1)].float().mean()


def test_captions_of_digit_scenes_say_which_and_where():
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    made = data.load("digit-scenes", count=200, seed=1)
    for caption, labels, boxes in zip(made.captions, made.labels, made.boxes):
        parts = [part.split() for part in caption.split(" and ")]
        assert [words.index(part[1]) for part in parts] == labels[labels >= 0].tolist()
        assert all(part[0] == ("an" if part[1] == "eight" else "a") for part in parts)
        for (*_, row, column), (x1, y1, x2, y2) in zip(parts, boxes.tolist()):
            assert ("left", "centre", "right").index(column) == min(2, int((x1 + x2) / 2 / (64 / 3)))
            assert ("upper", "middle", "lower").index(row) == min(2, int((y1 + y2) / 2 / (64 / 3)))


def test_painted_scenes_and_single_objects():
    painted = data.load("digit-scenes", count=50, blend="paint", seed=1)
    differing = data.load("digit-scenes", count=50, seed=1)
    assert torch.equal(painted.masks, differing.masks) and painted.captions == differing.captions
    mask = painted.masks.any(1)[:, None].expand(-1, 3, -1, -1)
    assert painted.images[mask].float().mean() > 180
    single = data.load("digit-scenes", count=50, size=32, objects=(1, 1), seed=1)
    assert single.images.shape == (50, 3, 32, 32) and (single.labels >= 0).all()
    for options in ({"objects": (0, 2)}, {"objects": (3, 2)}, {"sizes": (16, 80)}, {"sizes": (4, 8)}, {"blend": "add"}):
        with pytest.raises(data.DataError, match="Scenes need 1 <= objects"):
            data.load("digit-scenes", count=5, **options)
    with pytest.raises(data.DataError, match="Digits 10 to 6000 cannot be drawn from"):
        data.load("digit-scenes", count=5, digits=(10, 6000))


# Coloured shapes


def test_counted_shapes_show_what_their_captions_say():
    made = data.load("coloured-shapes", count=150, size=96, noise=0.0, seed=2)
    palette = 255 * torch.tensor(list(scenes.COLOURS.values()))
    grounds = 255 * torch.tensor(list(scenes.FIELDS.values()))
    assert made.details["count"].bincount().min() > 30 and made.details["field"].bincount().min() > 20
    for i, caption in enumerate(made.captions):
        count, colour, shape, on, a, field, noun = caption.split()
        assert (on, a, noun) == ("on", "a", "field")
        assert int((made.labels[i] >= 0).sum()) == scenes.COUNTS.index(count) + 1 == int(made.details["count"][i]) + 1
        kind = scenes.SHAPES.index(shape if count == "one" else {"crosses": "cross"}.get(shape, shape[:-1]))
        assert set(made.labels[i].tolist()) - {-1} == {kind}
        hue, ground = list(scenes.COLOURS).index(colour), list(scenes.FIELDS).index(field)
        assert set(made.details["colour"][i].tolist()) - {-1} == {hue} and made.details["field"][i] == ground
        mask = made.masks[i].any(0)
        assert (made.images[i][:, mask].float().median(1).values - palette[hue]).abs().max() <= 1
        assert (made.images[i][:, ~mask].float().median(1).values - grounds[ground]).abs().max() <= 1


def test_masks_have_the_areas_of_their_shapes():
    n = 120
    zeros = torch.zeros(n, dtype=torch.int64)
    areas = {}
    for number, shape in enumerate(scenes.SHAPES):
        made = scenes.counted_shapes(zeros, zeros + number, zeros, zeros, size=96, seed=1)
        areas[shape] = made.masks.sum((1, 2, 3)).double()
        side = (made.boxes[:, 0, 2:] - made.boxes[:, 0, :2]).double()
        assert (side >= 2 * 0.10 * 96 * 0.88 - 2).all() and (side <= 2 * 0.13 * 96 + 2).all()  # radii of 0.10 to 0.13
    # In radii: circle pi, square 1.76^2, triangle and cross by their outlines; all four on the same layout.
    ratio = {shape: (area / areas["circle"]).mean().item() * np.pi for shape, area in areas.items()}
    assert ratio["square"] == pytest.approx(1.76**2, rel=0.03)
    assert ratio["cross"] == pytest.approx(2 * 2 * 0.68 - 0.68**2, rel=0.03)
    assert ratio["triangle"] == pytest.approx(1.8 * 1.8 / 2, rel=0.04)  # 1.8 high, 1.8 wide at the bottom


def test_one_changed_attribute_changes_only_that():
    n = 60
    generator = torch.Generator().manual_seed(0)
    count, shape, colour, field = (torch.randint(k, (n,), generator=generator) for k in (3, 4, 6, 4))
    before = scenes.counted_shapes(count, shape, colour, field, noise=0.02, seed=5)
    other = scenes.counted_shapes(count, shape, (colour + 1) % 6, field, noise=0.02, seed=5)
    assert torch.equal(before.masks, other.masks)
    changed = (before.images != other.images).any(1)
    near = F.max_pool2d(before.masks.any(1).float()[:, None], 5, 1, 2)[:, 0] > 0
    assert not changed[~near].any() and changed[before.masks.any(1)].all()
    more = scenes.counted_shapes((count + 1).clamp(max=2), shape, colour, field, noise=0.02, seed=5)
    kept = before.labels >= 0
    assert torch.equal(more.masks[kept], before.masks[kept])  # objects that were there stay where they were
    words = list(zip(before.captions, other.captions))
    assert all(sum(a != b for a, b in zip(x.split(), y.split())) == 1 for x, y in words)


def test_related_shapes_stand_as_their_captions_say():
    made = data.load("shape-relations", count=400, seed=3)
    assert made.details["relation"].bincount().min() > 60
    assert not (
        (made.labels[:, 0] == made.labels[:, 1]) & (made.details["colour"][:, 0] == made.details["colour"][:, 1])
    ).any()
    middle = (made.boxes[..., :2] + made.boxes[..., 2:]) / 2
    right, down = (middle[:, 0] - middle[:, 1]).T
    true = torch.stack([-right, right, -down, down], 1)
    assert torch.equal(
        true.argmax(1), made.details["relation"]
    )  # the largest of the four distances, and the only far one
    hues, grounds = list(scenes.COLOURS), list(scenes.FIELDS)
    for i in range(len(made)):
        (first, second), (one, two) = made.labels[i].tolist(), made.details["colour"][i].tolist()
        assert made.captions[i] == (
            f"a {hues[one]} {scenes.SHAPES[first]} {scenes.RELATIONS[made.details['relation'][i]]} "
            f"a {hues[two]} {scenes.SHAPES[second]} on a {grounds[made.details['field'][i]]} field"
        )
    assert made.boxes.min() >= 0 and made.boxes.max() <= 32
    area = made.masks.sum((2, 3))
    assert area.min() > 20  # nothing is cut by the edge


def test_shapes_that_cannot_be_drawn():
    ones = torch.ones(4, dtype=torch.int64)
    for wrong, message in (
        ((ones * 3, ones, ones, ones), "Give count as 4 int64 indices from 0 to 2"),
        ((ones, -ones, ones, ones), "Give shape as 4 int64 indices from 0 to 3"),
        ((ones, ones, ones.float(), ones), "Give colour as 4 int64"),
        ((ones, ones, ones, ones[:3]), "Give field as 4 int64"),
    ):
        with pytest.raises(data.DataError, match=message):
            scenes.counted_shapes(*wrong)
    with pytest.raises(data.DataError, match="Give shape as 4 pairs"):
        scenes.related_shapes(ones, ones, ones, ones)
    with pytest.raises(data.DataError, match="23 pixels: ask for a size of at least 24"):
        data.load("coloured-shapes", count=2, size=23)


def test_layout_and_attributes_do_not_share_random_numbers():
    made = data.load("coloured-shapes", count=4000, seed=0)
    place = (made.boxes[:, 0, :2] + made.boxes[:, 0, 2:]).double()
    for detail in ("count", "field"):
        both = torch.stack([place[:, 0], made.details[detail].double()])
        assert abs(torch.corrcoef(both)[0, 1]) < 4 / 4000**0.5
