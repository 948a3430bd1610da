"""Time series are what their cards say, and .ts files are read as their format is documented."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from shared import data
from shared.data import series

LABELLED = [name for name in data.names(kind="series") if data.registry.rows()[name].get("like") == "ucr"]


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_series(name):
    card = data.card(name)
    parts = [data.load(name, split=split) for split in ("train", "test")]
    sizes = [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", card.shape)][:4]  # train, test, C, T
    assert [len(part) for part in parts] == sizes[:2]
    assert max(part.x.shape[2] for part in parts) == sizes[3]
    counts = sum(part.labels.bincount(minlength=len(card.classes)) for part in parts)
    assert dict(zip(card.classes, counts.tolist())) == card.balance
    for part in parts:
        assert part.name == name and part.classes == list(card.classes)
        assert part.x.shape[:2] == (len(part), sizes[2]) and part.x.dtype == torch.float32
        assert part.labels.dtype == part.lengths.dtype == torch.int64 and part.lengths.shape == (len(part),)
        assert part.x.isfinite().all() and part.mask.shape == (len(part), part.x.shape[2])
        assert torch.equal(part.mask.sum(1), part.lengths) and part.lengths.max() == part.x.shape[2]
        assert (part.x * ~part.mask[:, None] == 0).all()
        again = data.load(name, split="train" if part is parts[0] else "test")
        assert torch.equal(part.x, again.x) and torch.equal(part.labels, again.labels)
        if card.units.startswith("standardised"):
            torch.testing.assert_close(part.x.mean(2), torch.zeros(part.x.shape[:2]), atol=2e-3, rtol=0)
            torch.testing.assert_close(part.x.std(2), torch.ones(part.x.shape[:2]), atol=3e-2, rtol=0)
    with pytest.raises(data.DataError, match=f"{name}' have no split 'dev': ask for 'train' or 'test'"):
        data.load(name, split="dev")


def test_values_are_those_of_the_source():
    arrow = data.load("arrowhead")
    assert arrow.x[0, 0, :3].tolist() == pytest.approx([-1.9630089, -1.9578249, -1.9561449])
    assert data.load("italypowerdemand").x[0, 0, -1] == pytest.approx(-0.26923494)
    vowels = data.load("japanesevowels")
    assert vowels.lengths[:2].tolist() == [20, 26] and vowels.lengths.min() == 7
    assert vowels.x[0, 0, 0] == pytest.approx(1.860936) and vowels.x[0, 1, 0] == pytest.approx(-0.207383)
    assert vowels.x[0, 0, 19] == pytest.approx(1.261441) and vowels.x[0, 0, 20] == 0
    assert data.load("basicmotions").classes == ["Standing", "Running", "Walking", "Badminton"]


@pytest.mark.parametrize(("name", "error"), [("gunpoint", 0.0867), ("italypowerdemand", 0.0447), ("arrowhead", 0.2)])
def test_nearest_neighbours_err_as_published(name, error):
    """The archive's site prints the error rate of one nearest neighbour with the Euclidean distance."""
    train, test = (data.load(name, split=split) for split in ("train", "test"))
    nearest = torch.cdist(test.x[:, 0].double(), train.x[:, 0].double()).argmin(1)
    assert (train.labels[nearest] != test.labels).double().mean() == pytest.approx(error, abs=1e-4)


TS = """# A made file.
@problemName Made
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true b a
@data
1,?,3:4,5,NaN:a

-1e2:0.5:b
"""


def test_missing_values_and_unequal_lengths():
    cases, labels, classes = series.parse_ts(TS)
    assert labels == ["a", "b"] and classes == ["b", "a"]
    np.testing.assert_array_equal(cases[0], np.float32([[1, np.nan, 3], [4, 5, np.nan]]))
    np.testing.assert_array_equal(cases[1], np.float32([[-100], [0.5]]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@timeStamps false", "@timeStamps true", "only files with classes and without time stamps"),
        ("@classLabel true b a", "@classLabel false", "only files with classes"),
        ("@classLabel true b a", "@targetLabel true", "only files with classes"),
        ("@data\n", "", "only files with classes"),
        ("-1e2:0.5:b", "-1e2:b", "Line 12 of a .ts file is not 2"),
        ("-1e2:0.5:b", "-1e2:0.5:c", "Line 12 of a .ts file is not 2"),
        ("1,?,3:4,5", "1,3:4,5", "Line 10 of a .ts file is not 2"),
        ("1,?,3", "1,one,3", "Line 10 of a .ts file is not 2"),
    ],
)
def test_files_that_are_not_understood(old, new, message):
    with pytest.raises(data.DataError, match=message) as error:
        series.parse_ts(TS.replace(old, new))
    assert "\n" not in str(error.value)


def test_airline_and_lynx():
    airline, lynx = data.load("airline"), data.load("lynx")
    assert airline["passengers"].dtype == lynx["trapped"].dtype == np.int64
    assert len(airline) == 144 and airline["passengers"].iloc[[0, -1]].tolist() == [112, 432]
    assert airline.index.equals(pd.period_range("1949-01", "1960-12", freq="M"))
    assert len(lynx) == 114 and lynx["trapped"].iloc[[0, -1]].tolist() == [269, 3396]
    assert lynx.index.equals(pd.period_range("1821", "1934", freq="Y"))
    # Summer is the season; and the lynx come and go in ten years.
    assert airline["passengers"].groupby(airline.index.month).mean().idxmax() == 7
    logarithm = np.log(lynx["trapped"].to_numpy())
    spectrum = np.abs(np.fft.rfft(logarithm - logarithm.mean()))
    assert 9 < len(lynx) / spectrum.argmax() < 10.5


def test_solar():
    solar = data.load("solar")
    assert solar.index.equals(pd.date_range("2021-05-01", "2021-05-07", freq="30min", tz="UTC"))
    assert solar["generation"].dtype == np.float64 and 0 == solar["generation"].min() < solar["generation"].max() < 0.56
    by_hour = solar["generation"].groupby(solar.index.hour).mean()
    assert by_hour[0] == by_hour[2] == 0 and 10 <= by_hour.idxmax() <= 13


def test_bikeshare():
    bikes = data.load("bikeshare")
    assert bikes.shape == (8_645, 12) and bikes.index.is_unique and bikes.index.is_monotonic_increasing
    assert bikes.index[0] == pd.Timestamp("2011-01-01 00:00") and bikes.index[-1] == pd.Timestamp("2011-12-31 23:00")
    assert len(pd.date_range(bikes.index[0], bikes.index[-1], freq="h")) - len(bikes) == 115
    assert (bikes["bikers"] == bikes["casual"] + bikes["registered"]).all()
    assert (bikes["weekday"] == (bikes.index.day_of_week + 1) % 7).all()  # so the days are those of 2011
    assert set(bikes["weather"]) == {"clear", "cloudy/misty", "light rain/snow", "heavy rain/snow"}
    assert bikes[["temperature", "felt", "humidity", "wind"]].stack().between(0, 1).all()
    assert bikes.groupby(bikes.index.month)["temperature"].mean().idxmax() == 7
    assert bikes["season"].groupby(bikes.index.month).first().tolist()[::3] == [1, 2, 3, 4]
    assert bikes["bikers"].groupby(bikes.index.hour).mean().idxmax() == 17


def test_nyse():
    nyse = data.load("nyse")
    assert nyse.shape == (6_051, 4) and list(nyse) == ["dj_return", "log_volume", "log_volatility", "train"]
    assert nyse.index.is_unique and nyse.index.is_monotonic_increasing
    assert nyse.index[0] == pd.Timestamp("1962-12-03") and nyse.index[-1] == pd.Timestamp("1986-12-31")
    assert nyse["train"].sum() == 4_281 and (nyse["train"] == (nyse.index < "1980")).all()
    assert (nyse.index.day_of_week < 5).all()
    # The autocorrelations that the textbook of the data prints or draws: volume persists, the return does not.
    assert nyse["log_volume"].autocorr(1) > 0.6 and abs(nyse["dj_return"].autocorr(1)) < 0.2
