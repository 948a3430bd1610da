"""Mixing samples: worked examples, laws of the draws, agreement with torchvision."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared import mixing
from shared.device import generator


def images(count=8, channels=3, height=32, width=32):
    return torch.rand(count, channels, height, width, generator=generator(1))


def test_beta_has_the_moments_of_the_distribution():
    for alpha in (0.2, 1.0, 2.0):
        draws = mixing.beta(alpha, 20_000, generator(0)).double()
        assert draws.dtype == torch.float64 and 0 <= draws.min() and draws.max() <= 1
        assert draws.mean() == pytest.approx(0.5, abs=0.01)
        assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_beta_follows_its_generator():
    g = generator(3)
    first, second = mixing.beta(1.0, 5, g), mixing.beta(1.0, 5, g)
    assert not torch.equal(first, second)
    assert torch.equal(first, mixing.beta(1.0, 5, generator(3)))


def test_beta_refuses_alpha_of_zero():
    with pytest.raises(ValueError, match="needs alpha > 0, not 0"):
        mixing.beta(0, 1, generator(0))


def test_blend_by_hand():
    x = torch.tensor([[0.0, 4.0], [2.0, 8.0]])
    swapped = torch.tensor([1, 0])
    torch.testing.assert_close(mixing.blend(x, swapped, torch.tensor(0.75)), torch.tensor([[0.5, 5.0], [1.5, 7.0]]))
    each = mixing.blend(x, swapped, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(each, torch.tensor([[0.0, 4.0], [0.0, 4.0]]))


def test_soft_labels_by_hand():
    labels = mixing.soft_labels(torch.tensor([2, 0, 2]), torch.tensor([1, 2, 2]), torch.tensor([0.7, 0.6, 0.3]), 3)
    torch.testing.assert_close(labels, torch.tensor([[0.3, 0, 0.7], [0.6, 0, 0.4], [0, 0, 1.0]]))


def test_soft_label_loss_is_the_mixture_of_the_losses():
    g = generator(0)
    logits, y = torch.randn(6, 4, generator=g), torch.randint(4, (6,), generator=g)
    mixed = mixing.mixup(images(6), 1.0, g, per_sample=True)
    a, b = (F.cross_entropy(logits, target, reduction="none") for target in (y, y[mixed.partner]))
    expected = (mixed.ratio * a + (1 - mixed.ratio) * b).mean()
    torch.testing.assert_close(F.cross_entropy(logits, mixed.targets(y, 4)), expected)


@pytest.mark.parametrize("per_sample", [False, True])
def test_mixup_is_the_blend_that_it_describes(per_sample):
    x = images()
    mixed = mixing.mixup(x, 1.0, generator(5), per_sample)
    assert sorted(mixed.partner.tolist()) == list(range(8))
    assert len(mixed.ratio.unique()) == (8 if per_sample else 1)
    torch.testing.assert_close(mixed.x, mixing.blend(x, mixed.partner, mixed.ratio))


def test_boxes_that_stay_whole_have_all_their_pixels():
    boxes = mixing.random_boxes(5000, (7, 12), (32, 28), generator(0), whole=True)
    mask = mixing.box_mask(boxes, (32, 28))
    assert (mask.flatten(1).sum(1) == 7 * 12).all()
    assert boxes[:, 0].min() == 0 and boxes[:, 1].max() == 32 and boxes[:, 3].max() == 28  # they reach every border


def test_boxes_that_are_cut_lie_around_every_pixel_alike():
    boxes = mixing.random_boxes(40_000, (6, 6), (16, 16), generator(0))
    counts = mixing.box_mask(boxes, (16, 16)).float().mean(0)[0]
    along = torch.tensor([len([c for c in range(16) if c - 3 <= i < c + 3]) for i in range(16)]) / 16
    torch.testing.assert_close(counts, along[:, None] * along, atol=0.01, rtol=0)


def test_box_mask_by_hand():
    mask = mixing.box_mask(torch.tensor([[1, 3, 0, 2]]), (4, 3))
    assert mask.shape == (1, 1, 4, 3)
    assert mask[0, 0].int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_a_box_larger_than_its_frame_is_refused():
    with pytest.raises(ValueError, match="A box of 33 x 4 pixels does not fit a frame of 32 x 32"):
        mixing.random_boxes(1, (33, 4), (32, 32), generator(0))


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    x = images()
    for seed in range(20):
        mixed = mixing.cutmix(x, 1.0, generator(seed))
        pasted = (mixed.x != x).any(1)
        partner_differs = mixed.partner != torch.arange(8)
        assert (mixed.x == torch.where(pasted[:, None], x[mixed.partner], x)).all()
        share = pasted[partner_differs].float().mean((1, 2))
        torch.testing.assert_close(share, 1 - mixed.ratio[partner_differs])


def test_cutmix_pastes_less_than_it_draws_because_boxes_are_cut_at_the_border():
    x = torch.zeros(2, 1, 64, 64)
    pasted = [1 - mixing.cutmix(x, 1.0, generator(seed)).ratio[0].item() for seed in range(3000)]
    assert np.mean(pasted) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)  # of a continuous box


def test_agrees_with_torchvision():
    from torchvision.transforms import v2

    x, y = images(), torch.arange(8) % 4
    rolled = torch.arange(8).roll(1)  # torchvision mixes each image with the one before
    theirs = v2.MixUp(num_classes=4)
    parameters = {"lam": 0.3, "labels": y, "batch_size": 8}
    torch.testing.assert_close(theirs.transform(x, parameters), mixing.blend(x, rolled, torch.tensor(0.3)))
    labels = theirs.transform(y, parameters)
    torch.testing.assert_close(labels, mixing.soft_labels(y, rolled, torch.tensor([0.3]), 4))

    theirs = v2.CutMix(num_classes=4)
    torch.manual_seed(0)
    for _ in range(20):
        parameters = theirs.make_params([x])
        left, top, right, bottom = parameters["box"]
        mask = mixing.box_mask(torch.tensor([[top, bottom, left, right]]), (32, 32))
        parameters |= {"labels": y, "batch_size": 8}
        torch.testing.assert_close(theirs.transform(x, parameters), torch.where(mask, x[rolled], x))
        assert 1 - mask.float().mean().item() == pytest.approx(parameters["lam_adjusted"])
