"""RandAugment: the fourteen operations against torchvision's, the draws, and what is built from them."""

import math

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import autoaugment as classic

from tests.notebooks import load_method

m = load_method("augmentation/randaugment")

#: Our operations by the names that torchvision gives them.
PEER = {
    "identity": "Identity",
    "auto-contrast": "AutoContrast",
    "equalize": "Equalize",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "shear-x": "ShearX",
    "shear-y": "ShearY",
    "translate-x": "TranslateX",
    "translate-y": "TranslateY",
    "rotate": "Rotate",
}


def test_images(channels, height, width):
    """Noise, a ramp, mostly black, one value, and low contrast: (9, C, H, W) uint8."""
    g = torch.Generator().manual_seed(channels * height + width)
    size = (2, channels, height, width)
    noise = torch.randint(256, size, generator=g)
    ramp = (torch.arange(height)[:, None] * 3 + torch.arange(width)) % 256
    sparse = noise * (torch.rand(size, generator=g) < 0.2)
    flat = torch.full((1, *size[1:]), 77)
    return torch.cat([noise, ramp.expand(size), sparse, flat, noise // 4 + 60]).to(torch.uint8)


test_images.__test__ = False
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 27, 40)]


def batch_of(name, count, strength, sign):
    """Arguments for ``apply_operations``: the same operation for all images."""
    operation = torch.full((count,), m.INDEX[name])
    return operation, torch.full((count,), strength), torch.full((count,), sign)


def changes(name, images):
    """Every strength and sign of an operation: ours, and torchvision's magnitude for it."""
    magnitudes, signed = classic.RandAugment()._augmentation_space(31, tuple(images.shape[2:]))[PEER[name]]
    for strength in range(m.STRENGTHS):
        magnitude = float(magnitudes[strength]) if magnitudes.ndim else 0.0
        for sign in (1, -1) if signed else (1,):
            yield m.apply_operations(images, *batch_of(name, len(images), strength, sign)), magnitude * sign


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", m.OPERATIONS)
def test_operation_is_torchvisions_pixel_by_pixel(name, shape):
    images = test_images(*shape)
    for ours, magnitude in changes(name, images):
        peer = [classic._apply_op(x, PEER[name], magnitude, InterpolationMode.NEAREST, None) for x in images]
        assert torch.equal(ours, torch.stack(peer)), magnitude


@pytest.mark.parametrize("name", m.OPERATIONS)
def test_operation_is_torchvision_v2s_up_to_rounding(name):
    """The second version fuses some multiplications and additions: a value may end up on the other side of a number."""
    images, peer = test_images(3, 32, 32), v2.RandAugment()
    for ours, magnitude in changes(name, images):
        value = magnitude / 255 if name == "solarize" else magnitude
        options = {"interpolation": InterpolationMode.NEAREST, "fill": {torch.Tensor: None}}
        theirs = [peer._apply_image_or_video_transform(x, PEER[name], value, **options) for x in images]
        difference = (ours.int() - torch.stack(theirs).int()).abs()
        assert difference.max() <= (name in ("auto-contrast", "color", "contrast", "sharpness"))


@pytest.mark.parametrize("fill", [0, 128])
@pytest.mark.parametrize("name", ["shear-x", "shear-y", "translate-x", "translate-y", "rotate"])
def test_fill_is_torchvisions(name, fill):
    images = test_images(3, 32, 32)
    for strength in (7, 30):
        magnitude = float(m.magnitude_table(32, 32, torch.device("cpu"))[m.INDEX[name], strength])
        ours = m.apply_operations(images, *batch_of(name, len(images), strength, 1), fill=fill)
        peer = classic._apply_op(images, PEER[name], magnitude, InterpolationMode.NEAREST, [float(fill)] * 3)
        assert torch.equal(ours, peer)


@pytest.mark.parametrize("size", [(28, 28), (32, 48)])
def test_magnitudes_are_torchvisions(size):
    table = m.magnitude_table(*size, torch.device("cpu"))
    space = classic.RandAugment()._augmentation_space(31, size)
    assert {PEER[name] for name in m.OPERATIONS} == set(space)
    for name, row in zip(m.OPERATIONS, table, strict=True):
        assert torch.equal(row, space[PEER[name]][0].float().expand(31)), name


def test_values_at_nine_by_hand():
    table = m.magnitude_table(28, 28, torch.device("cpu"))[:, 9]
    by_hand = {"rotate": 9, "shear-x": 0.09, "translate-y": 3.8066, "color": 0.27, "posterize": 7, "solarize": 178.5}
    for name, value in by_hand.items():
        assert table[m.INDEX[name]].item() == pytest.approx(value, abs=1e-4)


FOUR = torch.tensor([[[[10, 100], [150, 250]]]], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("kind", "name", "magnitude", "expected"),
    [
        ("look_up", "solarize", 128.0, [10, 100, 105, 5]),
        ("look_up", "posterize", 4.0, [0, 96, 144, 240]),
        ("look_up", "auto-contrast", 0.0, [0, 95, 148, 255]),
        ("blend", "brightness", -0.9, [1, 10, 15, 25]),
        ("blend", "brightness", 0.9, [19, 190, 255, 255]),
    ],
)
def test_four_values_by_hand_and_by_pillow(kind, name, magnitude, expected):
    result = getattr(m, kind)(FOUR, torch.tensor([m.INDEX[name]]), torch.tensor([magnitude]), 0)
    assert result.flatten().tolist() == expected
    image = Image.fromarray(FOUR[0, 0].numpy())
    pillow = {
        "solarize": lambda: ImageOps.solarize(image, magnitude),
        "posterize": lambda: ImageOps.posterize(image, int(magnitude)),
        "auto-contrast": lambda: ImageOps.autocontrast(image),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(1 + magnitude),
    }[name]()
    assert list(pillow.tobytes()) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_equalize_is_pillows(channels):
    images = test_images(channels, 32, 32)
    ours = m.apply_operations(images, *batch_of("equalize", len(images), 0, 1))
    for image, result in zip(images, ours, strict=True):
        pillow = ImageOps.equalize(Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()))
        assert result.permute(1, 2, 0).flatten().tolist() == list(pillow.tobytes())


def test_strength_zero_changes_only_what_has_no_strength():
    images = test_images(3, 32, 32).clamp(max=254)
    for name in set(m.OPERATIONS) - {"auto-contrast", "equalize"}:
        assert torch.equal(m.apply_operations(images, *batch_of(name, len(images), 0, -1)), images), name
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    assert m.apply_operations(white, *batch_of("solarize", 1, 0, 1)).max() == 0


def test_color_leaves_grey_images_alone():
    images = test_images(1, 28, 28)
    assert torch.equal(m.apply_operations(images, *batch_of("color", len(images), 30, 1)), images)


def test_opposite_translations_cancel_inside():
    images = test_images(3, 32, 32)
    there = m.apply_operations(images, *batch_of("translate-x", len(images), 9, 1))
    back = m.apply_operations(there, *batch_of("translate-x", len(images), 9, -1))
    pixels = int(150 / 331 * 0.3 * 32)
    assert torch.equal(there[..., pixels:], images[..., :-pixels])  # a plus moves the content to the right
    assert torch.equal(back[..., :-pixels], images[..., :-pixels])


def test_a_batch_is_its_images_one_by_one_in_place():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (200, 3, 20, 24), generator=g).to(torch.uint8)
    before = images.clone()
    parts = torch.randint(14, (200,), generator=g), torch.randint(31, (200,), generator=g), m.random_signs(200, g)
    together = m.apply_operations(images, *parts)
    alone = [m.apply_operations(*one) for one in zip(*(p.split(1) for p in (images, *parts)), strict=True)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, before)  # the input is not written to
    assert together.dtype == torch.uint8


def test_float_images_go_through_eight_bits():
    images = test_images(3, 32, 32)
    as_float = m.rand_augment(images / 255, 2, 20, torch.Generator().manual_seed(1))
    as_bytes = m.rand_augment(images, 2, 20, torch.Generator().manual_seed(1))
    assert as_float.dtype == torch.float32
    assert torch.equal((as_float * 255).round().to(torch.uint8), as_bytes)


@pytest.fixture
def draws(monkeypatch):
    """What ``rand_augment`` asks of ``apply_operations``: (operation, strength, sign) of each step."""
    heard = []

    def listen(images, operation, strength, sign, fill=0):
        heard.append((operation, strength, sign))
        return images

    monkeypatch.setattr(m, "apply_operations", listen)
    return heard


def test_draws_are_uniform_independent_and_signs_are_even(draws):
    count = 14_000
    m.rand_augment(torch.zeros(count, 1, 3, 3, dtype=torch.uint8), 3, 9, torch.Generator().manual_seed(0))
    assert len(draws) == 3
    for operation, strength, sign in draws:
        assert (operation.bincount(minlength=14) - 1000).abs().max() <= 92 + 30  # 4 sigma: 14 operations, 3 steps
        assert set(sign.tolist()) == {-1, 1}
        assert abs((sign > 0).float().mean() - 0.5) < 4 * 0.5 / math.sqrt(count)
        assert (strength == 9).all()
        rotated = operation == m.INDEX["rotate"]
        assert abs((sign[rotated] > 0).float().mean() - 0.5) < 4 * 0.5 / math.sqrt(1000)
    same = (draws[0][0] == draws[1][0]).float().mean()
    assert same == pytest.approx(1 / 14, abs=4 * math.sqrt(13 / 14**2 / count))
    pairs = (14 * draws[0][0] + draws[1][0]).bincount(minlength=196)
    assert pairs.min() > 0  # every one of the 196 policies


def test_operations_can_be_drawn_from_a_shorter_list(draws):
    images = torch.zeros(500, 1, 3, 3, dtype=torch.uint8)
    m.rand_augment(images, 1, 9, torch.Generator().manual_seed(0), among=("solarize", "rotate"))
    assert set(draws[0][0].tolist()) == {m.INDEX["solarize"], m.INDEX["rotate"]}


def test_strength_may_differ_by_image(draws):
    strength = torch.arange(31)
    m.rand_augment(torch.zeros(31, 1, 3, 3, dtype=torch.uint8), 2, strength, torch.Generator().manual_seed(0))
    assert all(torch.equal(drawn, strength) for _, drawn, _ in draws)


def test_seeds_repeat_and_successive_batches_do_not():
    images = test_images(3, 32, 32)
    g = torch.Generator().manual_seed(1)
    one, two = m.rand_augment(images, 2, 9, g), m.rand_augment(images, 2, 9, g)
    assert torch.equal(one, m.rand_augment(images, 2, 9, torch.Generator().manual_seed(1)))
    assert not torch.equal(one, two)


def test_policy_takes_its_steps_with_their_probabilities(draws):
    operation = torch.arange(10).view(5, 2) + 1
    probability = torch.tensor([[1.0, 0.0]] * 5)
    strength = 3 * operation
    images, g = torch.zeros(5000, 1, 3, 3, dtype=torch.uint8), torch.Generator().manual_seed(0)
    m.apply_policy(images, (operation, probability, strength), g)
    (first, first_strength, _), (second, _, _) = draws
    assert set(first.tolist()) == {1, 3, 5, 7, 9}  # the first steps of the five sub-policies, always taken
    assert torch.equal(first_strength, 3 * first)
    assert (first.bincount()[1::2] - 1000).abs().max() < 4 * math.sqrt(5000 * 0.2 * 0.8)
    assert (second == m.INDEX["identity"]).all()  # probability 0


def test_random_policies_cover_the_search_space():
    g = torch.Generator().manual_seed(0)
    policies = [m.random_policy(g) for _ in range(300)]
    operation, probability, strength = (torch.stack(part) for part in zip(*policies, strict=True))
    assert operation.shape == (300, 5, 2)
    assert set(operation.flatten().tolist()) == set(range(14))
    assert probability.unique().tolist() == pytest.approx([i / 10 for i in range(11)])
    assert strength.unique().tolist() == list(range(3, 31, 3))


def test_flip_and_crop_are_what_they_say():
    g = torch.Generator().manual_seed(0)
    image = torch.randint(1, 256, (1, 3, 10, 10), generator=g).to(torch.uint8)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
    views = {tuple(padded[..., i : i + 10, j : j + 10].flatten().tolist()) for i in range(5) for j in range(5)}
    results = m.flip_and_crop(image.expand(2000, -1, -1, -1), 2, False, g)
    assert {tuple(x.flatten().tolist()) for x in results} == views
    results = m.flip_and_crop(image.expand(2000, -1, -1, -1), 0, True, g)
    mirrored = (results == image.flip(3)).flatten(1).all(1)
    assert ((results == image).flatten(1).all(1) ^ mirrored).all()
    assert abs(mirrored.float().mean() - 0.5) < 0.05


def test_cutout_blackens_a_square_that_may_stick_out():
    images = torch.full((4000, 3, 16, 16), 9, dtype=torch.uint8)
    holes = (m.cutout(images, 8, torch.Generator().manual_seed(0)) == 0)[:, 0]
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), heights * widths)  # a rectangle
    assert heights.max() == 8 and heights.min() == 4  # whole, or half outside
    assert holes[:, 0, 0].any() and holes[:, -1, -1].any()


@pytest.mark.parametrize(("k", "millions"), [(2, 1.467610), (10, 36.479194)])
def test_wide_resnet_has_its_published_size(k, millions):
    with torch.device("meta"):
        net = m.wide_resnet(3, 32, 10, k)
    assert sum(p.numel() for p in net.parameters()) == round(millions * 1e6)
    assert sum(isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3) for layer in net.modules()) == 25


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_operations_run_under_deterministic_algorithms(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("There is no GPU here.")
    images = test_images(3, 32, 32).repeat(20, 1, 1, 1).to(device)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (m.rand_augment(images, 2, 9, torch.Generator(device).manual_seed(0)) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(before)
    assert torch.equal(first, second)
    assert first.device == images.device
