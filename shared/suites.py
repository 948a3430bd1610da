"""A suite of small tables on which chapters compare classifiers: the same rows, splits, tuning and score for all.

The tables are those of KEEL's standard classification collection (not the two-class problems cut from it to be
imbalanced) with 300 to 2,000 rows, five columns or more, all of them numeric, at least 30 rows of every class, and no
note of damaged values on their card: a rule about size and kind, which no result entered. A chapter runs them under its
parameter ``protocol`` = "keel".

For one seed a table falls into three parts, stratified: three fifths of the rows train, a fifth validates, a fifth
tests. Columns are in units of the training rows' mean and standard deviation. Every arm trains with each of its
settings on the training rows; the one with the best validation score is scored on the test rows. The score is balanced
accuracy, the mean of the classes' recalls, in percent.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from shared import data
from shared.data.tables import folds

#: What the parameter ``protocol`` of a chapter says to run the suite.
PROTOCOL = "keel"
TABLES = (
    "bands", "bupa", "contraceptive", "ionosphere", "led7digit", "mammographic", "monk-2", "pima", "vehicle", "vowel",
    "wdbc", "wisconsin",
)  # fmt: skip
#: Name of the metric that sums up the tables; each table's own metric has the table's name.
MEAN = "mean balanced accuracy (%)"
PARTS = 5  # equal parts of a table: one tests, one validates, the others train

#: Settings of the baseline that all chapters share: as it comes; shallow; shallow and slow, or deep, with sampling.
XGBOOST = (
    dict(),
    dict(max_depth=3, learning_rate=0.1, n_estimators=200),
    dict(max_depth=3, learning_rate=0.05, n_estimators=200, subsample=0.7, colsample_bytree=0.5),
    dict(max_depth=6, learning_rate=0.1, n_estimators=100, subsample=0.7, colsample_bytree=0.5),
)


def asked_for(protocol: str | None) -> bool:
    """Whether a chapter is to run the suite in place of its own experiment (None).

    Raises ValueError for a protocol that there is not.
    """
    if protocol not in (None, PROTOCOL):
        raise ValueError(f"There is no protocol {protocol!r}: leave it out, or ask for {PROTOCOL!r}.")
    return protocol == PROTOCOL


@dataclass(frozen=True, eq=False)
class Split:
    """A table in three parts, its columns standardised: x... (rows, d) float64, y... (rows,) int64 in 0..classes-1."""

    name: str
    seed: int
    classes: int
    x: np.ndarray
    y: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def x_new(self) -> np.ndarray:
        """Validation rows and then test rows: what an arm predicts."""
        return np.vstack([self.x_valid, self.x_test])


@cache
def split(name: str, seed: int) -> Split:
    """The parts of a table for a seed: the same in every chapter, and for every arm of it.

    Part 0 of five stratified ones tests, part 1 validates. A column without spread in the training rows becomes 0
    there. Raises ``DataError`` for a table that there is not.
    """
    table = data.load(name)
    part = folds(table, PARTS, seed)
    rows = [part > 1, part == 1, part == 0]
    mean, spread = table.x[rows[0]].mean(0), table.x[rows[0]].std(0)
    spread[spread == 0] = 1
    arrays = [array for some in rows for array in ((table.x[some] - mean) / spread, table.y[some])]
    return Split(name, seed, len(table.classes), *arrays)


def balanced_accuracy(y: np.ndarray, predicted: np.ndarray) -> float:
    """Mean recall of the classes that occur in y, in percent; y and predicted are (n,) class numbers.

    Raises ValueError when they are not equally long, or empty.
    """
    if len(y) != len(predicted) or not len(y):
        raise ValueError(f"{len(predicted)} predictions for {len(y)} rows: predict every row once.")
    return 100 * float(np.mean([(predicted[y == c] == c).mean() for c in np.unique(y)]))


def evaluate(
    fit_predict: Callable[[Split, dict], np.ndarray],
    settings: Iterable[dict],
    seed: int,
    tables: Iterable[str] = TABLES,
) -> dict[str, float]:
    """Test score (%) of an arm on every table, under the table's name, and their mean under ``MEAN``.

    fit_predict: called with a split and one of the settings, trains on ``x`` and ``y`` and returns class numbers for
    the rows of ``x_new``; randomness comes from ``split.seed``. Of equally good settings the first counts.
    """
    scores, settings = {}, list(settings)
    for name in tables:
        part, tried = split(name, seed), []
        for setting in settings:
            valid, test = np.split(fit_predict(part, setting), [len(part.y_valid)])
            tried.append((balanced_accuracy(part.y_valid, valid), balanced_accuracy(part.y_test, test)))
        scores[name] = max(tried, key=lambda both: both[0])[1]
    return scores | {MEAN: float(np.mean(list(scores.values())))}


def xgboost(seed: int, tables: Iterable[str] = TABLES) -> dict[str, float]:
    """``evaluate`` of gradient-boosted trees, tuned over ``XGBOOST``: the arm that every chapter's record holds."""
    from xgboost import XGBClassifier

    def fit_predict(part: Split, setting: dict) -> np.ndarray:
        return XGBClassifier(n_jobs=1, random_state=part.seed, **setting).fit(part.x, part.y).predict(part.x_new)

    return evaluate(fit_predict, XGBOOST, seed, tables)
