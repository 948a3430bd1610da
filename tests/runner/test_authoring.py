"""Chapters written as text, and the loader that tests use."""

import dataclasses
import inspect
import pickle

import nbformat
import pytest
from typer.testing import CliRunner

from shared import authoring
from tests.notebooks import load_path

TEXT = '''\
# %% [markdown]
# # A title
#
# $$x = 1$$

# %% tags=["parameters"]
profile = None
seed = 0

# %%
import dataclasses


@dataclasses.dataclass
class Pair:
    """Two numbers."""

    a: int
    b: int


def total(pair):
    """Their sum."""
    return pair.a + pair.b


# %% tags=["figure"]
drawn = True

# %% tags=["check"]
# NBVAL_CHECK_OUTPUT
print(Pair(1, 2))
Pair(3, 4).b

# %%
below = 1

# %% tags=["method"]
helper = 2
'''


@pytest.fixture
def written(tmp_path):
    """The text as a file and the notebook made of it, without running."""
    text, notebook = tmp_path / "x.py", tmp_path / "papers" / "tabular" / "x.ipynb"
    text.write_text(TEXT)
    assert author("from-text", "--no-run", text, notebook).exit_code == 0
    return text, notebook


def author(*arguments):
    return CliRunner().invoke(authoring.app, [str(argument) for argument in arguments])


def test_text_to_notebook_and_back(written, tmp_path):
    text, notebook = written
    made = nbformat.read(notebook, as_version=4)
    nbformat.validate(made)
    assert set(made.metadata) == {"kernelspec", "language_info"} and made.nbformat_minor == 5
    assert author("to-text", notebook, tmp_path / "back.py").exit_code == 0
    assert (tmp_path / "back.py").read_text() == TEXT


def test_ids_depend_on_content_and_survive_an_insertion():
    one = authoring.notebook_from_text(TEXT)
    two = authoring.notebook_from_text("# %%\nfirst = 1\n\n" + TEXT + "\n# %%\nbelow = 1\n")
    ids = [cell.id for cell in two.cells]
    assert ids[1:-1] == [cell.id for cell in one.cells]
    assert len(set(ids)) == len(ids)


def test_check_outputs_are_kept_and_refreshed_and_nothing_else(written):
    text, notebook = written
    ended = author("check", notebook)
    assert ended.exit_code == 0 and "ran at smoke in" in ended.output, ended.output
    made = nbformat.read(notebook, as_version=4)
    outputs = made.cells[4].outputs
    assert outputs[0].text == "Pair(a=1, b=2)\n" and outputs[1].data["text/plain"] == "4"
    assert outputs[1].execution_count is None
    assert all(not cell.get("outputs") for cell in made.cells if cell is not made.cells[4])
    first = notebook.read_bytes()
    author("check", notebook)
    assert notebook.read_bytes() == first


def test_a_failing_notebook_is_shown_and_not_written(written):
    text, notebook = written
    before = notebook.read_bytes()
    text.write_text(TEXT.replace("below = 1", "below = missing"))
    ended = author("from-text", text, notebook)
    assert ended.exit_code == 1 and notebook.read_bytes() == before
    assert "tabular/x: cell 5 of 6 failed: NameError: name 'missing' is not defined" in ended.output
    assert "----> 1 below = missing" in ended.output


def test_a_method_is_what_stands_above_the_checks(written):
    method = load_path(written[1], "tabular/x")
    assert method.profile == "smoke" and method.helper == 2
    assert not hasattr(method, "drawn") and not hasattr(method, "below")
    assert pickle.loads(pickle.dumps(method.Pair(1, 2))) == method.Pair(1, 2)
    assert dataclasses.asdict(method.Pair(1, 2)) == {"a": 1, "b": 2}
    assert method.total(method.Pair(1, 2)) == 3
    assert inspect.getsource(method.total).splitlines()[1] == '    """Their sum."""'
