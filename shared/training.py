"""The training loop that most chapters share. Data and batches stay on the device; there are no worker processes."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from shared.device import generator as make_generator
from shared.progress import track

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "linear", "cosine")


def minibatches(
    n: int, batch_size: int, generator: torch.Generator, device: torch.device | str = "cpu", drop_last: bool = False
) -> Iterator[Tensor]:
    """Index tensors (B,) on ``device`` that visit 0..n-1 once, in an order drawn from a CPU ``generator``."""
    order = torch.randperm(n, generator=generator).to(device)
    end = n - n % batch_size if drop_last else n
    for start in range(0, end, batch_size):
        yield order[start : start + batch_size]


def lr_factor(step: int, steps: int, schedule: str = "cosine", warmup: int = 0) -> float:
    """What multiplies the learning rate at ``step`` of ``steps``: a linear warm-up, then the schedule.

    ``constant`` stays at 1; ``linear`` and ``cosine`` go from 1 to 0. Raises ValueError for another name.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"There is no schedule {schedule!r}: choose among {', '.join(SCHEDULES)}.")
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[schedule]


def make_optimizer(parameters, name: str, lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
    """An SGD (Nesterov when there is momentum), Adam or AdamW optimizer. Raises ValueError for another name."""
    if name not in OPTIMIZERS:
        raise ValueError(f"There is no optimizer {name!r}: choose among {', '.join(OPTIMIZERS)}.")
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=lr, weight_decay=weight_decay)


def fit(
    net: nn.Module,
    x: Tensor | tuple[Tensor, ...],
    y: Tensor,
    *,
    loss: Callable = F.cross_entropy,
    epochs: int,
    batch_size: int,
    lr: float,
    optimizer: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    warmup_epochs: float = 0,
    seed: int = 0,
    batch: Callable | None = None,
    step: Callable | None = None,
    grad_clip: float | None = None,
    ema: float | None = None,
    autocast: torch.dtype | None = None,
    on_epoch: Callable | None = None,
) -> list[float]:
    """Train ``net`` on tensors that already lie on its device; returns the mean loss of every epoch.

    x: (N, ...) inputs, or a tuple of them, each with N rows; y: (N, ...) targets.
    loss(prediction, target): a scalar; regression passes ``F.mse_loss``.
    batch(x, y, generator): called on every batch, returns the batch to train on (augmentation, on the device).
    step(net, x, y, generator): replaces ``loss(net(x), y)`` where a method needs more; returns a scalar loss.
    ema: decay of an exponential moving average of the weights; the network ends with the averaged ones.
    autocast: type for mixed precision (``Compute.dtype``); bfloat16 needs no loss scaling.
    on_epoch(epoch, mean_loss): called after every epoch (validation, early curves).

    The order of the batches depends on ``seed`` alone, never on what ``batch`` or ``step`` draw, so that arms of one
    experiment see the same batches. Raises FloatingPointError when the loss of an epoch is not finite.
    """
    inputs = x if isinstance(x, tuple) else (x,)
    device, n = y.device, len(y)
    order, noise = make_generator(seed), make_generator(seed + 1, device)
    per_epoch = math.ceil(n / batch_size)
    optim = make_optimizer(net.parameters(), optimizer, lr, momentum, weight_decay)
    factor = torch.optim.lr_scheduler.LambdaLR(
        optim, lambda i: lr_factor(i, epochs * per_epoch, schedule, round(warmup_epochs * per_epoch))
    )
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
    history = []
    net.train()
    for epoch in track(range(epochs), "training"):
        total = torch.zeros((), device=device)  # stays on the device: one transfer an epoch, not one a batch
        for index in minibatches(n, batch_size, order, device):
            xb, yb = tuple(part[index] for part in inputs), y[index]
            xb = xb if isinstance(x, tuple) else xb[0]
            if batch is not None:
                xb, yb = batch(xb, yb, noise)
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                value = step(net, xb, yb, noise) if step is not None else loss(net(xb), yb)
            optim.zero_grad(set_to_none=True)
            value.backward()
            if grad_clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), grad_clip)
            optim.step()
            factor.step()
            if average is not None:
                average.update_parameters(net)
            total += value.detach() * len(index)
        history.append(total.item() / n)
        if not math.isfinite(history[-1]):
            raise FloatingPointError(f"The training loss is {history[-1]} in epoch {epoch + 1}: lower lr={lr:g}.")
        if on_epoch is not None:
            on_epoch(epoch, history[-1])
            net.train()
    if average is not None:
        net.load_state_dict(average.module.state_dict())
    return history


@torch.no_grad()
def predict(net: nn.Module, x: Tensor | tuple[Tensor, ...], batch_size: int = 1024) -> Tensor:
    """The network's outputs for all rows of ``x`` (or of a tuple of inputs), in evaluation mode, without gradients."""
    was_training = net.training
    net.eval()
    if isinstance(x, tuple):
        parts = [net(rows) for rows in zip(*(part.split(batch_size) for part in x), strict=True)]
    else:
        parts = [net(rows) for rows in x.split(batch_size)]
    net.train(was_training)
    return torch.cat(parts)


def accuracy(net: nn.Module, x: Tensor | tuple[Tensor, ...], y: Tensor, batch_size: int = 1024) -> float:
    """Share of rows whose largest logit is at the label, in percent."""
    return 100 * (predict(net, x, batch_size).argmax(1) == y).double().mean().item()
