"""What the site prints of a record: numbers, forest plots, citations, and the notebook on its way to the page."""

import json
import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest
from docutils import nodes

from shared import catalog
from shared.experiment import interval
from shared.site import describe_images, icons, notebook, records, render
from shared.site.citation import bibtex
from shared.site.comparison import lines
from shared.site.forest import forest
from tests.site.conftest import ALPHA, claim, provenance, record

FIGURE = {
    "data": {"image/png": "aGVsbG8="},
    "metadata": {"image/png": {"alt": "A line"}},
    "output_type": "display_data",
}


@pytest.mark.parametrize(
    ("plain", "values", "expected"),
    [
        (0.7, [0.01, 0.03, 0.02], "+2.0 [−0.5, +4.5] points"),  # shares become points
        (70.0, [1.0, 3.0, 2.0], "+2.0 [−0.5, +4.5] points"),  # per cent are points
        (0.7, [0.001, 0.003, 0.002], "+0.20 [−0.05, +0.45] points"),
        (0.7, [-0.02], "−2.0 points"),  # one seed: no interval
    ],
)
def test_effects_of_accuracies_are_printed_in_points(plain, values, expected):
    one = claim("better", values)
    assert records.effect(one, record(ALPHA, [one], plain)) == expected


def test_effects_of_other_metrics_keep_their_unit():
    one = claim("lower", [-0.0521, -0.0619, -0.0470], metric="calibration error", higher_is_better=False)
    assert records.effect(one, record(ALPHA, [one], 0.2)) == "−0.0537 [−0.0725, −0.0349]"
    one = claim("more", [120.0, 140.0, 130.0], metric="images a second")
    assert records.effect(one, record(ALPHA, [one], 900.0)) == "+130 [+105, +155]"


def forest_marks(one: dict) -> dict[str, list[float]]:
    """x of the marks in a claim's forest plot, by class."""
    root = ElementTree.fromstring(forest(one, record(ALPHA, [one], 0.5)))
    marks: dict[str, list[float]] = {}
    for mark in root:
        marks.setdefault(mark.get("class"), []).extend(float(mark.get(k)) for k in ("x1", "x2", "cx") if mark.get(k))
    return marks


def test_forest_plot_is_true_to_scale():
    marks = forest_marks(claim("better", [0.02, 0.04, 0.03, 0.01, 0.05], margin=-0.01))
    zero, mean = marks["pr-zero"][0], marks["pr-mean"][0]
    unit = (mean - zero) / 0.03
    low, high = marks["pr-interval"]
    half_width = 2.7764 * 0.0158114 / 5**0.5
    assert unit > 0
    assert [(x - zero) / unit for x in (low, high)] == pytest.approx([0.03 - half_width, 0.03 + half_width], abs=1e-4)
    assert [(x - zero) / unit for x in marks["pr-seed"]] == pytest.approx([0.02, 0.04, 0.03, 0.01, 0.05], abs=1e-4)
    assert (marks["pr-margin"][0] - zero) / unit == pytest.approx(-0.01, abs=1e-4)


def test_forest_plot_points_right_where_the_claim_holds():
    marks = forest_marks(claim("lower", [-0.1, -0.2, -0.15], metric="loss", higher_is_better=False))
    assert marks["pr-mean"][0] > marks["pr-zero"][0]
    assert "pr-margin" not in marks


def test_forest_plot_of_no_difference_at_all():
    marks = forest_marks(claim("the same", [0.0, 0.0, 0.0]))
    assert set(marks["pr-seed"]) == {marks["pr-zero"][0]}


@pytest.mark.parametrize(
    ("seconds", "text"), [(48.4, "48 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (8000, "2 h 13 min")]
)
def test_durations(seconds, text):
    assert records.duration(seconds) == text


def test_icons_are_pruned_to_those_in_use():
    up, bars = '"angle-up":[1,2,[],"f1","M1"],', 'bars:[1,2,["navicon"],"f2","M2"],'
    glass, circle = '"magnifying-glass":[1,2,[128269,"search"],"f3","M3"],', 'circle:[1,2,[],"f4",["M4","M5"]]'
    script = f"var a={{{up}{bars}{glass}{circle}}};"
    assert icons.prune(script, {"bars", "search"}) == f"var a={{{bars}{glass}}};"


def test_bibtex_escapes_markup_and_keeps_the_titles_capitals():
    text = bibtex(catalog.from_mapping(ALPHA))
    assert "@misc{alpha-net," in text
    assert r"title = {{AlphaNet: 100\% of Tables \& More}}" in text
    assert "author = {Ada Łukasz and Bo Nguyễn}" in text
    assert "eprint = {2301.00001}" in text


def cell(source: str, kind: str = "markdown", **more) -> dict:
    """A cell as JSON."""
    return {"cell_type": kind, "id": source[:8] or "empty", "metadata": {}, "source": source} | more


def page_cells(*cells: dict, several_runs: bool = True) -> list[dict]:
    """The cells of the page made from these cells."""
    text = json.dumps({"cells": cells, "metadata": {"papers": provenance(ALPHA)}, "nbformat": 4, "nbformat_minor": 5})
    return json.loads(notebook.page(text, several_runs=several_runs))["cells"]


def test_page_shows_the_other_runs_right_after_the_results():
    made = page_cells(cell("# Title"), cell("Prose.\n\n## What differs from the paper\n\nSize."))
    sources = [one["source"] for one in made]
    assert sources == [
        "# Title",
        "```{papers-glance}\n```",
        "Prose.",
        "## More runs",
        "```{papers-more-runs}\n```",
        "## What differs from the paper\n\nSize.",
    ]
    assert len({one["id"] for one in made}) == len(made)


def test_page_without_that_section_has_the_other_runs_at_its_end_and_none_without_other_runs():
    assert page_cells(cell("# Title"))[-1]["source"] == "```{papers-more-runs}\n```"
    assert [one["source"] for one in page_cells(cell("# Title"), several_runs=False)] == [
        "# Title",
        "```{papers-glance}\n```",
    ]


def test_page_leaves_out_what_only_programs_read():
    result = {"data": {records.RECORD_TYPE: {}, "text/plain": "Result record"}, "output_type": "display_data"}
    injected = cell("# Parameters", "code", outputs=[]) | {"metadata": {"tags": ["injected-parameters"]}}
    made = page_cells(cell("# Title"), injected, cell("run()", "code", outputs=[FIGURE, result]), several_runs=False)
    assert [one["source"] for one in made] == ["# Title", "```{papers-glance}\n```", "run()"]
    assert made[-1]["outputs"] == [FIGURE]


def test_alternative_texts_are_found_by_the_hash_that_names_the_file():
    text = json.dumps({"cells": [cell("draw()", "code", outputs=[FIGURE])]})
    hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of "hello"
    assert notebook.alternative_texts(text) == {hello: "A line"}


def test_an_image_without_alternative_text_is_a_warning(caplog):
    blind, seen, described = (nodes.image(uri=f"{name}.png") for name in ("blind", "abc", "given"))
    described["alt"] = "Written in the manuscript"
    document = nodes.section("", blind, seen, described)
    app = SimpleNamespace(papers_alternative_texts={"abc": "A line"}, env=SimpleNamespace(docname="chapters/x"))
    with caplog.at_level("WARNING"):
        describe_images(app, document)
    assert seen["alt"] == "A line"
    assert [entry.getMessage() for entry in caplog.records] == [
        "An image has no alternative text: show figures with plots.show(fig, alt=...) and write ![text](file)."
    ]


def chapter(tmp_path, entry: dict, *outputs: dict, metadata: dict | None = None) -> records.Chapter:
    """Read back a chapter written with these outputs."""
    path = tmp_path / "chapters" / f"{entry['slug']}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {"cells": [cell("run()", "code", outputs=outputs)], "metadata": {"papers": metadata or provenance(entry)}}
    path.write_text(json.dumps(made), encoding="utf-8")
    return records.read_chapter(tmp_path, catalog.from_mapping(entry))


def test_broken_chapters_are_named_with_what_to_do(tmp_path):
    result = record(ALPHA, [claim("better", [0.1, 0.2])], 0.5)
    output = {"data": {records.RECORD_TYPE: result}, "output_type": "display_data"}
    entry = ALPHA | {"headline": "book"}
    with pytest.raises(records.SiteError, match="tabular/alpha-net holds 0 result records instead of one"):
        chapter(tmp_path, entry)
    with pytest.raises(records.SiteError, match="lacks duration_s"):
        metadata = {key: value for key, value in provenance(ALPHA).items() if key != "duration_s"}
        chapter(tmp_path, entry, output, metadata=metadata)
    with pytest.raises(records.SiteError, match="headline run of tabular/alpha-net, and there is no such run"):
        chapter(tmp_path, ALPHA, output)
    with pytest.raises(records.SiteError, match=r"figure 1 of tabular/alpha-net, which has 0 figures"):
        render.picture(chapter(tmp_path, entry, output))


def test_data_of_a_run_is_its_parameter_before_the_catalogs(tmp_path):
    result = record(ALPHA, [claim("better", [0.1, 0.2])], 0.5)
    output = {"data": {records.RECORD_TYPE: result}, "output_type": "display_data"}
    read = chapter(tmp_path, ALPHA | {"headline": "book"}, output)
    assert read.data(read.main) == ("sonar", "ionosphere")
    other = records.Run("other", result, provenance(ALPHA, parameters={"dataset": None, "tables": "phoneme wine"}))
    assert read.data(other) == ("phoneme", "wine")


def test_links_follow_from_the_repository():
    links = render.Repository("https://github.com/papers-rerun/papers-rerun/", "main").links("tabular/hypertab")
    path = "papers/tabular/hypertab.ipynb"
    assert links == {
        "colab": f"https://colab.research.google.com/github/papers-rerun/papers-rerun/blob/main/{path}",
        "binder": f"https://mybinder.org/v2/gh/papers-rerun/papers-rerun/main?labpath={path}",
        "edit": f"https://github.com/papers-rerun/papers-rerun/edit/main/{path}",
    }


def test_templates_have_no_empty_attribute_or_unescaped_text(tmp_path):
    text = "<b>bold</b> claims & more"
    result = record(ALPHA, [claim(text, [0.1, 0.2])], 0.5)
    output = {"data": {records.RECORD_TYPE: result}, "output_type": "display_data"}
    read = chapter(tmp_path, ALPHA | {"headline": "book"}, output)
    html = render.scoreboard({ALPHA["slug"]: read}, "index", everything=True)
    assert "&lt;b&gt;bold&lt;/b&gt; claims &amp; more" in html
    assert "<b>" not in html
    assert not re.search(r'(href|data-part|data-value)=""', html)


def compared(slug: str, arms: dict[str, list[float]], seed: int = 0, label: str = "photos"):
    """A chapter whose one run has these accuracies."""
    run = records.Run(
        label,
        {"arms": {name: {"accuracy": interval(values).as_dict()} for name, values in arms.items()}},
        {"seed": seed},
    )
    entry = SimpleNamespace(slug=slug, short=slug.split("/")[1], part=slug.split("/")[0])
    return SimpleNamespace(entry=entry, runs=(run,), docname=f"chapters/{slug}")


ONE = compared("mixing/one", {"plain": [50.0, 52.0], "mixed": [53.0, 53.0]})
TWO = compared("mixing/two", {"plain": [50.0, 52.0, 51.0], "mixed": [53.0, 53.0, 50.0], "both": [60.0, 61.0, 62.0]})


def test_a_comparison_pairs_each_arm_with_the_baseline_and_shows_the_best_first():
    both, mixed, plain = lines([ONE, TWO], "photos", "accuracy", "plain")
    assert [line.arm for line in (both, mixed, plain)] == ["both", "mixed", "plain"]
    assert both.differences == (10.0, 9.0, 11.0) and both.chapters == (TWO,)
    assert mixed.differences == (3.0, 1.0, -1.0) and mixed.chapters == (ONE, TWO)
    assert plain.differences == (0.0, 0.0, 0.0)


def test_a_comparison_takes_seeds_for_what_they_are():
    later = compared("mixing/later", {"plain": [52.0, 51.0], "late": [53.0, 53.0]}, seed=1)
    table = {line.arm: line for line in lines([TWO, later], "photos", "accuracy", "plain")}
    assert table["late"].differences == (1.0, 2.0) and len(table["plain"].values) == 3


def test_a_comparison_refuses_arms_of_one_name_that_measured_otherwise():
    other = compared("mixing/other", {"plain": [50.0, 52.1]})
    with pytest.raises(
        records.SiteError, match="one and mixing/other both have an arm 'plain' .* for seed 1: run both"
    ):
        lines([ONE, other], "photos", "accuracy", "plain")


def test_a_comparison_leaves_out_what_it_is_told_to():
    assert [line.arm for line in lines([ONE, TWO], "photos", "accuracy", "plain", ("both",))] == ["mixed", "plain"]
    with pytest.raises(records.SiteError, match="an arm 'bath' to leave out"):
        lines([ONE, TWO], "photos", "accuracy", "plain", ("bath",))
    chapters = {chapter.entry.slug: chapter for chapter in (ONE, TWO)}
    names = "mixing/one mixing/two"
    html = render.comparison(
        chapters, "parts/mixing", names, "photos", "accuracy", "plain", "both; mixed", "share of right answers"
    )
    assert "share of right answers (%)" in html and "accuracy" not in html
    assert ">plain<" in html and ">both<" not in html and ">mixed<" not in html


def test_ranking_metrics_are_shown_in_percent():
    made = {"arms": {"one": {"NDCG@20": {"mean": 0.05}}, "two": {"NDCG@20": {"mean": 0.07}}}}
    assert records.points("NDCG@20", made) == 100 and records.points("Recall@20", made) is None
    assert records.points("R@1 unseen", {"arms": {"one": {"R@1 unseen": {"mean": 50.1}}}}) == 1


def test_one_chapters_baseline_serves_all_and_one_has_to_run_it():
    without = compared("mixing/without", {"other": [51.0, 51.0, 51.0]})
    table = {line.arm: line for line in lines([ONE, without], "photos", "accuracy", "plain")}
    assert table["other"].differences == (1.0, -1.0) and table["other"].chapters == (without,)
    with pytest.raises(records.SiteError, match="No chapter has a run 'photos' that reports accuracy for 'plain'"):
        lines([without], "photos", "accuracy", "plain")


def test_a_comparison_is_drawn_on_one_scale():
    chapters = {chapter.entry.slug: chapter for chapter in (ONE, TWO)}
    html = render.comparison(chapters, "parts/mixing", "mixing/one mixing/two", "photos", "accuracy", "plain")
    rows = re.findall(
        r'<th role="rowheader" scope="row">(.*?)</th>.*?aria-label="(.*?)".*?"pr-mean" cx="(.*?)"', html, re.S
    )
    assert [row[0] for row in rows] == ["both", "mixed"]
    assert "both minus plain, accuracy: +10.0 [+7.5, +12.5], 3 seeds" in rows[0][1]
    offsets = [float(x) - 90 for *_, x in rows]
    assert offsets[0] / offsets[1] == pytest.approx(10, rel=0.03)
    with pytest.raises(records.SiteError, match="There is no executed chapter 'mixing/three' to compare"):
        render.comparison(chapters, "parts/mixing", "mixing/one mixing/three", "photos", "accuracy", "plain")
    assert '<a href="../chapters/mixing/one.html">one</a>, <a href="../chapters/mixing/two.html">two</a>' in html
