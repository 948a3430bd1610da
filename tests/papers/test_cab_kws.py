import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from shared import device, training
from shared.data import speech
from tests.notebooks import load_method


@pytest.fixture(scope="module")
def m():
    return load_method("language/cab-kws")


def tone(hertz, seconds=1.0):
    time = torch.arange(speech.RATE) / speech.RATE
    inside = (time - 0.5).abs() < seconds / 2
    return (inside * torch.sin(2 * math.pi * hertz * time))[None]


# Perturbations


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.1, 1.25])
def test_speed_scales_pitch_and_duration(m, factor):
    burst = tone(440, 0.4)
    played = m.change_speed(burst, factor)
    assert played.shape == burst.shape
    peak = torch.fft.rfft(played, n=160_000).abs().argmax().item() / 10  # in Hz, to a tenth
    assert peak == pytest.approx(440 * factor, abs=0.5)
    loud = torch.where(played[0].abs() > 0.05)[0]
    assert (loud[-1] - loud[0]).item() / speech.RATE == pytest.approx(0.4 / factor, abs=0.005)
    assert (loud[-1] + loud[0]).item() / 2 == pytest.approx(speech.RATE / 2, abs=20)  # stays in the middle
    assert played.abs().max().item() == pytest.approx(1, abs=0.1)


def test_speed_of_one_returns_the_input(m):
    waves = torch.randn(3, speech.RATE, generator=device.generator(0))
    assert torch.allclose(m.change_speed(waves, 1.0), waves, atol=1e-5)


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_speed_agrees_with_an_independent_resampler(m, factor):
    """Ours cuts the spectrum, the library's is a windowed sinc; their middles lie half a sample apart."""
    spectrum = torch.zeros(4, speech.RATE // 2 + 1, dtype=torch.complex64)
    spectrum[:, 100:1500] = torch.randn(4, 1400, dtype=torch.complex64, generator=device.generator(0))
    waves = torch.fft.irfft(spectrum, n=speech.RATE) * torch.hann_window(speech.RATE)
    ours, theirs = m.change_speed(waves, factor), speech.change_speed(waves, torch.full((4,), factor))
    assert (ours - theirs).square().mean() < 5e-3 * theirs.square().mean()


def test_speed_folds_nothing_back(m):
    """At 1.25 times the speed 7 kHz would become 8.75 kHz, which 16 kHz cannot carry: silence, not a false tone."""
    assert m.change_speed(tone(7000), 1.25)[0, 4000:12_000].abs().max() < 0.01


def test_volume_shifts_log_features_by_a_constant_and_vanishes_by_clip(m):
    waves = tone(440) + 0.01 * torch.randn(1, speech.RATE, generator=device.generator(0))
    louder = m.change_volume(waves, torch.tensor([2.0]))
    shift = speech.log_mel(louder) - speech.log_mel(waves)
    assert torch.allclose(shift, torch.full_like(shift, 2 * math.log(2)), atol=1e-3)
    assert torch.allclose(m.features(louder), m.features(waves), atol=1e-3)
    slower = m.features(m.change_speed(waves, 0.8))
    assert (slower - m.features(waves)).abs().mean() > 0.1


def test_every_copy_has_noise_of_its_own(m):
    waves, g = tone(440).repeat(4, 1), device.generator(0)
    noises = torch.randn(5, speech.RATE, generator=g)
    first, second = (m.listen(waves, noises, g) for _ in range(2))
    assert first.shape == (4, 98, 40)
    for one, other in itertools.combinations([*first, *second], 2):
        assert (one - other).abs().mean() > 0.01
    quiet = m.listen(waves, torch.zeros(5, speech.RATE), g, volume=True)
    assert torch.allclose(quiet, m.features(waves), atol=1e-2)


# The network


def test_soft_pool_limits(m):
    x = torch.randn(2, 11, 6, generator=device.generator(0))
    pool = m.SoftPool(6, g=2)
    assert pool(x).shape == (2, 5, 6)
    torch.nn.init.zeros_(pool.attention.weight)
    assert torch.allclose(pool(x), x[:, :10].unflatten(1, (5, 2)).mean(2), atol=1e-6)
    pool.attention.weight.data = 1e4 * torch.eye(6)
    assert torch.allclose(pool(x), x[:, :10].unflatten(1, (5, 2)).amax(2), atol=1e-3)
    constant = torch.randn(1, 1, 6).expand(1, 8, 6)
    assert torch.allclose(m.SoftPool(6, g=4)(constant), constant[:, :2], atol=1e-6)


def test_one_clip_does_not_depend_on_its_batch(m):
    with device.fork(0):
        net, x = m.Encoder(), torch.randn(5, 98, 40)
    assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5)
    assert net.training  # the property holds in training mode, where batch normalisation would break it


def test_paper_sized_network(m):
    net = m.Encoder(channels=32, width=320, layers=2, bottleneck=800)
    assert net(torch.randn(2, 98, 40)).shape == (2, 800)
    assert net.bottleneck.in_features == 640


@pytest.mark.parametrize("frames", [slice(0, 8), slice(90, 98)])
def test_the_bottleneck_hears_the_beginning_and_the_end(m, frames):
    with device.fork(0):
        net, x = m.Encoder(), torch.randn(3, 98, 40)
    changed = x.clone()
    changed[:, frames] += 1
    assert (net(changed) - net(x)).abs().amax(1).min() > 1e-4


def test_feature_selecting_takes_the_last_frames(m):
    """Without what mixes frames (Transformer, group normalisation), only the end of a clip reaches the bottleneck."""
    with device.fork(0):
        net, x = m.Encoder(), torch.randn(3, 98, 40)
    net.transformer = net.convolution.blocks = torch.nn.Identity()
    early, late = x.clone(), x.clone()
    early[:, :70] += 1
    late[:, 90:] += 1
    assert torch.allclose(net(early), net(x), atol=1e-5)
    assert (net(late) - net(x)).abs().amax(1).min() > 0.01


# Losses


def test_reconstruction_and_similarity_by_hand(m):
    x = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])  # mean over frames: (2, 4)
    assert m.reconstruction_loss(x, torch.tensor([[0.0, 4.0]])).item() == pytest.approx(2.0)
    assert m.similarity_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])).item() == pytest.approx(2.5)


@pytest.mark.parametrize("temperature, expected", [(1.0, 2 * math.log(1 + 2 / math.e)), (0.1, 1.816e-4)])
def test_dual_loss_one_hot(m, temperature, expected):
    y = torch.tensor([0, 0, 1, 1])
    hot = F.one_hot(y).double()
    assert m.dual_loss(hot, hot, y, temperature).item() == pytest.approx(expected, rel=1e-3)


def test_dual_loss_leaves_the_sample_itself_out(m):
    y = torch.tensor([0, 0, 1, 1])
    assert m.dual_loss(torch.zeros(4, 2), torch.zeros(4, 2), y).item() == pytest.approx(2 * math.log(3), abs=1e-5)


def test_dual_loss_skips_lonely_labels_and_stays_differentiable(m):
    z = torch.randn(5, 3, generator=device.generator(0), requires_grad=True)
    y = torch.tensor([0, 0, 1, 1, 2])
    loss = m.dual_loss(z, torch.ones(5, 3), y)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


def test_dual_loss_against_the_sum_written_out(m):
    g, t = device.generator(1), 0.3
    y = torch.tensor([0, 1, 2, 0, 1, 0, 3])
    z, theta = torch.randn(7, 4, generator=g).double(), torch.randn(4, 4, generator=g).double()[y]
    total = 0.0
    for left, right in ((theta, z), (z, theta)):  # theta_p . z_i, then theta_i . z_p
        terms = []
        for i in range(7):
            others = [a for a in range(7) if a != i]
            companions = [p for p in others if y[p] == y[i]]
            if companions:
                below = sum(math.exp(left[a] @ right[i] / t) for a in others)
                above = [-math.log(math.exp(left[p] @ right[i] / t) / below) for p in companions]
                terms.append(sum(above) / len(companions))
        total += sum(terms) / len(terms)
    assert m.dual_loss(z, theta, y, t).item() == pytest.approx(total, rel=1e-9)


def made_by_formula():
    """Six unit features, unit classifier columns of three classes, other unit features, labels; no random numbers."""
    i, k = torch.arange(6.0, dtype=torch.float64)[:, None], torch.arange(4.0, dtype=torch.float64)
    z = F.normalize(torch.sin(1 + 1.7 * i + 0.9 * k**1.5), dim=1)
    columns = F.normalize(torch.cos(0.3 + 1.1 * i[:3] + 0.7 * k**2), dim=1)
    copies = F.normalize(torch.cos(2 + 0.8 * i - 0.6 * k), dim=1)
    return z, columns, copies, torch.tensor([0, 1, 2, 0, 1, 0])


def test_agrees_with_pytorch_metric_learning(m):
    """Expected: pytorch-metric-learning 2.9.0 (torch 2.15.0, float64), dot products of the unit vectors.

    Label form: SupConLoss(0.5) from features to columns plus from columns to features, with all pairs but (i, i);
    it leaves lonely samples out, as we do. Instance form: NTXentLoss(0.1) in both directions.
    """
    z, columns, copies, y = made_by_formula()
    assert m.dual_loss(z, columns[y], y, 0.5).item() == pytest.approx(1.7657933998365294 + 1.94721841649147, rel=1e-10)
    expected = 6.793245949310317 + 6.515789010139508
    assert m.instance_loss(z, copies, 0.1).item() == pytest.approx(expected, rel=1e-10)


def test_instance_loss_ignores_lengths_and_prefers_the_own_copy(m):
    e = torch.randn(8, 16, generator=device.generator(0))
    assert m.instance_loss(3 * e, 0.2 * e).item() == pytest.approx(m.instance_loss(e, e).item(), rel=1e-4)
    assert m.instance_loss(e, e) < m.instance_loss(e, e.roll(1, 0))


def test_the_whole_objective_has_the_papers_weights(m):
    with device.fork(0):
        encoder, head = m.Encoder(), torch.nn.Linear(128, 40)
        x, x_aug = torch.randn(2, 6, 98, 40)
    e, e_aug = encoder(x), encoder(x_aug)
    expected = (
        0.8 * (e - e_aug).square().mean()
        + 0.05 * (head(e) - x.mean(1)).square().mean()
        + 0.05 * (head(e_aug) - x_aug.mean(1)).square().mean()
        + 0.1 * m.instance_loss(e, e_aug)
    )
    loss = m.pretraining_loss(encoder, head, x, x_aug, **m.FULL)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_gradients_flow_through_both_copies(m):
    with device.fork(0):
        encoder, head = m.Encoder(), torch.nn.Linear(128, 40)
        x, x_aug = torch.randn(2, 6, 98, 40)
    loss = m.pretraining_loss(encoder, head, x, x_aug, similarity=1.0, reconstruction=0.0, contrast=0.0)
    (gradient,) = torch.autograd.grad(loss, encoder.bottleneck.weight)
    both = (encoder(x) - encoder(x_aug)).square().mean()
    (expected,) = torch.autograd.grad(both, encoder.bottleneck.weight)
    assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_fine_tuning_trains_every_weight_and_adds_the_label_form(m):
    with device.fork(0):
        net, x = m.Spotter(m.Encoder(), 3), torch.randn(6, 98, 40)
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    plain, dual = m.tuning_loss(net, x, y), m.tuning_loss(net, x, y, dual=0.1)
    assert plain.item() == pytest.approx(F.cross_entropy(net(x), y).item(), rel=1e-5)
    z, theta = F.normalize(net.encoder(x), dim=1), F.normalize(net.projection.weight, dim=1)[y]
    assert (dual - plain).item() == pytest.approx(0.1 * m.dual_loss(z, theta, y).item(), rel=1e-3)
    dual.backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("weight, collapses", [(0.0, True), (0.05, False)])
def test_similarity_alone_collapses(m, weight, collapses):
    with device.fork(0):
        spectra = torch.randn(16, 1, 40) + 0.5 * torch.randn(16, 98, 40)
        encoder, head = m.Encoder(channels=4, width=16, heads=2, bottleneck=16), torch.nn.Linear(16, 40)
    before = training.predict(encoder, spectra).var(0).mean()

    def step(pair, x, _, g):
        copies = [x + 0.5 * torch.randn(x.shape, generator=g) for _ in range(2)]
        return m.pretraining_loss(*pair, *copies, similarity=0.8, reconstruction=weight, contrast=0.0)

    pair = torch.nn.ModuleList([encoder, head])
    training.fit(pair, spectra, torch.zeros(16), step=step, epochs=100, batch_size=16, lr=5e-3, optimizer="adam")
    e = training.predict(encoder, spectra)
    assert (e.var(0).mean() < 0.01 * before).item() is collapses
    error, variance = m.reconstruction_loss(spectra, head(e)), spectra.mean(1).var(0, correction=0).mean()
    assert (error < 0.9 * variance).item() is not collapses
