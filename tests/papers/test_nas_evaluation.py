"""NAS evaluation: the metric, the DARTS space, networks and search, the tricks, the searches on measured cells."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

from shared.runner import source
from tests.notebooks import ROOT, load_method

SLUG = "architectures/nas-evaluation"


@pytest.fixture(scope="module")
def m():
    return load_method(SLUG)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fill(parameters):
    """Weights by formula: 0.3 sin(k) for the k-th number in order, plus 0.5 in vectors (scales, shifts, biases)."""
    k = 0
    with torch.no_grad():
        for p in parameters:
            values = torch.sin(torch.arange(k, k + p.numel(), dtype=torch.float64)) * 0.3 + 0.5 * (p.dim() == 1)
            p.copy_(values.reshape(p.shape))
            k += p.numel()


# ---------------------------------------------------------------------------------------------------------- the metric


def test_relative_improvement_of_the_released_logs(m):
    """Means of the eight runs each in the authors' CIFAR-10 log: DARTS 0.32 %, NSGA-Net -0.48 %."""
    darts = [97.47, 97.15, 97.41, 97.05, 96.93, 97.13, 97.40, 97.34]
    darts_random = [97.05, 96.85, 96.57, 97.09, 96.76, 97.10, 96.94, 97.02]
    assert round(m.relative_improvement(darts, darts_random), 2) == 0.32
    nsga = [95.61, 96.29, 95.39, 95.67, 95.52, 96.67, 97.18, 97.11]
    nsga_random = [97.07, 96.78, 96.49, 97.04, 97.08, 95.80, 96.28, 96.60]
    assert round(m.relative_improvement(nsga, nsga_random), 2) == -0.48


def test_relative_improvement_is_free_of_units_and_of_order(m):
    a, b = [90.0, 92.0], [88.0, 91.0]
    expected = m.relative_improvement(a, b)
    assert m.relative_improvement(np.array(a) / 100, np.array(b) / 100) == pytest.approx(expected)
    assert m.relative_improvement(a[::-1], b[::-1]) == pytest.approx(expected)
    assert m.relative_improvement(a, a) == 0
    assert m.relative_improvement([100 - v for v in a], [100 - v for v in b]) != pytest.approx(-expected, rel=0.5)


# ----------------------------------------------------------------------------------------------------------- the space


@pytest.mark.parametrize("name", ["max3", "avg3", "skip", "sep3", "sep5", "dil3", "dil5", "none"])
@pytest.mark.parametrize("stride", [1, 2])
def test_operations_keep_channels_and_divide_the_resolution(m, name, stride):
    out = m.operation(name, 6, stride)(torch.randn(2, 6, 8, 8, generator=seeded()))
    assert out.shape == (2, 6, 8 // stride, 8 // stride)


def test_unknown_operation_is_refused(m):
    with pytest.raises(ValueError, match="no operation 'sep9'"):
        m.operation("sep9", 4, 1)


@pytest.mark.parametrize(
    ("name", "reach"), [("max3", 1), ("avg3", 1), ("sep3", 2), ("sep5", 4), ("dil3", 2), ("dil5", 4), ("skip", 0)]
)
def test_receptive_fields(m, name, reach):
    """How far from a pixel an operation looks: the pair of a separable convolution is applied twice, dilation is 2."""
    op = m.operation(name, 4, 1).eval()
    fill(op.parameters())
    x = torch.rand(1, 4, 15, 15, generator=seeded(), requires_grad=True)
    op(x)[0, :, 7, 7].sum().backward()
    rows = x.grad[0].abs().sum(dim=(0, 2)).nonzero().flatten()
    if name == "max3":  # the gradient goes to the largest neighbour only
        assert (rows - 7).abs().max() <= reach
    else:
        assert (rows.min(), rows.max()) == (7 - reach, 7 + reach)


def test_factorised_reduction_reads_even_and_odd_pixels(m):
    reduce = m.FactorizedReduce(2, 4).eval()
    nn.init.ones_(reduce.even.weight)
    nn.init.ones_(reduce.odd.weight)
    x = torch.zeros(1, 2, 4, 4)
    x[0, 0, 1, 3] = 5.0  # odd row and column: the second half of the channels sees it, at (0, 1)
    out = reduce(x)
    assert out[0, :2].abs().sum() == 0
    assert out[0, 2:, 0, 1].allclose(torch.full((2,), 5.0), atol=1e-3)


def test_discretise_by_hand(m):
    """Node 0 has two edges and keeps both; node 1 keeps 0.9 (state 2) and 0.8 (state 0), not 0.7 (state 1)."""
    alpha = [
        torch.tensor([[0.1, 0.6, 9.0], [0.5, 0.2, 9.0]]),  # the last column is none
        torch.tensor([[0.8, 0.1, 0.0], [0.2, 0.7, 5.0], [0.9, 0.3, 0.0]]),
    ]
    assert m.discretise(alpha, ("a", "b")) == ((("b", 0), ("a", 1)), (("a", 0), ("a", 2)))


def test_discretise_agrees_with_the_authors_parser(m):
    """Computed once with ``parse`` of the authors' DARTS/genotypes.py (NAS-Benchmark, c2758da), same strengths."""
    normal, reduce = (
        [torch.sin(torch.arange((j + 2) * 8, dtype=torch.float32) + j + 5 * cell).reshape(j + 2, 8) for j in range(4)]
        for cell in range(2)
    )
    assert m.discretise(normal, m.OPERATIONS) == (
        (("skip", 0), ("dil5", 1)), (("dil3", 1), ("sep3", 2)), (("dil5", 0), ("sep5", 1)), (("sep3", 1), ("dil5", 3)),
    )  # fmt: skip
    assert m.discretise(reduce, m.OPERATIONS) == (
        (("sep3", 0), ("avg3", 1)), (("skip", 0), ("max3", 1)), (("avg3", 0), ("skip", 3)), (("dil5", 0), ("avg3", 3)),
    )  # fmt: skip


def test_random_architectures_are_valid_and_uniform(m):
    g = seeded()
    drawn = [m.random_genotype(3, ("a", "b", "c"), g) for _ in range(1500)]
    assert all(len(node) == 2 for genotype in drawn for cell in genotype for node in cell)
    edges = [(genotype.reduce[2][0][1], genotype.reduce[2][1][1]) for genotype in drawn]
    assert all(low < high for low, high in edges)
    observed = [edges.count(pair) for pair in sorted(set(edges))]
    assert len(observed) == 6  # pairs of four states
    assert scipy.stats.chisquare(observed).pvalue > 1e-3
    first = [genotype.normal[0][0][0] for genotype in drawn]
    assert scipy.stats.chisquare([first.count(name) for name in "abc"]).pvalue > 1e-3
    assert m.random_genotype(3, ("a", "b"), seeded(5)) == m.random_genotype(3, ("a", "b"), seeded(5))


# -------------------------------------------------------------------------------------------------------- the networks


def example(m):
    """An architecture with every operation, in both cells."""
    return m.Genotype(
        normal=(
            (("sep3", 0), ("dil5", 1)),
            (("max3", 1), ("skip", 2)),
            (("avg3", 0), ("sep5", 3)),
            (("dil3", 2), ("skip", 4)),
        ),
        reduce=(
            (("max3", 0), ("skip", 1)),
            (("sep3", 0), ("dil3", 2)),
            (("skip", 0), ("avg3", 1)),
            (("sep5", 1), ("dil5", 4)),
        ),
    )


def waves():
    """Two images by formula: cos(k) at the k-th of 2 x 3 x 32 x 32 numbers."""
    return torch.cos(torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)).reshape(2, 3, 32, 32).float()


def test_network_agrees_with_the_authors_network(m):
    """Logits of ``AugmentCNN`` (DARTS/models/augment_cnn.py of NAS-Benchmark, commit c2758da) with the same weights.

    Five cells, 4 channels, auxiliary tower, weights and images by formula; made once with PyTorch 2.15.0 on a CPU.
    """
    net = m.Network(example(m), 3, 10, 4, 5, auxiliary=True)
    fill(net.parameters())
    logits, extra = net.train()(waves())
    expected = [1.41815, 0.31385, -0.48152, -0.0667, 0.97258, 1.35064, 0.6655, -0.16539, -0.09837, 0.73663]
    assert logits[0].tolist() == pytest.approx(expected, abs=1e-4)
    expected = [-4.76618, -27.85804, -1.18388, 28.48828, 9.07979, -25.22929, -14.20527, 22.51559, 20.21874, -16.8577]
    assert extra[0].tolist() == pytest.approx(expected, abs=0.02)
    logits = net.eval()(waves())
    expected = [-0.08418, 0.06798, 0.82812, 1.20557, 0.66003, -0.16658, -0.21101, 0.66489, 1.42884, 1.10325]
    assert logits[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_search_network_agrees_with_the_authors_search_network(m):
    """Logits and gradients of the strengths of ``SearchCNNController`` (DARTS/models/search_cnn.py, same commit)."""
    alpha = m.Genotype(
        *(
            [
                torch.sin(torch.arange((j + 2) * 8, dtype=torch.float32) + j + 5 * cell)
                .reshape(j + 2, 8)
                .requires_grad_()
                for j in range(4)
            ]
            for cell in range(2)
        )
    )
    net = m.Network(alpha, 3, 10, 4, 5, cell=lambda *a: m.MixedCell(*a, operations=m.OPERATIONS))
    fill(net.parameters())
    logits = net(waves())
    expected = [0.32927, 0.11957, 0.31752, 0.64876, 0.75832, 0.59832, 0.40771, 0.38087, 0.46562, 0.50469]
    assert logits[0].tolist() == pytest.approx(expected, abs=2e-4)
    F.cross_entropy(logits, torch.tensor([3, 7])).backward()
    first, last = alpha.normal[0].grad.flatten()[:4], alpha.reduce[3].grad.flatten()[:4]
    assert first.tolist() == pytest.approx([0.020406, -0.167394, -0.111791, -0.055355], abs=2e-4)
    assert last.tolist() == pytest.approx([-0.101011, 0.008792, 0.003503, 0.001543], abs=2e-4)


def test_strengths_are_not_weights_of_the_search_network(m):
    """The published search network has 1,930,618 weights; its strengths are counted elsewhere."""
    alpha = m.Genotype(*([torch.zeros(j + 2, 8, requires_grad=True) for j in range(4)] for _ in range(2)))
    net = m.Network(alpha, 3, 10, 16, 8, cell=lambda *a: m.MixedCell(*a, operations=m.OPERATIONS))
    assert sum(p.numel() for p in net.parameters()) == 1_930_618


def test_reductions_sit_at_one_and_two_thirds(m):
    for depth, channels in [(3, [4, 8, 16]), (5, [4, 8, 8, 16, 16]), (8, [4, 4, 8, 8, 8, 16, 16, 16])]:
        net = m.Network(example(m), 1, 10, 4, depth)
        assert [cell.width // 4 for cell in net.cells] == channels


def test_a_network_of_skips_has_no_spatial_convolution_in_its_normal_cells(m):
    skips = tuple((("skip", 0), ("skip", 1)) for _ in range(3))
    net = m.Network(m.Genotype(skips, skips), 1, 4, 4, 5)
    sizes = {conv.kernel_size for cell in net.cells for conv in cell.modules() if isinstance(conv, nn.Conv2d)}
    assert sizes == {(1, 1)}
    net(torch.randn(4, 1, 8, 8, generator=seeded())).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


# ---------------------------------------------------------------------------------------------------------- the search


def test_alternating_steps_move_one_set_of_parameters_only(m):
    alpha = m.Genotype(*([torch.zeros(j + 2, 3, requires_grad=True) for j in range(2)] for _ in range(2)))
    net = m.Network(alpha, 1, 3, 4, 3, cell=lambda *a: m.MixedCell(*a, operations=("skip", "sep3")))
    strengths = [*alpha.normal, *alpha.reduce]
    batch = torch.randn(6, 1, 8, 8, generator=seeded()), torch.arange(6) % 3
    before = [p.detach().clone() for p in net.parameters()]
    m.alternate(net, torch.optim.SGD(strengths, lr=1.0), batch)
    assert any(a.detach().abs().sum() > 0 for a in strengths)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    kept = [a.detach().clone() for a in strengths]
    m.alternate(net, torch.optim.SGD(net.parameters(), lr=1.0), batch, clip=5.0)
    assert all(torch.equal(a, b) for a, b in zip(strengths, kept, strict=True))
    moved = math.sqrt(sum(((p - q) ** 2).sum().item() for p, q in zip(net.parameters(), before, strict=True)))
    assert 0 < moved <= 5.0 + 1e-4  # the gradient was clipped to norm 5


def test_darts_gives_each_half_of_the_images_to_one_of_the_two_optimizers(m, monkeypatch):
    calls, step = [], m.alternate

    def recorded(net, optimizer, batch, clip=None):
        calls.append(
            (type(optimizer).__name__, optimizer.param_groups[0]["lr"], sorted(batch[0][:, 0, 0, 0].tolist()), clip)
        )
        step(net, optimizer, batch, clip)

    monkeypatch.setattr(m, "alternate", recorded)
    x = torch.arange(16.0)[:, None, None, None] * torch.ones(16, 1, 4, 4)  # an image's value is its number
    with torch.random.fork_rng():
        torch.manual_seed(0)
        genotype, alpha = m.darts(x, torch.arange(16) % 2, 2, 2, ("avg3", "sep3"), 2, 3, 3, 4, seed=0, alpha_lr=0.05)
    assert [kind for kind, *_ in calls] == ["Adam", "SGD"] * 6
    for kind, half in [("Adam", range(8, 16)), ("SGD", range(8))]:
        seen = [images for name, _, images, _ in calls if name == kind]
        for epoch in range(3):
            assert sorted(seen[2 * epoch] + seen[2 * epoch + 1]) == list(half)
    assert {clip for kind, _, _, clip in calls if kind == "SGD"} == {5.0}
    rates = [lr for kind, lr, *_ in calls if kind == "SGD"][::2]
    cosine = [0.001 + 0.024 * (1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert rates == pytest.approx(cosine)
    assert all(a.shape == (j + 2, 3) and not a.requires_grad for cell in alpha for j, a in enumerate(cell))
    assert all(a.abs().max() > 0.05 for cell in alpha for a in cell)  # every strength tensor was moved
    assert genotype == m.Genotype(*(m.discretise(cell, ("avg3", "sep3")) for cell in alpha))


# ----------------------------------------------------------------------------------------------------------- the tricks


def test_drop_path_drops_whole_images_and_keeps_the_mean(m):
    drop = m.DropPath()
    drop.rate = 0.25
    with torch.random.fork_rng():
        torch.manual_seed(0)
        out = drop(torch.ones(20_000, 3, 2, 2))
    flat = out.flatten(1)
    assert (flat == flat[:, :1]).all()
    assert set(np.round(flat[:, 0].unique().tolist(), 4)) == {0.0, 1.3333}
    assert abs(out.mean() - 1) < 0.01
    assert torch.equal(drop.eval()(torch.ones(5, 1, 1, 1)), torch.ones(5, 1, 1, 1))


def test_drop_path_sits_behind_everything_but_identities(m):
    net = m.Network(example(m), 1, 10, 4, 3)
    for cell, reduction in zip(net.cells, [False, True, True], strict=True):
        for ops, node in zip(cell.nodes, cell.genes, strict=True):
            for op, (name, state) in zip(ops, node, strict=True):
                identity = name == "skip" and not (
                    reduction and state < 2
                )  # elsewhere a skip is a factorised reduction
                assert any(isinstance(part, m.DropPath) for part in op.modules()) != identity
    m.set_drop_path(net, 0.125)
    assert {part.rate for part in net.modules() if isinstance(part, m.DropPath)} == {0.125}


def test_cutout_erases_one_square_around_a_pixel(m):
    x = torch.ones(300, 2, 10, 10)
    out = m.cutout(x, 4, seeded())
    assert torch.equal(out[:, 0], out[:, 1]) and (x == 1).all()
    for image in out[:, 0]:
        rows, columns = (image == 0).nonzero().unbind(1)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert height <= 4 and width <= 4 and len(rows) == height * width
        assert (height == 4 or rows.min() == 0 or rows.max() == 9) and height >= 2
    coverage = np.mean([min(y + 2, 10) - max(y - 2, 0) for y in range(10)]) / 10
    erased = (m.cutout(torch.ones(20_000, 1, 10, 10), 4, seeded(1)) == 0).float().mean().item()
    assert erased == pytest.approx(coverage**2, abs=0.002)


def test_shift_moves_images_and_pads_with_zeros(m):
    x = torch.arange(1.0, 26.0).reshape(1, 1, 5, 5).repeat(400, 1, 1, 1)
    out = m.shift(x, 2, seeded())
    offsets = set()
    for image in out[:, 0]:
        matches = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                moved = F.pad(x[0, 0], (2, 2, 2, 2))[2 + dy : 7 + dy, 2 + dx : 7 + dx]
                if torch.equal(moved, image):
                    matches.append((dy, dx))
        assert len(matches) == 1
        offsets.add(matches[0])
    assert len(offsets) == 25


def test_flip_mirrors_about_half_of_the_images(m):
    x = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(1000, 1, 1, 1)
    out = m.flip(x, seeded())
    mirrored = (out == x.flip(3)).all(dim=(1, 2, 3))
    assert ((out == x).all(dim=(1, 2, 3)) | mirrored).all()
    assert 400 < mirrored.sum() < 600


@pytest.fixture(scope="module")
def easy():
    """Two classes of 8x8 images that differ in the sign of their left half."""
    y = torch.arange(80) % 2
    x = 0.5 * torch.randn(80, 1, 8, 8, generator=seeded(3))
    x[:, :, :, :4] += (2.0 * y - 1)[:, None, None, None]
    return x, y


def small_training(m, easy, protocol, seed=0):
    genotype = m.random_genotype(2, ("skip", "max3", "sep3"), seeded(2))
    return m.final_training(
        genotype, protocol, *easy, 2, depth=3, batch_size=16, lr=0.1, reach=1, mirror=False, seed=seed
    )


def test_final_training_learns_is_reproducible_and_leaves_the_global_generator_alone(m, easy):
    protocol = m.Protocol(epochs=5, channels=4, cutout=2, drop_path=0.2)
    state = torch.get_rng_state()
    one, two = small_training(m, easy, protocol), small_training(m, easy, protocol)
    other = small_training(m, easy, protocol, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert m.training.accuracy(one, *easy) > 90
    rates = {part.rate for part in one.modules() if isinstance(part, m.DropPath)}
    assert rates == {0.2}  # the final value, reached linearly


def test_protocol_defaults_are_the_papers_base(m):
    assert m.Protocol() == (600, 36, 0, 0.0, False)


# ------------------------------------------------------------------------------------------------------ ranks and seeds


@pytest.mark.parametrize("ties", [False, True])
def test_kendall_tau_agrees_with_scipy(m, ties):
    rng = np.random.default_rng(0)
    for n in (2, 5, 30):
        a, b = rng.normal(size=n), rng.normal(size=n)
        if ties and n > 2:
            a, b = np.round(a), np.round(2 * b)
        assert m.kendall_tau(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic)


@pytest.mark.parametrize("n", [3, 6, 8, 12])
def test_exact_p_value_agrees_with_scipy(m, n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        a, b = rng.permutation(n), rng.permutation(n)
        exact = scipy.stats.kendalltau(a, b, method="exact")
        assert m.kendall_p(m.kendall_tau(a, b), n) == pytest.approx(exact.pvalue)


def test_variance_split_by_hand(m):
    """Means 1, 2, 3 (variance 1), seed differences 0.2: seed variance 0.02, architecture variance 1 - 0.01."""
    architecture, seed = m.variance_split([[1.1, 2.1, 3.1]], [[0.9, 1.9, 2.9]])
    assert seed == pytest.approx(math.sqrt(0.02))
    assert architecture == pytest.approx(math.sqrt(0.99))
    assert m.variance_split([[1.0, 2.0]], [[2.0, 1.0]])[0] == 0  # all of it is the seed


def test_variance_split_ignores_the_level_of_a_group(m):
    a, b = np.random.default_rng(0).normal(size=(2, 4, 5))
    level = np.array([[0.0], [10.0], [-20.0], [5.0]])
    assert m.variance_split(a + level, b + level) == pytest.approx(m.variance_split(a, b))


# -------------------------------------------------------------------------------------------- searches on a known table


class Ladder:
    """A table made by hand: validation counts the ``cheb`` among the four operations; codes are rows themselves."""

    names = ("gat", "cheb", "fc")

    def __init__(self):
        self.codes = [
            (w, a, b, c, d)
            for w in range(9)
            for a in self.names
            for b in self.names
            for c in self.names
            for d in self.names
        ]
        self.row = {code: i for i, code in enumerate(self.codes)}
        self.valid = np.array([float(code[1:].count("cheb")) for code in self.codes])
        self.test = -self.valid

    def find(self, code):
        return self.row.get(code)


@pytest.mark.parametrize("name", ["random_search", "evolution", "reinforce"])
def test_searches_measure_different_architectures_and_are_reproducible(m, name):
    table, search = Ladder(), getattr(m, name)
    rows = search(table, 40, np.random.default_rng(0))
    assert len(rows) == len(set(rows)) == 40
    assert rows == search(table, 40, np.random.default_rng(0))
    assert rows != search(table, 40, np.random.default_rng(1))


def test_learning_searches_find_more_than_random_search(m):
    """Rewards rise along the run where there is something to learn."""
    table = Ladder()
    for search in (m.evolution, m.reinforce):
        late = [table.valid[search(table, 80, np.random.default_rng(s))[-20:]].mean() for s in range(10)]
        blind = [table.valid[m.random_search(table, 80, np.random.default_rng(s))[-20:]].mean() for s in range(10)]
        assert np.mean(late) > np.mean(blind) + 0.5


def test_parents_are_among_the_most_recent_members(m):
    """With a population of two, every child differs in one entry from one of the two measured just before it."""
    table = Ladder()
    rows = m.evolution(table, 30, np.random.default_rng(0), population=2)
    codes = [table.codes[row] for row in rows]
    for i in range(2, len(codes)):
        changes = [sum(a != b for a, b in zip(codes[i], codes[i - back], strict=True)) for back in (1, 2)]
        assert 1 in changes


def test_evolution_starts_as_random_search_does(m):
    table = Ladder()
    start = m.random_search(table, 50, np.random.default_rng(4))[:20]
    assert m.evolution(table, 50, np.random.default_rng(4), population=20)[:20] == start


def test_a_mutation_changes_one_entry(m):
    rng, code, names = np.random.default_rng(0), (3, "gat", "gcn", "fc", "skip"), ["gat", "gcn", "fc", "skip"]
    changed = []
    for _ in range(300):
        child = m.mutate(code, names, rng)
        places = [i for i in range(5) if child[i] != code[i]]
        assert len(places) == 1
        changed += places
    assert min(changed.count(i) for i in range(5)) > 30


def test_table_lookup(m, monkeypatch):
    """Equal networks share a row, nothing but skips has none, and the choice is made on validation accuracy."""
    import pandas as pd

    rows = [((0, 0, 0, 0), ("gat", "gcn", "gin", "fc")), ((0, 1, 2, 3), ("skip", "gcn", "gcn", "gcn"))]
    frame = pd.DataFrame(
        {
            "architecture": [m.data.nas.canonical(*row) for row in rows],
            "links": [row[0] for row in rows],
            "operations": [row[1] for row in rows],
            "valid": [0.70, 0.80],
            "test": [0.75, 0.60],
        }
    )
    monkeypatch.setattr(m.data, "load", lambda name, graph: frame)
    bench = m.Bench("cora")
    assert bench.find((0, "fc", "gin", "gcn", "gat")) == 0
    assert bench.find((8, "gcn", "gcn", "gcn", "skip")) == 1
    assert bench.find((8, "skip", "skip", "skip", "skip")) is None
    assert bench.names == ["gat", "gcn", "gin", "fc", "skip"]
    assert bench.chosen([0, 1]) == pytest.approx(60.0)


def test_the_paper_profile_is_written_out():
    """The paper's data set, space and schedule stand in the notebook's settings, not in somebody's memory."""
    notebook = source.read(ROOT / "papers" / f"{SLUG}.ipynb")
    settings = next(cell.source for cell in notebook.cells if "chapter.settings(" in cell.source)
    for text in ('dataset="cifar10"', "images=45_000", "cutout=16", "auxiliary=True", 'ladder=("D", "C", "CD", "CDA")'):
        assert text in settings.split("paper=dict(")[1]
