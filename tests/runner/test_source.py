"""Source notebooks: hashes, parameters, the form of a chapter."""

import copy
import os

import nbformat
import pytest

from shared.runner import form, provenance, source
from tests.runner.checkout import notebook


def test_the_hash_counts_types_and_sources_only():
    one = notebook("tabular/x", "a = 1")
    other = copy.deepcopy(one)
    other.cells[2].outputs = [nbformat.v4.new_output("stream", text="1")]
    other.cells[2].metadata.tags = ["check"]
    other.metadata.papers = {"profile": "book"}
    injected = nbformat.v4.new_code_cell("alpha = 2", metadata={"tags": ["injected-parameters"]})
    other.cells.insert(2, injected)
    assert source.source_sha256(one) == source.source_sha256(other)
    other.cells[-1].source += " "
    assert source.source_sha256(one) != source.source_sha256(other)
    retyped = copy.deepcopy(one)
    retyped.cells[0].cell_type = "raw"
    assert source.source_sha256(one) != source.source_sha256(retyped)


def test_the_hash_knows_where_a_cell_ends():
    assert source.source_sha256(notebook("x/y", "a", "b")) != source.source_sha256(notebook("x/y", "a\nb"))


@pytest.fixture
def package(tmp_path):
    """Writes files of a shared package (``data__sets_py`` is data/sets.py) and returns its hash for a notebook."""

    def write(*cells, **files):
        for name, text in {"__init___py": "", **files}.items():
            path = tmp_path / (name.removesuffix("_py").replace("data__", "data/") + ".py")
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        return provenance.shared_sha256(notebook("x/y", *cells), tmp_path)

    return write


@pytest.mark.parametrize("line", ["from shared import nets", "import shared.nets", "from shared.nets import mlp"])
def test_shared_hash_follows_the_code_that_the_notebook_imports(package, line):
    first = package(line, nets_py="x = 1", other_py="y = 1")
    assert package(line, other_py="y = 2") == first
    assert package(line, nets_py="x = 2") != first


def test_shared_hash_follows_imports_of_imports_within_functions(package):
    def hashed(**files):
        return package("from shared import nets", **files)

    first = hashed(nets_py="def f():\n    from shared import deep", deep_py="from .third import z", third_py="z = 1")
    assert hashed(third_py="z = 2") != first


def test_shared_hash_leaves_out_loaders_of_other_data_and_what_delivers_it():
    tables = provenance.shared_files(notebook("x/y", "from shared import data", 'data.load("sonar")'))
    assert "data/tables.py" in tables and "data/containers.py" in tables
    assert not {"data/images.py", "data/registry.py", "data/wheels.py"} & set(tables)


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ('data.load("mnist-m")', "data/images.py"),  # made from digits and photographs
        ("data.scenes.digit_scenes", "data/scenes.py"),
        ('wanted = ["cora"]', "data/graphs.py"),
    ],
)
def test_shared_hash_finds_the_loaders_of_the_data_that_a_notebook_names(cell, file):
    assert file in provenance.shared_files(notebook("x/y", "from shared import data", cell))


def test_a_cell_that_is_not_python_uses_nothing(package):
    assert package("%%time\nfrom shared import nets", nets_py="x = 1") == package(nets_py="x = 2")


def test_parameters_are_read_without_running_the_cell():
    assert source.parameter_defaults(notebook("x/y")) == {"profile": None, "seed": 0, "alpha": 1.0, "name": "one"}


@pytest.mark.parametrize("text", ["a = f()", "a, b = 1, 2", "import os", "a = b = 1"])
def test_a_parameters_cell_holds_literals_only(text):
    tiny = notebook("x/y")
    tiny.cells[1].source = text
    with pytest.raises(source.SourceError, match="is not `name = literal`"):
        source.parameter_defaults(tiny)


def test_exactly_one_parameters_cell():
    tiny = notebook("x/y")
    tiny.cells.append(copy.deepcopy(tiny.cells[1]))
    with pytest.raises(source.SourceError, match="has 2 cells tagged `parameters`"):
        source.parameter_defaults(tiny)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("3", 1, 3),
        ("3", 1.0, 3.0),
        ("1e-3", 1.0, 0.001),
        ("true", False, True),
        ("7", "a", "7"),
        ("none", None, None),
        ("adult", None, "adult"),
        ("(1, 2)", [0], [1, 2]),
    ],
)
def test_values_take_the_kind_of_the_default(text, default, value):
    converted = source.convert("p", text, default)
    assert converted == value and type(converted) is type(value)


@pytest.mark.parametrize(("text", "default"), [("x", 1), ("1.5", 1), ("1", True), ("True", 1), ("x", 1.0), ("3", [1])])
def test_values_of_another_kind_are_refused(text, default):
    with pytest.raises(source.SourceError, match="Parameter p cannot be"):
        source.convert("p", text, default)


def chapter():
    """A notebook in the form of a chapter."""
    tiny = notebook("x/y", "a = 1")
    tiny.cells = tiny.cells[:3]
    check = nbformat.v4.new_code_cell("# NBVAL_CHECK_OUTPUT\nprint(1)", id="check", metadata={"tags": ["check"]})
    check.outputs = [nbformat.v4.new_output("stream", text="1\n")]
    check.execution_count = 1
    for number, section in enumerate(form.SECTIONS):
        tiny.cells.append(nbformat.v4.new_markdown_cell(f"## {section}\n\nWords.", id=f"section-{number}"))
        if section == "Checks":
            tiny.cells.append(check)
    return tiny


def test_a_chapter_in_its_form_has_no_problems():
    assert form.problems(chapter()) == []


def break_sections(tiny):
    tiny.cells[3], tiny.cells[4] = tiny.cells[4], tiny.cells[3]


def break_title(tiny):
    tiny.cells[0].source = "Title"


def break_length(tiny):
    tiny.cells[2].source = "a = 1\n" * 46


def break_path(tiny):
    tiny.cells[3].source += f" See `{os.sep}home/me/notes`."


def break_image(tiny):
    tiny.cells[3].source += " ![](picture.png)"


def break_formula(tiny):
    tiny.cells[3].source += "\n\n$$\\begin{aligned}a&=b,\\\\\nc&=d.\\end{aligned}\\tag{1}$$"


def break_check_output(tiny):
    next(c for c in tiny.cells if c.id == "check").outputs = []


def break_check_mark(tiny):
    next(c for c in tiny.cells if c.id == "check").metadata = {}


def break_execution_count(tiny):
    next(c for c in tiny.cells if c.id == "check").execution_count = None


def break_outputs(tiny):
    tiny.cells[2].outputs = [nbformat.v4.new_output("stream", text="1\n")]


def break_seed(tiny):
    tiny.cells[1].source = tiny.cells[1].source.replace("seed = 0", "seed = 1")


def break_kernel(tiny):
    tiny.metadata.kernelspec.name = "julia"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_sections, "Its sections are"),
        (break_title, "needs one title"),
        (break_length, "Cell 3 has 47 lines"),
        (break_path, "a path of one machine"),
        (break_image, "without alt text"),
        (break_formula, "write `\\cr`"),
        (break_check_output, "has no output"),
        (break_check_mark, "tagged `check` and start with"),
        (break_execution_count, "no execution count"),
        (break_outputs, "is no `check` cell"),
        (break_seed, "no `seed = 0`"),
        (break_kernel, "kernel julia"),
    ],
)
def test_each_flaw_is_named(damage, said):
    tiny = chapter()
    damage(tiny)
    assert any(said in problem for problem in form.problems(tiny)), form.problems(tiny)
