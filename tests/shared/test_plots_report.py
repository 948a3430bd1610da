"""Figures carry alt text and are reproducible; HTML is escaped; progress bars leave nothing behind."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from shared import plots, progress, report


@pytest.fixture
def shown(monkeypatch):
    bundles = []
    for module in (plots, report):
        monkeypatch.setattr(module, "display", lambda bundle, **options: bundles.append((bundle, options)))
    return bundles


def draw(shown):
    fig, ax = plots.figure()
    ax.plot([0, 1], [1, 0])
    plots.show(fig, alt="A line that falls from one to zero")
    return shown[-1]


def test_a_figure_is_a_png_with_alt_text_and_the_same_bytes_every_time(shown):
    (bundle, options), (again, _) = draw(shown), draw(shown)
    assert options["metadata"]["image/png"]["alt"] == "A line that falls from one to zero"
    image = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert image.width == int(plots.WIDTH * plots.STYLE["figure.dpi"])
    assert bundle["image/png"] == again["image/png"]
    assert not plots.plt.get_fignums()


def test_a_figure_without_alt_text_is_refused():
    fig, _ = plots.figure()
    with pytest.raises(ValueError, match="needs alt text"):
        plots.show(fig, alt="")
    plots.plt.close(fig)


def test_paired_differences_draws_one_dot_a_seed(shown, monkeypatch):
    from shared.experiment import Results

    rows = {"a": {s: {"m": s} for s in range(5)}, "b": {s: {"m": s + 1.0 + 0.1 * s} for s in range(5)}}
    drawn = []
    monkeypatch.setattr(plots, "show", lambda fig, alt: drawn.append(fig))
    plots.paired_differences(Results(rows), "m", "a", alt="b minus a, about one for every seed")
    dots = drawn[0].axes[0].lines[0].get_xdata()
    assert dots == pytest.approx([1.0, 1.1, 1.2, 1.3, 1.4])


def test_image_rows_take_grey_and_colour(shown):
    plots.image_row(np.zeros((4, 1, 8, 8), dtype=np.uint8), ["a", "b", "c", "d"], alt="Four black squares in a row")
    plots.image_row(np.random.rand(6, 3, 8, 8), alt="Six squares of coloured noise", rows=2)
    assert len(shown) == 2


def test_tables_escape_their_cells_and_check_their_shape(shown):
    report.show_table(["a", "b"], [["<script>", 1]])
    assert "&lt;script&gt;" in shown[0][0]["text/html"]
    with pytest.raises(ValueError, match="needs 2 cells"):
        report.show_table(["a", "b"], [["only one"]])


def test_no_bar_in_batch_runs_and_items_pass_through(monkeypatch, capsys):
    monkeypatch.setenv("PAPERS_PROGRESS", "0")
    assert list(progress.track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_notebook_ends_as_an_empty_line(monkeypatch):
    states = []

    class Handle:
        def update(self, bundle, raw):
            states.append(bundle["text/plain"])

    def display(bundle, raw, display_id):
        states.append(bundle["text/plain"])
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(progress, "_stream", progress._KernelLine)
    bar = progress.track(range(3), "counting")
    bar.delay = 0
    bar.mininterval = 0
    bar.miniters = 1
    assert list(bar) == [0, 1, 2]
    assert any("counting" in state for state in states)
    assert states[-1] == ""
