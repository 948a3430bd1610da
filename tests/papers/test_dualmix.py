"""DualMix: the reservoir's law, the two mixes and their labels, the scores, the steps of every arm, and two peers."""

import math

import pytest
import torch
import torch.nn.functional as F

from shared import device, mixing, nets
from tests.notebooks import load_method

m = load_method("mixing/dualmix")
PAPER = (2.0, 0.5, 0.05)  # kappa, tau, delta


def images(count, channels=1, side=8, seed=0):
    """Random pixels (count, channels, side, side) in 0..1."""
    return torch.rand(count, channels, side, side, generator=device.generator(seed))


# --- the memory ------------------------------------------------------------------------------------------------------


def kept_of(streams, length, size, batch):
    """Which images of each stream are in memory at its end: (streams, length) of 0 and 1."""
    g, kept = device.generator(0), torch.zeros(streams, length)
    for row in kept:
        memory = m.Memory(size, (1,), "cpu")
        for numbers in torch.arange(length).split(batch):
            memory.offer(numbers[:, None].float(), numbers, g)
        assert torch.equal(memory.x[:, 0].long(), memory.y)  # images and labels stay together
        row[memory.y] = 1
    return kept


#: 5,000 streams of 100 images, ten at a time, through avalanche-lib 0.6.0's ReservoirSamplingBuffer of ten slots, which
#: gives each image a random number and keeps the ten largest (torch.manual_seed(0)): for each tenth of the stream, the
#: share of its images that are in the buffer at the end, and the variance of their number.
PEER_SHARE = [0.0999, 0.1, 0.1, 0.1003, 0.1, 0.1001, 0.101, 0.1003, 0.0995, 0.0987]
PEER_VARIANCE = [0.81, 0.825, 0.798, 0.828, 0.826, 0.813, 0.822, 0.821, 0.805, 0.824]


@pytest.mark.parametrize("batch", [1, 7, 10])
def test_every_image_of_the_stream_is_kept_with_the_same_probability(batch):
    kept = kept_of(2000, 100, 10, batch)
    assert (kept.sum(1) == 10).all()
    sigma = math.sqrt(0.1 * 0.9 / 2000)
    assert (kept.mean(0) - 0.1).abs().max() < 4.5 * sigma
    tenths = kept.view(2000, 10, 10).sum(2)
    # standard errors: of a share 0.0020 here and 0.0013 there, of a variance about 0.03 and 0.02
    assert (tenths.mean(0) / 10 - torch.tensor(PEER_SHARE)).abs().max() < 4 * 0.0024
    assert (tenths.var(0) - torch.tensor(PEER_VARIANCE)).abs().max() < 4 * 0.036
    assert tenths.var(0).mean() == pytest.approx(10 * 0.1 * 0.9 * 90 / 99, abs=0.03)


def test_memory_keeps_all_while_there_is_room_and_draws_without_repetition():
    memory, g = m.Memory(25, (1,), "cpu"), device.generator(0)
    assert len(memory) == 0 and len(memory.draw(10, g)[1]) == 0
    for numbers in torch.arange(20).split(10):
        memory.offer(numbers[:, None].float(), numbers, g)
    assert len(memory) == 20 and memory.y[:20].tolist() == list(range(20))
    seen = torch.zeros(20)
    for _ in range(1000):
        x, y = memory.draw(10, g)
        assert len(y.unique()) == 10 and torch.equal(x[:, 0].long(), y)
        seen[y] += 1
    assert (seen - 500).abs().max() < 4.5 * math.sqrt(250)


# --- the augmentation ------------------------------------------------------------------------------------------------


def test_a_full_straight_window_is_the_image_and_mirrors_are_mirrors():
    x, g = images(200, 3), device.generator(0)
    still = m.cut_windows(x, (1.0, 1.0), 0, 0, False, g)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)
    flipped = m.cut_windows(x, (1.0, 1.0), 0, 0, True, g)
    is_same, is_mirrored = (((flipped - y).abs().flatten(1).amax(1) < 1e-5) for y in (x, x.flip(3)))
    assert (is_same ^ is_mirrored).all() and 60 < is_mirrored.sum() < 140


def test_windows_shift_zoom_and_turn_by_what_they_say():
    x = torch.zeros(400, 1, 41, 41)
    x[:, :, 17:24, 17:24] = 1.0  # a square of 7 x 7 around the centre
    g = device.generator(0)
    mass = m.cut_windows(x, (0.5, 1.0), 0, 0, False, g).sum((1, 2, 3))
    assert mass.min() == pytest.approx(49, rel=0.05) and mass.max() == pytest.approx(4 * 49, rel=0.05)
    shifted = m.cut_windows(x, (1.0, 1.0), 5, 0, False, g)
    centre = (shifted.sum(2)[:, 0] * torch.arange(41)).sum(1) / 49 - 20
    assert centre.abs().max() <= 5 + 1e-3 and centre.abs().max() > 4.7 and abs(centre.mean()) < 0.5
    bar = torch.zeros(400, 1, 41, 41)
    bar[:, :, 20, 10:31] = 1.0
    turned = m.cut_windows(bar, (1.0, 1.0), 0, 30, False, g)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    xx, xy = ((turned * u).sum((1, 2)) for u in (columns**2, rows * columns))
    slope = torch.rad2deg(torch.atan(xy / xx))
    assert 27 < slope.max() < 31 and -31 < slope.min() < -27


def test_jitter_without_strength_is_nothing_and_grey_is_grey():
    x, g = images(100, 3), device.generator(0)
    torch.testing.assert_close(m.jitter(x, 0.0, 0.0, g), x, atol=1e-6, rtol=0)
    grey = m.jitter(x, 0.0, 1.0, g)
    assert (grey - grey.mean(1, keepdim=True)).abs().max() < 1e-6
    torch.testing.assert_close(grey[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2], atol=1e-6, rtol=0)
    some = m.jitter(x, 0.4, 0.2, g)
    is_grey = ((some - some.mean(1, keepdim=True)).abs().flatten(1).amax(1) < 1e-6).sum()
    assert 5 <= is_grey <= 40 and some.min() >= 0 and some.max() <= 1
    assert not torch.equal(some, x)


# --- the mixes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mu_x", "ratio", "mu_y"),
    [(0.7, 1.5, 0.7), (0.7, 3, 0.85), (0.4, 3, 0.4), (0.95, 3, 1.0), (0.7, 10, 1.0), (0.7, 2.0, 0.7), (0.5, 3, 0.5)],
)
def test_label_share_by_hand(mu_x, ratio, mu_y):
    share = m.label_share(torch.tensor([mu_x]), torch.tensor([float(ratio)]), *PAPER)
    assert share.item() == pytest.approx(mu_y, abs=1e-6)


def test_parameters_are_the_papers():
    assert (m.kappa, m.tau, m.delta, m.alpha) == (*PAPER, 0.2)


def both(count=4000):
    """Old images of zeros with classes 0-5, new ones of ones with classes 6-9, and rows of which the new are longer."""
    g = device.generator(0)
    old = torch.zeros(count, 1, 2, 2), torch.randint(6, (count,), generator=g)
    new = torch.ones(count, 1, 2, 2), torch.randint(6, 10, (count,), generator=g)
    weight = F.normalize(torch.randn(10, 8, generator=g)) * torch.tensor([1.0] * 6 + [1.5, 3.0, 4.0, 5.0])[:, None]
    return old, new, weight


def test_adpmix_blends_the_old_with_the_new_and_shifts_towards_the_old():
    old, new, weight = both()
    x, y, (mu_x, ratio) = m.adpmix(old, new, weight, PAPER, m.beta_shares, device.generator(1))
    torch.testing.assert_close(1 - x, mu_x[:, None, None, None].expand_as(x), atol=1e-6, rtol=0)
    torch.testing.assert_close(ratio, torch.tensor([1.5, 3.0, 4.0, 5.0])[new[1] - 6])  # new over old
    torch.testing.assert_close(y.sum(1), torch.ones(len(y)))
    torch.testing.assert_close(y.gather(1, old[1][:, None])[:, 0], m.label_share(mu_x, ratio, *PAPER))
    assert ((y > 0).sum(1) <= 2).all() and torch.equal(y.gather(1, new[1][:, None])[:, 0], y[:, 6:].sum(1))
    shifted = y[:, :6].sum(1) > mu_x + 1e-4
    open_ended = mu_x < 1 - 1e-3
    assert torch.equal(shifted[open_ended], ((ratio > 2) & (mu_x > 0.5))[open_ended])


@pytest.mark.parametrize("shift", [(2.0, 0.5, 0.0), (math.inf, 0.5, 0.05)])
def test_without_a_shift_adpmix_is_mixup_between_memory_and_stream(shift):
    old, new, weight = both()
    x, y, (mu_x, _) = m.adpmix(old, new, weight, shift, m.beta_shares, device.generator(1))
    torch.testing.assert_close(x[:, 0, 0, 0], 1 - mu_x, atol=1e-6, rtol=0)
    everyone, partner = torch.cat([old[1], new[1]]), torch.arange(2 * len(y)).roll(len(y))
    expected = mixing.soft_labels(everyone, partner, mu_x.repeat(2), 10)
    torch.testing.assert_close(y, expected[: len(y)])


def test_no_gradient_flows_through_the_ratio():
    old, new, weight = both()
    weight.requires_grad_()
    x, y, _ = m.adpmix(old, new, weight, PAPER, m.beta_shares, device.generator(1))
    assert not y.requires_grad and not x.requires_grad


def test_enmix_is_mixup_of_what_it_is_given():
    x, y = images(64), torch.arange(64) % 10
    mixture = mixing.mixup(x, m.alpha, device.generator(3), per_sample=True)
    mixed, targets = m.enmix(x, y, 10, m.beta_shares, device.generator(3))
    assert torch.equal(mixed, mixture.x) and torch.equal(targets, mixture.targets(y, 10))
    assert mixture.ratio.unique().numel() > 60  # a share for each image


def test_shares_are_beta():
    mu = m.beta_shares(400_000, device.generator(0))
    assert ((mu > 0.1) & (mu < 0.9)).float().mean() == pytest.approx(0.327, abs=0.004)
    assert (mu > 0.9).float().mean() == pytest.approx(0.337, abs=0.004)


# --- one step --------------------------------------------------------------------------------------------------------

STILL = dict(window=(1.0, 1.0), shift=0, turn=0, flip=False, colour=0.0, grey=0.0)


def arm(*parts, replay=True, shares=m.beta_shares, shift=PAPER):
    """An arm as the experiment makes them."""
    return {"parts": list(parts), "replay": replay, "shares": shares, "shift": shift}


def one_step(which, memory_labels, first_new=6):
    """``step_batch`` with incoming images 0.25 of classes 6 and 7 and memory images 0.75, without augmentation."""
    new = torch.full((10, 1, 8, 8), 0.25), 6 + torch.arange(10) % 2
    drawn = torch.full((len(memory_labels), 1, 8, 8), 0.75), torch.tensor(memory_labels, dtype=torch.int64)
    weight = torch.ones(10, 4) * torch.tensor([1.0] * 6 + [3.0] * 4)[:, None]
    return m.step_batch(which, new, drawn, first_new, weight, STILL, device.generator(0)), new, drawn


def test_parts_of_a_step():
    (x, y, pairs), new, drawn = one_step(arm("DA", "EnMix", "AdpMix"), [0, 1, 2, 3, 4, 5, 6, 7, 6, 7])
    assert len(x) == len(y) == 50 and len(pairs) == 1 and pairs[0].shape == (2, 10)
    assert torch.equal(x[:20], torch.cat([new[0], drawn[0]]))
    assert torch.equal(y[:20].argmax(1), torch.cat([new[1], drawn[1]]))
    torch.testing.assert_close(x[20:40], torch.full_like(x[20:40], 0.75), atol=1e-5, rtol=0)  # memory, blended or not
    assert torch.equal(y[20:30], y[10:20])
    mu_x = pairs[0][0]
    torch.testing.assert_close(x[40:, 0, 0, 0], 0.25 + 0.5 * mu_x, atol=1e-5, rtol=0)
    # memory images of the running task, classes 6 and 7, are not old
    torch.testing.assert_close(y[40:, :6].sum(1), m.label_share(mu_x, torch.full((10,), 3.0), *PAPER))
    assert torch.equal(y[40:].gather(1, new[1][:, None])[:, 0], y[40:, 6:].sum(1))
    torch.testing.assert_close(y.sum(1), torch.ones(50))


def test_without_old_classes_there_is_no_adpmix_and_the_number_of_samples_stays():
    (x, y, pairs), _, drawn = one_step(arm("DA", "EnMix", "AdpMix"), [6, 7] * 5)
    assert len(x) == 50 and not pairs
    assert torch.equal(y[40:].argmax(1), drawn[1])
    torch.testing.assert_close(x[40:], drawn[0], atol=1e-5, rtol=0)
    assert len(one_step(arm("DA", "EnMix", "AdpMix"), [])[0][0]) == 10  # the very first step: an empty memory


def test_fine_tuning_sees_no_memory_and_replay_no_augmentation():
    assert len(one_step(arm(replay=False), [0, 1, 2])[0][0]) == 10
    assert len(one_step(arm(), [0, 1, 2])[0][0]) == 13


def toy(tasks=3, per_class=40):
    """Images whose brightness says the class: a stream of ``tasks`` tasks with two classes each, and test images."""
    classes = 2 * tasks
    y = torch.arange(classes).repeat_interleave(per_class)
    x = (y[:, None, None, None] / classes + 0.05 * images(len(y))).clamp(0, 1)
    order = torch.randperm(len(y), generator=device.generator(1))
    x, y = x[order], y[order]
    return [(x[y // 2 == t], y[y // 2 == t]) for t in range(tasks)], (x, y), classes


def test_learning_keeps_originals_and_replays_the_same_images_in_every_arm():
    stream, test, classes = toy()
    originals, memories, visited = torch.cat([x for x, _ in stream]), [], []
    for which in (arm(), arm("DA", "EnMix", "AdpMix")):
        with device.fork(0):
            net = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, classes)
            )
        memory = m.Memory(12, (1, 8, 8), "cpu")
        tables, pairs = m.learn(net, stream, test, which, 0.1, memory, m.DIGITS, 10, 0, on_task=visited.append)
        distance = (memory.x.flatten(1)[:, None] - originals.flatten(1)).abs().amax(2).amin(1)
        assert distance.max() == 0
        memories.append(memory.x)
        assert tables.shape == (3, 6, 6) and tables.sum(2)[0].tolist() == [40, 40, 0, 0, 0, 0]
        assert (tables[2].sum(1) == 40).all()
    assert torch.equal(*memories)
    assert visited == [0, 1, 2] * 2
    assert pairs.shape == (2, 160)  # eight steps of ten in each of the last two tasks


def test_learning_is_reproducible_and_depends_on_the_seed():
    stream, test, classes = toy()

    def outcome(seed):
        with device.fork(0):
            net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
        m.learn(net, stream, test, arm("DA", "AdpMix"), 0.1, m.Memory(12, (1, 8, 8), "cpu"), m.DIGITS, 10, seed)
        return net[1].weight

    assert torch.equal(outcome(0), outcome(0)) and not torch.equal(outcome(0), outcome(1))


def test_delta_matters_only_where_a_label_is_shifted():
    """The page takes the run with delta = 0 from DualMix's where no label was shifted."""
    stream, test, classes = toy()

    def outcome(shift):
        with device.fork(0):
            net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))
        which = arm("DA", "EnMix", "AdpMix", shift=shift)
        _, pairs = m.learn(net, stream, test, which, 0.1, m.Memory(12, (1, 8, 8), "cpu"), m.DIGITS, 10, 0)
        return net[1].weight, (m.label_share(*pairs, *shift) > pairs[0]).any()

    (never, no), (unshifted, also_no), (always, yes) = (
        outcome(s) for s in ((9.0, 0.5, 0.05), (0, 0.5, 0), (0, 0.5, 0.05))
    )
    assert yes and not no and not also_no
    assert torch.equal(never, unshifted) and not torch.equal(never, always)


# --- the scores ------------------------------------------------------------------------------------------------------

NAN = math.nan


def test_scores_of_a_hand_table():
    a = torch.tensor([[0.9, NAN, NAN], [0.6, 0.8, NAN], [0.7, 0.5, 0.9]])
    assert m.average_accuracy(a) == pytest.approx(0.7)
    assert m.forgetting(a) == pytest.approx(0.25)
    better = torch.tensor([[0.5, NAN], [0.7, 0.9]])
    assert m.forgetting(better) == pytest.approx(
        -0.2
    )  # the maximum is over l < T: learning on counts against forgetting
    assert m.forgetting(better[:1, :1]) == 0


def test_accuracies_and_crossings_of_confusion_tables():
    first = [[4, 1, 0, 0], [0, 5, 0, 0], [0] * 4, [0] * 4]
    second = [[1, 1, 3, 0], [0, 3, 1, 1], [1, 0, 4, 0], [0, 0, 0, 5]]
    tables = torch.tensor([first, second])
    a = m.accuracy_table(tables)
    assert a[0, 0] == 90 and a[0, 1].isnan() and a[1].tolist() == [40, 90]
    assert m.crossings(tables).tolist() == [[6, 5, 1, 1]]


def test_confusion_counts_rows_by_truth():
    net = torch.nn.Identity()
    logits = F.one_hot(torch.tensor([0, 1, 1, 2]), 3).float()
    table = m.confusion(net, logits, torch.tensor([0, 0, 1, 2]), 3)
    assert table.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_portrait_of_a_memory_that_does_not_change_has_no_spread_and_one_that_does_has():
    memory, g = m.Memory(30, (1, 8, 8), "cpu"), device.generator(0)
    memory.offer(images(20), torch.arange(20) % 4, g)  # ten slots stay empty
    with device.fork(0):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    risk, deviation, proxy = m.memory_portrait(net, memory, 4, lambda x, y, g: (x, F.one_hot(y, 4).float()), 5, g)
    assert risk == pytest.approx(F.cross_entropy(net(images(20)), torch.arange(20) % 4).item(), rel=1e-5)
    assert deviation < 1e-6 and proxy < 1e-6
    # images scaled by one random number: the spread of the mean output is known
    scales = torch.rand(50, generator=device.generator(5)).tolist()
    factors = iter(scales)
    _, _, proxy = m.memory_portrait(net, memory, 3, lambda x, y, g: (next(factors) * x, F.one_hot(y, 4).float()), 50, g)
    with torch.no_grad():
        u = torch.stack([net(s * images(20)).softmax(1).mean(0) for s in scales])
    assert proxy == pytest.approx(u.std(0)[:3].mean().item(), rel=1e-4)


# --- the reduced ResNet-18 -------------------------------------------------------------------------------------------


def test_reduced_resnet_is_that_of_the_benchmarks():
    """avalanche-lib 0.6.0's SlimResNet18(100), in evaluation mode, with weights and inputs by formula."""
    net = nets.resnet18(3, 100, 20).eval()
    assert sum(p.numel() for p in net.parameters()) == 1_109_240
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            wave = (torch.arange(p.numel()).double() * 0.7548776662 + 0.1 * i) % 1
            wave = (wave - 0.5) * 2 / p[0].numel() ** 0.5 if p.dim() > 1 else 0.5 + 0.5 * wave
            p.copy_(wave.float().view_as(p))
        x = (torch.arange(2 * 3 * 32 * 32).double() * 0.5698402910 % 1).float().view(2, 3, 32, 32)
        expected = torch.tensor([1.4460, 0.6718, -0.2314, 0.4755, 0.9286])
        torch.testing.assert_close(net(x)[0, :5], expected, atol=2e-4, rtol=0)
