"""Texts are what their cards say; functions of Python are read without being run."""

import ast
import sys

import numpy as np
import pytest
import torch

from shared import data
from shared.data import source_code

TEXTS = [name for name in data.names(kind="text", origin="wheel") if name != "news-similarity"]


@pytest.mark.parametrize("name", TEXTS)
def test_every_set_of_texts(name):
    texts, card = data.load(name), data.card(name)
    assert texts.name == name and f"{len(texts):,}" in card.shape
    assert all(isinstance(text, str) for text in texts.texts)
    assert not any("�" in text for text in texts.texts) or name == "questions"  # there, already in the source
    if texts.details is not None:
        assert list(texts.details.index) == list(range(len(texts)))
    if name == "news":
        assert texts.labels is None and texts.classes == []
    elif name == "sentiment":
        assert texts.labels.dtype == torch.float32 and texts.classes == []
        assert -4 < texts.labels.min() < -3.8 and 3.9 < texts.labels.max() < 4
    else:
        assert texts.labels.dtype == torch.int64
        counts = dict(zip(texts.classes, texts.labels.bincount().tolist()))
        assert counts == {label: count for label, count in card.balance.items() if label in texts.classes}


def test_reviews():
    reviews = data.load("reviews")
    assert reviews.texts.count("") == 845 and (reviews.details["title"] == "").sum() == 3810
    assert reviews.texts[1].startswith("Love this dress!  it's sooo pretty.")
    assert reviews.details.loc[2, "title"] == "Some major design flaws" and reviews.labels[2] == 2  # three stars
    assert set(reviews.details["division"].dropna()) == {"General", "General Petite", "Intimates"}
    assert reviews.details["department"].isna().sum() == 14
    # Who recommends an item gives it many stars.
    recommended = torch.tensor(reviews.details["recommended"].tolist())
    assert recommended.sum() == 19_314
    assert reviews.labels[recommended].float().mean() > 3.5 > 1.5 > reviews.labels[~recommended].float().mean()


def test_sentiment_by_domain():
    everything = data.load("sentiment")
    sizes = {"films": 10_605, "products": 3_708, "tweets": 4_200, "editorials": 5_190}
    assert everything.details["domain"].value_counts(sort=False).to_dict() == sizes
    start = 0
    for domain, size in sizes.items():
        part = data.load("sentiment", domain=domain)
        assert part.texts == everything.texts[start : start + size]
        assert torch.equal(part.labels, everything.labels[start : start + size])
        assert part.details.equals(everything.details[start : start + size].reset_index(drop=True))
        start += size
        deviation = part.details["deviation"]
        assert deviation.isna().sum() == (199 if domain == "tweets" else 0) and deviation.dropna().between(0, 3).all()
        documents = {"products": 300, "editorials": 498}.get(domain, size)  # reviews and articles
        assert part.details["document"].nunique() == documents and part.details["document"].min() == 0
    # The first and the third film, as their readers judged them: the mean of 15 whole numbers from -4 to 4.
    assert everything.labels[[0, 2]].tolist() == pytest.approx([34 / 15, -9 / 15])
    assert everything.texts[2] == "Effective but too tepid biopic"
    assert everything.details.loc[2, "deviation"] == pytest.approx(0.8)
    with pytest.raises(data.DataError, match="no domain 'books': choose from 'films', 'products'"):
        data.load("sentiment", domain="books")


def test_messages_that_the_source_ran_together_are_taken_apart():
    messages = data.load("sms-spam")
    assert not any("\n" in text or "\t" in text for text in messages.texts)
    assert messages.texts[2].startswith("Free entry in 2 a wkly comp") and messages.labels[:3].tolist() == [0, 0, 1]
    assert max(map(len, messages.texts)) < 1000
    # A long number to call is a sign of spam; so nothing has moved against the labels.
    calls = torch.tensor(["call 0" in text.lower() for text in messages.texts])
    assert calls.sum() > 100 and messages.labels[calls].float().mean() > 0.95


def test_questions():
    questions = data.load("questions")
    assert questions.texts[0] == "How did serfdom develop in and then leave Russia ?"
    assert questions.details["fine"].nunique() == 50 and questions.details.loc[0, "fine"] == "DESC:manner"
    assert [questions.classes[label] for label in questions.labels] == [
        fine.split(":")[0] for fine in questions.details["fine"]
    ]
    assert len(set(questions.texts)) == 5_381  # one of them under two types
    who = torch.tensor([text.startswith("Who ") for text in questions.texts])
    assert (questions.labels[who] == questions.classes.index("HUM")).float().mean() > 0.9


def test_rotten_tomatoes():
    passages, plots = (data.load("rotten-tomatoes", part=part) for part in ("passages", "plots"))
    assert passages.details["film"].nunique() == 508 and all(passages.texts)
    assert len(plots) == plots.details["film"].nunique() == 1_097
    assert plots.labels is None and plots.classes == [] and plots.texts.count("") == 14
    both = set(passages.details["film"]) & set(plots.details["film"])
    assert len(both) == 156
    for part in (passages, plots):
        assert set(part.details.loc[part.details["both"], "film"]) == both
    with pytest.raises(data.DataError, match="no part 'reviews': choose from 'passages', 'plots'"):
        data.load("rotten-tomatoes", part="reviews")


@pytest.mark.parametrize(
    ("name", "options", "train", "test", "classes"),
    [
        ("newsgroups", {}, 11_293, 7_528, 20),
        ("reuters", {}, 5_485, 2_189, 8),
        ("reuters", {"topics": 52}, 6_532, 2_568, 52),
    ],
)
def test_newsgroups_and_newswire(name, options, train, test, classes):
    parts = {split: data.load(name, split=split, **options) for split in ("train", "test")}
    for split, part in parts.items():
        assert len(part) == {"train": train, "test": test}[split] and len(part.classes) == classes
        assert set(part.labels.tolist()) == set(range(classes))
        assert set("".join(part.texts)) <= set("abcdefghijklmnopqrstuvwxyz ")
        assert all(text and text == " ".join(text.split()) for text in part.texts)
    assert parts["train"].classes == parts["test"].classes
    with pytest.raises(data.DataError, match="no split 'dev': choose from 'train', 'test'"):
        data.load(name, split="dev")


def test_both_versions_of_reuters_hold_the_same_stories():
    small, large = data.load("reuters"), data.load("reuters", topics=52)
    assert large.classes[:8] == small.classes
    assert [text for text, label in zip(large.texts, large.labels) if label < 8] == small.texts
    assert small.texts[0].startswith("champion products ch approves stock split") and small.classes[0] == "earn"
    assert large.labels.bincount()[8:].diff().max() <= 0  # from the most to the least frequent
    with pytest.raises(data.DataError, match="no number of topics 90: choose from 8, 52"):
        data.load("reuters", topics=90)


def test_news_and_what_people_found_similar():
    background, judged = data.load("news"), data.load("news", part="judged")
    assert (len(background), len(judged)) == (300, 50) and len(set(background.texts)) == 293
    assert background.texts[0].startswith("Hundreds of people have been forced to vacate their homes")
    assert all(200 < len(text) for text in judged.texts + background.texts)
    similarity = data.load("news-similarity")
    assert similarity.shape == (50, 50) and similarity.dtype == torch.float32
    assert torch.equal(similarity, similarity.T) and (similarity.diag() == 1).all()
    assert similarity.min() == pytest.approx(0.2) and similarity.max() == 1
    # People and counted words agree: the pairs found most similar share more rare words.
    words = [{word for word in text.lower().split() if len(word) > 6} for text in judged.texts]
    pairs = np.array([(i, j) for i in range(50) for j in range(i)])
    shared = np.array([len(words[i] & words[j]) / len(words[i] | words[j]) for i, j in pairs])
    assert np.corrcoef(shared, similarity[pairs[:, 0], pairs[:, 1]])[0, 1] > 0.4


MODULE = '''"""What a module says."""
import os

raise RuntimeError("This file must not be run.")


def area(width: float, height=1.0, *, unit="m") -> float:
    """The area.

        Indented.
    """
    # A comment.
    return width * height  # π


class Box:
    """Not a function."""

    @property
    @cache
    def side(self): return self._side

    class Lid:
        async def open(self, *args, **rest):
            text = """
not indented"""
            def inner():
                pass
            return inner


if os.name == "nt":
    def only_here(): pass
else:
    def only_here(): "Nothing else."
'''


def test_functions_of_a_known_module():
    rows = source_code.read_module("made", "made.module", MODULE.encode())
    assert [row[2] for row in rows] == ["area", "Box.side", "Box.Lid.open", "only_here", "only_here"]
    package, module, _, name, signature, docstring, source, code, tree = rows[0]
    assert (package, module, name) == ("made", "made.module", "area")
    assert signature == "area(width: float, height=1.0, *, unit='m') -> float"
    assert docstring == "The area.\n\nIndented."
    assert source.startswith("def area(width") and source.endswith("return width * height  # π")
    assert "# A comment." in source and "The area." in source
    assert code == "def area(width: float, height=1.0, *, unit='m') -> float:\n    return width * height"
    assert tree == (
        "FunctionDef:area(arguments(arg:width(Name:float) arg:height arg:unit Constant:str Constant:float) "
        "Return(BinOp(Name:width Mult Name:height)) Name:float)"
    )
    assert rows[1][6] == "@property\n@cache\ndef side(self): return self._side"
    assert rows[2][3:5] == ("open", "open(self, *args, **rest)")
    assert 'text = """\nnot indented"""' in rows[2][6] and "def inner" in rows[2][7]
    assert [(row[5], row[7]) for row in rows[3:]] == [
        ("", "def only_here():\n    pass"),
        ("Nothing else.", "def only_here():\n    pass"),
    ]


def test_compact_trees_are_read_back():
    node = ast.parse("def f(x):\n    return g(x, key=-1.5)[0]").body[0]
    labels, parents = source_code.parse_tree(source_code.compact(node))
    kept = [n for n in ast.walk(node) if not isinstance(n, ast.expr_context)]
    assert len(labels) == len(parents) == len(kept)
    assert parents[0] == -1 and all(parent < i for i, parent in enumerate(parents))
    call = labels.index("Call")
    assert [labels[i] for i, parent in enumerate(parents) if parent == call] == ["Name:g", "Name:x", "keyword:key"]
    assert "Constant:float" in labels and "Constant:int" in labels
    assert source_code.parse_tree("A") == (["A"], [-1])


@pytest.mark.parametrize("content", [b"def broken(:\n", b"\xff\xfe\x00", b"x = 1\n", b"# -*- coding: no-such -*-\n"])
def test_files_without_functions(content):
    assert source_code.read_module("made", "made", content) == []


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "lib" / "heldback"
    for name in ("__init__.py", "b.py", "a/__init__.py", "tests/test_b.py", "a/test_more.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(MODULE)
    (root / "a" / "old.py").write_bytes("# -*- coding: latin-1 -*-\ndef älter(x):\n\f    return x\n".encode("latin-1"))
    monkeypatch.syspath_prepend(str(root.parent))
    return "heldback"


def test_functions_of_a_package_are_parsed_and_never_run(own_cache, package):
    first = data.load("python-functions", packages=(package,))
    # Tests are left out.
    modules = ["heldback"] * 5 + ["heldback.a"] * 5 + ["heldback.a.old"] + ["heldback.b"] * 5
    assert first["module"].tolist() == modules
    assert "heldback" not in sys.modules  # its first statement would have raised
    old = first[first["module"] == "heldback.a.old"].iloc[0]
    assert old["name"] == "älter" and old["code"] == "def älter(x):\n    return x"
    assert data.load("python-functions", packages=(package,)).equals(first)
    assert len(list(own_cache.rglob("python-functions-*"))) == 1
    for missing in ("no_such_package", "not a name"):
        with pytest.raises(data.DataError, match=f"package '{missing}' is not installed"):
            data.load("python-functions", packages=(missing,))


def test_functions_of_the_book():
    functions = data.load("python-functions")
    assert functions["package"].drop_duplicates().tolist() == list(source_code.PACKAGES)
    assert 25_000 < len(functions) < 40_000 and (functions["package"] == "stdlib").sum() > 12_000
    assert not functions["module"].str.contains(r"\.tests?\.").any() and not functions.isna().any(axis=None)
    for _, part in functions.groupby("package"):
        assert part["module"].is_monotonic_increasing
    assert 0.3 < (functions["docstring"] != "").mean() < 0.7
    mean = functions[(functions["module"] == "statistics") & (functions["name"] == "fmean")].iloc[0]
    assert mean["docstring"].startswith("Convert data to floats") and mean["signature"].startswith("fmean(data")
    assert "Convert data" in mean["source"] and "Convert data" not in mean["code"]
    for _, row in functions.sample(300, random_state=0).iterrows():
        node = ast.parse(row["code"]).body[0]
        assert node.name == row["name"] and row["tree"] == source_code.compact(node)
        written = ast.get_docstring(ast.parse(row["source"]).body[0]) or ""
        assert written.split() == row["docstring"].split()  # with a line joined to the next, spaces may differ
