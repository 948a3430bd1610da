"""One style for every figure: page width, labelled, colour-blind-safe, with alt text."""

import base64
import io
from collections.abc import Iterable, Sequence

import matplotlib

matplotlib.use("agg")  # figures are shown as PNG outputs by ``show``; no window, no backend of the notebook's own

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

#: Okabe and Ito's colours, told apart by colour-blind readers; the first two are what two-arm figures use.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7A7A", "#5D3A9B")
INK = "#333333"
WIDTH = 7.2  # inches: the page's text column

STYLE = {
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
}
plt.rcParams.update(STYLE)


def figure(rows: int = 1, cols: int = 1, height: float = 2.6, width: float = WIDTH, **options):
    """A figure of page width; ``height`` is one row's, in inches. Returns (figure, axes) as matplotlib does."""
    return plt.subplots(rows, cols, figsize=(width, height * rows), **options)


def show(fig, alt: str) -> None:
    """Display a figure as a PNG with its alt text, and close it. Raises ValueError without alt text."""
    if not alt or len(alt) < 10:
        raise ValueError("Every figure needs alt text: a sentence that says what is to be seen in it.")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    width, height = (int(v) for v in fig.get_size_inches() * 100)
    plt.close(fig)
    # 256 colours are a third of the bytes, and no stamp of software or date: the same figure is the same bytes
    small = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    png = base64.b64encode(small.getvalue()).decode()
    display(
        {"image/png": png, "text/plain": f"[figure: {alt}]"},
        raw=True,
        metadata={"image/png": {"alt": alt, "width": width, "height": height}},
    )


def paired_differences(
    results, metric: str, baseline: str, *, alt: str, arms: Iterable[str] | None = None, label: str | None = None
) -> None:
    """Every arm minus the baseline: one dot a seed, the mean and its 95% interval, a line at no difference.

    ``label`` names the horizontal axis; by default it is the metric minus the baseline.
    """
    arms = [arm for arm in (arms or results.arms) if arm != baseline and results.has(arm, metric)]
    fig, ax = figure(height=0.7 + 0.42 * len(arms))
    for i, arm in enumerate(arms):
        difference = results.difference(arm, baseline, metric)
        color = COLORS[i % len(COLORS)]
        spread = np.linspace(-0.14, 0.14, len(difference.values)) if len(difference.values) > 1 else [0.0]
        ax.plot(difference.values, i + np.asarray(spread), "o", color=color, alpha=0.45, markeredgewidth=0)
        if len(difference.values) > 1:
            ax.plot([difference.low, difference.high], [i, i], color=color, linewidth=2.6, solid_capstyle="butt")
        ax.plot(difference.mean, i, "D", color=color, markeredgecolor="white", markersize=7)
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_yticks(range(len(arms)), arms)
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.set_xlabel(label or f"{metric}: difference to {baseline}")
    ax.grid(axis="y", visible=False)
    show(fig, alt)


def image_row(images, titles: Sequence[str] | None = None, *, alt: str, rows: int = 1) -> None:
    """Show images (N, H, W), (N, 1, H, W) or (N, 3, H, W), values 0..255 or 0..1, in ``rows`` rows of equal length."""
    images = np.asarray(images)
    if images.dtype != np.uint8 and images.max() > 1.5:
        images = images / 255
    if images.ndim == 4:
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    cols = -(-len(images) // rows)
    title_room = 0.25 if titles else 0.0
    fig, axes = figure(rows, cols, height=WIDTH / cols + title_room, squeeze=False)
    top = 255 if images.dtype == np.uint8 else 1
    for i, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if i < len(images):
            ax.imshow(images[i].clip(0, top), cmap="gray", vmin=0, vmax=top)
            if titles:
                ax.set_title(titles[i], fontsize=8.5)
    show(fig, alt)
