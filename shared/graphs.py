"""Node classification on sparse graphs: propagation, sparse features, the plain graph network, splits, training.

What the chapters on graphs have in common, so that a network of one of them is bit for bit that of another. Everything
is full-batch: one step is one pass over the graph.
"""

import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared import data, device

# Products are all that is used of sparse CSR tensors, and those are settled; matrices are built valid here, and
# checking them again costs more than the products.
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
torch.sparse.check_sparse_tensor_invariants.disable()

# Learning rate, weight decay and dropout that every arm may choose from on validation nodes. The first two, without
# weight decay, are there for deep networks; the last two have the strong decay that suits decoupled propagation.
GRID = [
    (0.01, 0, 0), (0.02, 0, 0.5), (0.02, 5e-4, 0.5), (0.02, 5e-4, 0.8),
    (0.02, 5e-3, 0.5), (0.02, 5e-3, 0.8),
]  # fmt: skip


def normalized_adjacency(edge_index: Tensor, nodes: int) -> Tensor:
    """D^(-1/2) (A + I) D^(-1/2) of an undirected graph as a sparse CSR tensor (n, n), D the degrees with self-loops.

    edge_index: (2, E) int64 with every edge in both directions; self-loops in it are not doubled. Source: Kipf and
    Welling, 2017 (arXiv 1609.02907).
    """
    off = edge_index[:, edge_index[0] != edge_index[1]]
    loops = torch.arange(nodes, device=off.device).expand(2, -1)
    row, col = torch.cat([off, loops], dim=1)
    scale = torch.bincount(row, minlength=nodes).to(torch.float32).rsqrt()
    made = torch.sparse_coo_tensor(torch.stack([row, col]), scale[row] * scale[col], (nodes, nodes)).to_sparse_csr()
    index = made.crow_indices().int(), made.col_indices().int()  # 32 bits: products convert others first
    return torch.sparse_csr_tensor(*index, made.values(), made.shape)


class Propagate(torch.autograd.Function):
    """Product of a *symmetric* sparse matrix (n, n) with H (n, C): `Propagate.apply(adjacency, h)`.

    Knowing that the matrix is its own transpose saves autograd from transposing it in every backward pass.
    """

    @staticmethod
    def forward(ctx, adjacency, h):
        """Return adjacency @ h."""
        ctx.adjacency = adjacency
        return adjacency @ h

    @staticmethod
    def backward(ctx, gradient):
        """The matrix is its own transpose."""
        return None, ctx.adjacency @ gradient


class SparseFeatures:
    """X (n, D) with few non-zero `values`, ready for products with X and with its transpose.

    Word counts are 99 % zeros: X is kept by rows, for X W, and by columns, for the gradient X^T G of W.
    """

    def __init__(self, x: Tensor):
        by_row, by_column = x.to_sparse_csr(), x.T.contiguous().to_sparse_csr()
        self.shape, self.values = x.shape, by_row.values()
        self.rows = by_row.crow_indices().int(), by_row.col_indices().int()
        self.columns = by_column.crow_indices().int(), by_column.col_indices().int()
        row, col = x.nonzero().T
        self.order = (col * len(x) + row).argsort()  # the stored values, column after column

    def product(self, values: Tensor, w: Tensor) -> Tensor:
        """X @ w, with other values (nnz,) in the places of the stored ones."""
        return torch.sparse_csr_tensor(*self.rows, values, self.shape) @ w

    def transposed_product(self, values: Tensor, g: Tensor) -> Tensor:
        """X.T @ g, likewise."""
        values = values.index_select(0, self.order)
        return torch.sparse_csr_tensor(*self.columns, values, self.shape[::-1]) @ g


class SparseProduct(torch.autograd.Function):
    """X @ w for SparseFeatures X, `SparseProduct.apply(x, values, w)`; the gradient goes to w alone."""

    @staticmethod
    def forward(ctx, x, values, w):
        """(nnz,) values and (D, h) weights -> (n, h)."""
        ctx.x = x
        ctx.save_for_backward(values)
        return x.product(values, w)

    @staticmethod
    def backward(ctx, gradient):
        """X.T @ gradient."""
        return None, None, ctx.x.transposed_product(*ctx.saved_tensors, gradient.contiguous())


class Dropout(nn.Module):
    """Each entry becomes 0 with probability p (to the nearest 1/65536), the others grow by 1/(1-p), in training.

    Half of a small network's time on one core would go into one random number for each entry. Sixteen bits are enough
    to decide whether an entry stays, so one draw of 64 bits serves four.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not (self.training and self.p):
            return x
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -32768..32767
        return x * ((bits >= round(self.p * 65536) - 32768) / (1 - self.p))


class SparseLinear(nn.Module):
    """A linear layer whose input is SparseFeatures (n, D), with dropout on their stored values.

    Dropping an entry that is zero changes nothing, so masks are drawn for the stored values only.
    """

    def __init__(self, fan_in: int, fan_out: int, dropout: float, bias: bool = True):
        super().__init__()
        bound = fan_in**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(fan_out).uniform_(-bound, bound)) if bias else None
        self.dropout = Dropout(dropout)

    def forward(self, x: SparseFeatures) -> Tensor:
        """(n, D) sparse -> (n, fan_out) dense."""
        product = SparseProduct.apply(x, self.dropout(x.values), self.weight)
        return product if self.bias is None else product + self.bias


class GCN(nn.Module):
    """A graph convolutional network of ``depth`` layers; with depth 0 propagation is left out: an MLP of two layers.

    Every layer transforms, then propagates. Weights start from Glorot's initialisation, as in the original: it keeps
    activations about as large from layer to layer, which a stack of eight needs. Source: arXiv 1609.02907.
    """

    def __init__(self, features: int, classes: int, depth: int = 2, hidden: int = 64, dropout: float = 0.5):
        super().__init__()
        widths = [hidden] * max(1, depth - 1) + [classes]
        first = SparseLinear(features, hidden, dropout, bias=False)
        self.layers = nn.ModuleList([first, *(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))])
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
        self.biases = nn.ParameterList(torch.zeros(width) for width in widths)
        self.depth, self.dropout = depth, Dropout(dropout)

    def forward(self, x: SparseFeatures, adjacency: Tensor, rows=slice(None)) -> Tensor:
        """Logits (r, C) of the nodes ``rows`` (an index tensor or a slice)."""
        h = x
        for i, (layer, bias) in enumerate(zip(self.layers, self.biases, strict=True)):
            h = layer(h if i == 0 else self.dropout(h.relu()))
            h = (Propagate.apply(adjacency, h) if self.depth else h) + bias
        return h[rows]


def load(name: str, target: torch.device | str = "cpu"):
    """A graph of `shared.data` for full-batch training, as a PyG Data object on the device.

    Fields: x (SparseFeatures, rows divided by their sum), `adjacency` (see `normalized_adjacency`), y (n,),
    edge_index (2, E), and train_mask, val_mask, test_mask (n,) where the set has a public split. Raises DataError for
    an unknown name.
    """
    from torch_geometric.data import Data

    graph = data.load(name).to(target)
    x = graph.x.float()
    x = SparseFeatures(x / x.sum(1, keepdim=True).clamp(min=1e-12))
    adjacency = normalized_adjacency(graph.edge_index, len(graph.y))
    masks = {k: graph[k] for k in ("train_mask", "val_mask", "test_mask") if k in graph}
    return Data(x=x, y=graph.y, adjacency=adjacency, edge_index=graph.edge_index, **masks)


def few_labels(graph, per_class: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A random split (train, validation, test) as index tensors, with ``per_class`` labels a class.

    Validation has 30 nodes a class (10 where some class is too small for that), the test all others.
    """
    order = torch.randperm(len(graph.y), generator=device.generator(seed)).to(graph.y.device)
    classes = [order[graph.y[order] == c] for c in range(int(graph.y.max()) + 1)]
    held = 10 if min(map(len, classes)) < 2 * per_class + 60 else 30
    cuts = ((0, per_class), (per_class, per_class + held), (per_class + held, None))
    return tuple(torch.cat([c[i:j] for c in classes]) for i, j in cuts)


def split_of(graph, seed: int, per_class: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The public split (train, validation, test) as index tensors, or a random one with so many labels a class.

    A graph without a public split gets five labels a class where ``per_class`` is None.
    """
    if per_class is None and "train_mask" in graph:
        return tuple(graph[k].nonzero()[:, 0] for k in ("train_mask", "val_mask", "test_mask"))
    return few_labels(graph, per_class or 5, seed)


def fit(net, graph, split, lr, weight_decay, epochs, every=1, window=100, loss=None) -> list[float]:
    """Train a network with Adam; validation and test accuracy (%) at the epoch of the lowest validation loss.

    net(graph.x, graph.adjacency, rows) gives logits (r, C). ``loss(net, graph, train)``: the training loss, by default
    the cross-entropy of the nodes ``train``. Validation is looked at in every ``every``-th epoch; after half of the
    epochs training ends as soon as the validation loss exceeds the mean of its last ``window`` values. Raises
    ValueError when validation would never be looked at.
    """
    if every > epochs:
        raise ValueError(f"Validation in every {every}th of {epochs} epochs is never: make `every` smaller.")
    train, *held_out = split
    held, sizes = torch.cat(held_out), [len(part) for part in held_out]
    net = net.to(graph.y.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    losses, best = [], None
    for epoch in range(1, epochs + 1):
        net.train()
        optimizer.zero_grad()
        if loss is None:
            F.cross_entropy(net(graph.x, graph.adjacency, train), graph.y[train]).backward()
        else:
            loss(net, graph, train).backward()
        optimizer.step()
        if epoch % every:
            continue
        net.eval()
        with torch.no_grad():
            logits = net(graph.x, graph.adjacency, held)
            current = F.cross_entropy(logits[: sizes[0]], graph.y[held_out[0]]).item()
        if current < min(losses, default=float("inf")):
            hits = (logits.argmax(1) == graph.y[held]).double().split(sizes)
            best = [100 * part.mean().item() for part in hits]
        if losses and epoch > epochs / 2 and current > sum(losses[-window:]) / len(losses[-window:]):
            break
        losses.append(current)
    return best


def trained(make, graph, split, setting, seed: int, **schedule):
    """A network `make(features, classes, dropout)`, trained: the network, validation and test accuracy (%).

    setting: (learning rate, weight decay, dropout), as in `GRID`; schedule: epochs, every, window, loss of `fit`. Equal
    seeds give equal weights where the architectures agree, and equal dropout where the networks draw alike.
    """
    lr, weight_decay, dropout = setting
    with device.fork(seed):
        net = make(graph.x.shape[1], int(graph.y.max()) + 1, dropout)
    device.seed_everything(seed)
    return net, *fit(net, graph, split, lr, weight_decay, **schedule)
