"""A look at every data set: a picture or its first rows, kept in the book so that the site is built without the data.

``python -m shared.authoring previews`` makes those that are missing or out of date. A card says with ``preview`` which
options to load the set with, and with ``ship: false`` that nothing of it may be shown.
"""

import functools
import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from shared import data
from shared.data import registry
from shared.data.containers import Images, Ratings, Recordings, Table

ROWS = 4
COLUMNS = 8
TILE = 72  # pixels
LONGEST = 160  # characters of a text in a cell


@dataclass
class Preview:
    """What is shown of a set: a picture with its alternative text, or rows of text under column names.

    key: changes when the set's card or its source does.
    """

    key: str
    alt: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def folder(book: Path) -> Path:
    """Where previews are kept."""
    return book / "_static" / "previews"


def read(book: Path) -> dict[str, Preview]:
    """The previews by name of the set."""
    path = folder(book) / "previews.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: Preview(**fields) for name, fields in stored.items()}


def write(book: Path, previews: dict[str, Preview], pictures: dict[str, bytes]) -> None:
    """Keep previews, in the order of the data sets, and the pictures of some; those of sets that are gone go."""
    home = folder(book)
    home.mkdir(parents=True, exist_ok=True)
    for name, png in pictures.items():
        (home / f"{name}.png").write_bytes(png)
    for path in home.glob("*.png"):
        if path.stem not in previews or not previews[path.stem].alt:
            path.unlink()
    stored = {name: asdict(previews[name]) for name in data.names() if name in previews}
    lines = [f"{json.dumps(name)}: {json.dumps(fields, ensure_ascii=False)}" for name, fields in stored.items()]
    (home / "previews.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def key(name: str) -> str:
    """Changes when the card of a set or the wheel that it is read from does."""
    digests = [wheel.sha256 for wheel in data.sources(name)]
    text = json.dumps([registry.rows()[name], digests], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def may_show(name: str) -> bool:
    """Whether the licence of a set allows to show some of it."""
    return data.card(name).ship


def make(name: str) -> tuple[Preview, bytes | None]:
    """The preview of a set and its picture, if it has one. Raises what its loader raises."""
    card = data.card(name)
    shown = show(data.load(name, **registry.rows()[name].get("preview", {})), card)
    if isinstance(shown, pd.DataFrame):
        rows = tuple(tuple(cell(value) for value in row) for row in shown.itertuples(index=False))
        return Preview(key(name), columns=tuple(map(str, shown.columns)), rows=rows), None
    png, alt = shown
    return Preview(key(name), alt=alt), png


def cell(value) -> str:
    """A value of a table as short text."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(cell(part) for part in list(value)[:6]) + (", …" if len(value) > 6 else "")
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


@functools.singledispatch
def show(value, card):
    """A data frame of a few rows, or a PNG and its alternative text; raises TypeError for kinds it does not know."""
    if hasattr(value, "edge_index"):
        return show_graph(value, card)
    if card.kind == "weights":
        return show_network(value)
    if getattr(value, "ndim", None) == 2:
        return show_matrix(value, card)
    raise TypeError(f"No preview is known for what the loader of {card.name!r} returns, a {type(value).__name__}.")


@show.register
def show_frame(value: pd.DataFrame, card):
    """The first rows, with the index where it says something."""
    first = value.head(ROWS)
    return (first if first.index.name is None else first.reset_index()).iloc[:, : COLUMNS + 1]


@show.register
def show_table(value: Table, card):
    """The first rows of a table, categories by name, the target last."""
    columns = {}
    for i, name in enumerate(value.columns[:COLUMNS]):
        column = value.x[:ROWS, i]
        labels = value.categories.get(name)
        columns[name] = [None if np.isnan(v) else labels[int(v)] for v in column] if labels else column
    if len(value.columns) > COLUMNS:
        columns["…"] = ["…"] * ROWS
    target = value.y[:ROWS]
    columns["target"] = [value.classes[t] for t in target] if value.classes else list(target)
    return pd.DataFrame(columns)


@show.register
def show_ratings(value: Ratings, card):
    """The first ratings, with the titles of the items."""
    first = value.ratings.head(ROWS)
    return first.assign(title=value.items.title.reindex(first["item"]).to_numpy()) if "title" in value.items else first


@show.register
def show_impressions(value: data.Impressions, card):
    """The first impressions of the log."""
    return value.log.iloc[:ROWS, :COLUMNS]


@show.register
def show_images(value: Images, card):
    """One image of every class, as far as they fit."""
    labels = value.labels.numpy()
    chosen = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)][:20]
    if len(chosen) < 10:  # few classes: more of each
        each = -(-10 // len(chosen))
        chosen = [int(i) for label in np.unique(labels) for i in np.flatnonzero(labels == label)[:each]]
    tiles = [tile(value.images[i].numpy()) for i in chosen]
    names = [value.classes[labels[i]] for i in chosen]
    return png(grid(tiles)), f"{len(tiles)} examples of {card.name}: {', '.join(dict.fromkeys(names))}"


@show.register
def show_scenes(value: data.Scenes, card):
    """Ten scenes, the first two described."""
    tiles = [tile(image.numpy()) for image in value.images[:10]]
    captions = " and ".join(f"“{caption}”" for caption in value.captions[:2])
    return png(grid(tiles)), f"{len(tiles)} scenes of {card.name}; the first are {captions}"


@show.register
def show_hyperspectral(value: data.Hyperspectral, card):
    """The scene in natural colours and its classes."""
    from shared import plots

    bands = [int((value.wavelengths - nm).abs().argmin()) for nm in (650, 550, 450)]
    seen = value.cube[bands].float()
    low, high = (seen.flatten(1).quantile(q, dim=1)[:, None, None] for q in (0.01, 0.99))
    fig, axes = plots.figure(1, 2, height=2.4, width=4.8)
    axes[0].imshow(((seen - low) / (high - low)).clamp(0, 1).permute(1, 2, 0))
    axes[1].imshow(np.ma.masked_less(value.labels.numpy(), 0), cmap="tab20", interpolation="none")
    for ax in axes:
        ax.set_axis_off()
    return figure_png(fig), f"{card.name} in natural colours, and its {len(value.classes)} classes where they are known"


@show.register
def show_pictures(value: dict, card):
    """Pictures by name, cut to squares."""
    tiles = [tile(picture.numpy()) for picture in value.values()]
    return png(grid(tiles)), f"The pictures of {card.name}: {', '.join(map(str, value))}"


@show.register
def show_recordings(value: Recordings, card):
    """Log-mel spectrograms of six clips of different classes."""
    import torch

    from shared import plots
    from shared.data import speech

    chosen = [int(torch.nonzero(value.labels == label)[0, 0]) for label in value.labels.unique()][:6]
    features = speech.log_mel(value.waveforms[chosen]).numpy()
    fig, axes = plots.figure(1, len(chosen), height=1.7, sharey=True, squeeze=False)
    seconds = value.waveforms.shape[1] / value.rate
    for ax, picture, i in zip(axes.flat, features, chosen, strict=True):
        ax.imshow(picture.T, origin="lower", aspect="auto", extent=(0, seconds, 0, picture.shape[1]))
        ax.set_title(f"“{value.classes[value.labels[i]]}”")
        ax.grid(visible=False)
    axes[0, 0].set_ylabel("mel band")
    fig.supxlabel("time (s)", fontsize=10)
    words = ", ".join(value.classes[value.labels[i]] for i in chosen)
    return figure_png(fig), f"Log-mel spectrograms of six clips of {card.name}: {words}"


@show.register
def show_texts(value: data.Texts, card):
    """The first text of each of a few classes, or the first texts, with what else is known of them."""
    if value.classes:
        labels = value.labels.numpy()
        chosen = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:ROWS]]
    else:
        chosen = list(range(ROWS))
    columns = {"text": [value.texts[i] for i in chosen]}
    if value.labels is not None:
        found = value.labels[chosen].tolist()
        columns["label"] = [value.classes[label] for label in found] if value.classes else found
    details = {} if value.details is None else value.details.iloc[chosen, : COLUMNS - 2].to_dict("list")
    return pd.DataFrame(columns | details)


@show.register
def show_series(value: data.Series, card):
    """The first channel of a few series of each of at most four classes."""
    from shared import plots

    shown = value.classes[:4]
    fig, axes = plots.figure(1, len(shown), height=1.7, sharey=True, squeeze=False)
    for label, ax in enumerate(axes.flat):
        for i in np.flatnonzero(value.labels.numpy() == label)[:4]:
            ax.plot(value.x[i, 0, : value.lengths[i]], linewidth=0.9)
        ax.set_title(f"class {shown[label]}")
    axes[0, 0].set_ylabel("value")
    fig.supxlabel("time step", fontsize=10)
    return figure_png(fig), f"Four series of {card.name} of each of the classes {', '.join(shown)}"


def show_matrix(value, card):
    """A tensor of two dimensions as shades, the larger the darker."""
    from shared import plots

    fig, ax = plots.figure(height=2.6, width=3.4)
    shades = ax.imshow(value.numpy(), cmap="Blues", interpolation="none")
    ax.grid(visible=False)
    fig.colorbar(shades)
    return figure_png(
        fig
    ), f"The {card.shape} numbers of {card.name} as shades, from {value.min():.1f} to {value.max():.1f}"


def show_network(value):
    """What a trained network says of a few photographs, sentences or beginnings."""
    if hasattr(value, "top"):
        photos = data.load("photos", names=["chelsea", "coffee", "flamingo", "hawk"])
        found = [[f"{label} ({p:.2f})" for label, p in row] for row in value.top(photos.values(), k=3)]
        return (
            pd.DataFrame(found, columns=["first", "second", "third"])
            .assign(photograph=list(photos))
            .iloc[:, [3, 0, 1, 2]]
        )
    if hasattr(value, "embed"):
        sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
        embedded = value.embed(sentences)
        similar = pd.DataFrame((embedded @ embedded.T).tolist(), columns=["first", "second", "third"]).round(2)
        return similar.assign(sentence=sentences).iloc[:, [3, 0, 1, 2]]
    prompts = ["What is the capital of France?", "Write one sentence about the sea.", "Name three colours."]
    return pd.DataFrame({"message": prompts, "answer": value.generate(prompts, new_tokens=40, chat=True)})


def show_graph(value, card):
    """A neighbourhood, drawn in the colours of the classes; nodes with very many neighbours would hide the rest."""
    import networkx

    from shared import plots

    graph = networkx.Graph(value.edge_index.numpy().T.tolist())
    graph.remove_nodes_from([node for node, degree in list(graph.degree) if degree > 30])
    start = max(sorted(graph), key=graph.degree)
    near = list(networkx.bfs_tree(graph, start))[:150]
    part = graph.subgraph(near)
    places = networkx.spring_layout(part, seed=0, iterations=150)
    fig, ax = plots.figure(height=3.2, width=4.8)
    lines = np.array([[places[a], places[b]] for a, b in part.edges])
    ax.plot(lines[..., 0].T, lines[..., 1].T, color="#BBBBBB", linewidth=0.5, zorder=1)
    labels = value.y.numpy()[near]
    for label in np.unique(labels):
        at = np.array([places[node] for node, own in zip(near, labels, strict=True) if own == label])
        ax.scatter(*at.T, s=14, color=plots.COLORS[label % len(plots.COLORS)], zorder=2)
    ax.set_axis_off()
    what = f"{len(near)} neighbouring nodes of {card.name}"
    return figure_png(fig), f"{what} and their edges, coloured by class ({len(np.unique(labels))} classes here)"


def tile(image: np.ndarray) -> Image.Image:
    """A square picture of TILE pixels from (C, H, W) uint8: small ones enlarged pixel by pixel, large ones cut."""
    pixels = image[0] if image.shape[0] == 1 else image[:3].transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    return picture.resize((TILE, TILE), Image.NEAREST if side < TILE else Image.LANCZOS)


def grid(tiles: list[Image.Image], gap: int = 4) -> Image.Image:
    """Tiles in rows of ten on white."""
    across = min(10, len(tiles))
    down = -(-len(tiles) // across)
    step = TILE + gap
    sheet = Image.new("RGB", (across * step - gap, down * step - gap), "white")
    for i, picture in enumerate(tiles):
        sheet.paste(picture, (i % across * step, i // across * step))
    return sheet


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG of 256 colours."""
    buffer = io.BytesIO()
    picture.quantize(256).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def figure_png(fig) -> bytes:
    """A matplotlib figure as a PNG of 256 colours; closes it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110)
    plt.close(fig)
    return png(Image.open(buffer).convert("RGB"))
