"""AdAutoMix: masks, losses and who is trained by what, in closed form and against the authors' mask block."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from shared import device, tasks
from tests.notebooks import load_method

m = load_method("mixing/adversarial-automixup")


def wave(shape, phase, scale):
    """Numbers by formula: scale sin(phase + 1.7 i), the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(phase + 1.7 * i)).float().view(shape)


def wavy_generator(channels=6):
    """A generator whose weights are far from zero."""
    mixer = m.MaskGenerator(channels)
    with torch.no_grad():
        for i, layer in enumerate((mixer.query, mixer.key, mixer.value)):
            layer.weight.copy_(wave(layer.weight.shape, i, 1.5))
            layer.bias.copy_(wave(layer.bias.shape, i + 0.5, 0.5))
    return mixer


@pytest.mark.parametrize(
    ("ratios", "sums", "places", "values"),
    [
        (
            [0.5, 0.3, 0.2],
            [289.839312, 136.58024, 85.580447],
            [(0, 0, 0, 0), (1, 0, 3, 5), (2, 1, 8, 8), (0, 1, 15, 2), (2, 0, 7, 12)],
            [0.19424, 0.367998, 0.083672, 0.37979, 0.013308],
        ),
        (
            [0.7, 0.3],
            [326.894896, 185.105104],
            [(0, 0, 0, 0), (1, 0, 3, 5), (1, 1, 8, 8), (0, 1, 15, 2), (1, 0, 7, 12)],
            [0.220022, 0.569323, 0.260817, 0.503452, 0.154403],
        ),
    ],
)
def test_the_authors_block_gives_the_same_masks(ratios, sums, places, values):
    # Figures: AdaptiveMask of JinXins/Adversarial-AutoMixup, commit 9d6fd12 (openmixup/models/heads/Ada_mix_pine.py),
    # in_channel=6, reduction=2, lam_concat=True, bilinear, scale 4, weights as in ``wavy_generator``; PyTorch 2.15.
    features = wave((len(ratios), 2, 6, 4, 4), 0.3, 1.0)
    masks = wavy_generator()(features, torch.tensor(ratios), (16, 16))[:, :, 0]
    assert masks.double().sum((1, 2, 3)).tolist() == pytest.approx(sums, abs=1e-3)
    assert [masks[place].item() for place in places] == pytest.approx(values, abs=1e-5)


def test_masks_are_the_written_out_sums():
    """Equation (2) with loops over slots and positions."""
    n, ratios = 3, torch.tensor([0.2, 0.5, 0.3])
    features, mixer = wave((n, 1, 6, 2, 3), 1.0, 1.0), wavy_generator()
    positions = [torch.cat([features[i, 0].flatten(1), ratios[i].expand(1, 6)]).T for i in range(n)]  # (6, 7)
    q = [F.relu(F.linear(p, mixer.query.weight[:, :, 0, 0], mixer.query.bias)) for p in positions]
    k = [F.relu(F.linear(p, mixer.key.weight[:, :, 0, 0], mixer.key.bias)) for p in positions]
    v = [F.linear(p, mixer.value.weight[:, :, 0, 0], mixer.value.bias)[:, 0] for p in positions]
    maps = torch.zeros(n, 6)
    for slot, place in itertools.product(range(n), range(6)):
        others = [k[other] for other in range(n) if other != slot]
        scores = torch.stack([sum(q[slot][place] @ other[j] for other in others) for j in range(6)])
        maps[slot, place] = (scores / 3**0.5).softmax(0) @ v[slot]
    found = mixer(features, ratios, (2, 3))[:, 0, 0].flatten(1)
    assert torch.allclose(found, maps.softmax(0), atol=1e-5)


def test_size_of_the_generator():
    assert sum(p.numel() for p in m.MaskGenerator(32).parameters()) == 1122


def test_two_slots_keep_the_batch_and_share_one_ratio():
    g = device.generator(0)
    assert m.draw_slots(9, 2, g)[0].tolist() == list(range(9))
    assert m.draw_ratios(2, 1.0, g).sum().item() == pytest.approx(1)
    slots = m.draw_slots(9, 3, g)
    assert slots.sort(1).values.tolist() == [list(range(9))] * 3
    assert slots[0].tolist() != list(range(9))


def test_mixture_loss_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4 and 3/4
    draw = m.Draw(torch.tensor([[0], [1], [1]]), torch.tensor([0.5, 0.3, 0.2]))
    loss = m.amce(logits, torch.tensor([0, 1]), draw)
    assert loss.item() == pytest.approx(-0.5 * math.log(0.25) - 0.5 * math.log(0.75))


def test_resemblance_by_hand():
    clean = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    draw = m.Draw(torch.tensor([[0], [1]]), torch.tensor([0.8, 0.2]))
    assert m.resemblance(torch.tensor([[3.0, 0.0]]), clean, draw).item() == pytest.approx(0.8)


def test_sign_and_weight_of_the_generators_loss():
    logits, clean = wave((4, 5), 0.0, 2.0), wave((4, 5), 2.0, 1.0)
    y = torch.tensor([0, 1, 2, 3])
    draw = m.Draw(m.draw_slots(4, 3, device.generator(1)), torch.tensor([0.6, 0.3, 0.1]))
    loss, cosine = m.amce(logits, y, draw), m.resemblance(logits, clean, draw)

    def identity(x):
        return x

    for sign in (1.0, -1.0):
        found = m.generator_loss(identity, logits, clean, y, draw, True, 0.3, sign)
        assert found.item() == pytest.approx((-0.3 * loss + sign * 0.7 * cosine).item())
    assert m.generator_loss(identity, logits, clean, y, draw, False, 0.3, 1.0) == loss


def test_the_students_loss_in_full_and_split():
    """Equation (6) from its three terms, computed one by one; without batch norm, so that rows are independent."""
    x, y = wave((8, 1, 8, 8), 0.0, 1.0), torch.arange(8) % 4
    features, mixer = wave((8, 6, 4, 4), 1.0, 1.0), wavy_generator()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    draw = m.Draw(m.draw_slots(8, 3, device.generator(2)), torch.tensor([0.5, 0.3, 0.2]))
    for split, rows in ((False, [range(8)] * 3), (True, [range(4), range(4, 6), range(6, 8)])):
        mixed, clean, plain = (slice(r.start, r.stop) for r in rows)
        masks = mixer(features[draw.slots], draw.ratios, (8, 8))
        expected = m.amce(net(m.mix(x, masks, draw.slots))[mixed], y, draw.rows(mixed))
        expected = expected + 0.5 * F.cross_entropy(net(x[clean]), y[clean])
        flat = m.mix(x, m.constant(draw.ratios), draw.slots)
        expected = expected + 0.5 * m.amce(net(flat)[plain], y, draw.rows(plain))
        found = m.student_loss(net, *m.student_batch(x, y, features, mixer, draw, 4, split))
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_two_images_have_no_plain_term():
    assert m.roles(40, m.term_weights(2), True) == [slice(0, 20), slice(20, 40), slice(40, 40)]
    assert m.roles(40, m.term_weights(2), False) == [slice(0, 40), slice(0, 40), slice(0, 0)]


@pytest.mark.parametrize(("first", "plain"), [(0.02, True), (0.98, True), (0.05, False), (0.5, False)])
def test_extreme_ratios_fall_back_to_plain_mixing(first, plain):
    x, features = wave((8, 1, 8, 8), 0.0, 1.0), wave((8, 6, 4, 4), 1.0, 1.0)
    rest = (1 - first) / 2
    draw = m.Draw(m.draw_slots(8, 3, device.generator(2)), torch.tensor([first, rest, rest]))
    images, _, _ = m.student_batch(x, torch.arange(8) % 4, features, wavy_generator(), draw, 4, False)
    flat = m.mix(x, m.constant(draw.ratios), draw.slots)
    assert torch.allclose(images[:8], flat, atol=1e-6) == plain


def small():
    """A task of few digits, its network, and the first batch."""
    task = tasks.load("mnist5k", 0, train=100, validation=100, test=100, epochs=1)
    return task, tasks.network(task, 0), tuple(part[:40] for part in task.train)


def test_the_teacher_lags_one_update_and_alternation_counts_the_generators_steps():
    _, net, batch = small()
    step = m.MixingStep(m.Policy("adversarial", every=2, momentum=(0.75, 0.75)), net, 6, 32, 10, 8, 0)
    start = net[0].weight.detach().clone()
    seen, g = [], device.generator(0)
    for _ in range(5):
        step(net, *batch, g)
        seen.append(step.turns)
    assert seen == [1, 1, 2, 2, 3]
    with torch.no_grad():
        net[0].weight += 1
    step(net, *batch, g)
    assert torch.allclose(step.teacher[0].weight, start + 0.25, atol=1e-6)


def test_every_other_step_of_the_generator_is_adversarial(monkeypatch):
    _, net, batch = small()
    seen, real = [], m.generator_loss

    def spy(*arguments):
        seen.append(arguments[5])
        return real(*arguments)

    monkeypatch.setattr(m, "generator_loss", spy)
    g = device.generator(0)
    for objective in ("adversarial", "cooperative"):
        step = m.MixingStep(m.Policy(objective, every=2), net, 6, 32, 10, 8, 0)
        for _ in range(8):
            step(net, *batch, g)
    assert seen == [True, False, True, False] + [False] * 4


def test_a_generator_without_the_ratio_map_cannot_see_the_ratios():
    features, mixer = wave((3, 2, 6, 4, 4), 0.3, 1.0), wavy_generator()
    kinds = [torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, 0.1, 0.8])]
    first, second = (mixer(features, ratios, (8, 8)) for ratios in kinds)
    assert not torch.allclose(first, second, atol=1e-2)
    mixer.ratio_map = False
    first, second = (mixer(features, ratios, (8, 8)) for ratios in kinds)
    assert torch.equal(first, second)


def test_turning_the_slots_turns_the_masks():
    features, ratios, mixer = wave((3, 2, 6, 4, 4), 0.3, 1.0), torch.tensor([0.5, 0.3, 0.2]), wavy_generator()
    turn = torch.tensor([2, 0, 1])
    masks, turned = mixer(features, ratios, (8, 8)), mixer(features[turn], ratios[turn], (8, 8))
    assert torch.allclose(turned, masks[turn], atol=1e-5)
    assert torch.allclose(masks.sum(0), torch.ones(2, 1, 8, 8), atol=1e-6)


def test_random_masks_never_learn_and_vary():
    _, net, (x, y) = small()
    step = m.MixingStep(m.Policy("none"), net, 6, 32, 10, 8, 0)
    before = [p.clone() for p in step.mixer.parameters()]
    step(net, x, y, device.generator(0))
    assert all(map(torch.equal, before, step.mixer.parameters()))
    assert m.inspect(step, x, y, 2, 0)[0]["contrast"] > 0.01


def test_pace_ends():
    assert m.pace(0, 10, 0.9, 0.99) == pytest.approx(0.9)
    assert m.pace(10, 10, 0.9, 0.99) == pytest.approx(0.99)
    assert m.pace(5, 10, 0.9, 0.99) == pytest.approx(0.945)


@pytest.mark.parametrize("split", [False, True])
def test_gradients_reach_whom_they_should(split):
    _, net, batch = small()
    step = m.MixingStep(m.Policy("cooperative", split=split), net, 6, 32, 10, 8, 0)
    buffers = net[1].running_mean.clone()
    start = [p.clone() for p in step.mixer.parameters()]
    draw = m.Draw(m.draw_slots(40, 3, device.generator(0)), torch.ones(3) / 3)
    step.train_generator(*batch, *step.look(batch[0]), draw)
    assert not all(map(torch.equal, start, step.mixer.parameters()))
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is None for p in step.teacher.parameters())
    assert torch.equal(net[1].running_mean, buffers)  # the student did not see the generator's mixtures


def test_adversarial_steps_make_mixtures_harder_and_cooperative_ones_easier():
    """The generator alone, against a fixed teacher: 30 steps of one kind, then 30 of the other."""
    task = tasks.load("mnist5k", 0, train=500, validation=100, test=100, epochs=20)
    net = tasks.network(task, 0)
    tasks.fit(task, net, 0)
    step = m.MixingStep(m.Policy("adversarial", optimizer=("adam", 0.03)), net, 6, 32, 10, 100, 0)
    g, (x, y) = device.generator(1), tuple(part[:40] for part in task.train)
    hardness = [m.inspect(step, *task.validation, 3, 5)[0]["hardness"]]
    for objective in ("adversarial", "cooperative"):
        step.policy = step.policy._replace(objective=objective)
        for _ in range(30):
            step.turns = 0  # even: adversarial, if the objective is
            step.train_generator(x, y, *step.look(x), m.Draw(m.draw_slots(40, 3, g), m.draw_ratios(3, 1.0, g)))
        hardness.append(m.inspect(step, *task.validation, 3, 5)[0]["hardness"])
    start, hard, easy = hardness
    assert hard > start + 0.05
    assert easy < hard - 0.05


def test_inspect_splits_hardness_and_leaves_no_trace():
    _, net, (x, y) = small()
    step = m.MixingStep(m.Policy("none"), net, 6, 32, 10, 8, 0)
    buffer = step.teacher[1].running_mean.clone()
    found, masks = m.inspect(step, x, y, 3, 4)
    assert found["hardness"] == pytest.approx(found["area"] + found["place"], abs=1e-5)
    assert torch.equal(step.teacher[1].running_mean, buffer)
    assert masks.shape == (3, 40, 1, 28, 28)
    assert m.inspect(step, x, y, 3, 4)[0] == found
