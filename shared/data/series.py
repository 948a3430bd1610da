"""Time series: labelled ones of the UCR and UEA archives, and some to forecast."""

from __future__ import annotations

import io

from . import wheels
from .containers import Series
from .errors import DataError
from .registry import classes, family, loader, rows


def parse_ts(text: str):
    """The cases and the classes in the text of a .ts file: a list of (C, T) float32 arrays, T may differ from case to
    case, a missing value is NaN; the label of each case; and the class labels that the header announces.

    A line of data holds the channels, separated by colons, and the label; the values of a channel are separated by
    commas, a question mark or `NaN` is a missing one. Raises `DataError`, with the number of the line, for files with
    time stamps, without classes, or with a line that is not what the header announces.
    """
    import numpy as np

    header, cases, labels = {}, [], []
    lines = enumerate(text.splitlines(), start=1)
    for _, line in lines:
        if line.startswith("@"):
            name, *values = line[1:].split()
            header[name.lower()] = values
            if name.lower() == "data":
                break
    known = header.get("classlabel", ["false"])
    if "data" not in header or header.get("timestamps") == ["true"] or known[0].lower() != "true" or len(known) < 2:
        raise DataError("This .ts file cannot be read: only files with classes and without time stamps can.")
    channels = int(header.get("dimensions", [1])[0])
    for number, line in lines:
        if not line.strip():
            continue
        *parts, label = (part.strip() for part in line.split(":"))
        try:
            case = np.array([part.replace("?", "NaN").split(",") for part in parts], dtype=np.float32)
        except ValueError:
            case = None
        if case is None or len(case) != channels or label not in known[1:]:
            raise DataError(
                f"Line {number} of a .ts file is not {channels} channel(s) of equally many numbers and a class: "
                "fetch the file again."
            )
        cases.append(case)
        labels.append(label)
    return cases, labels, known[1:]


def labelled(name: str, split: str = "train") -> Series:
    """Labelled series of the UCR or UEA archive: `Series` with x (N, C, T) float32, lengths and labels (N,) int64.

    split: "train" or "test", the archive's default split. Values are as in the archive; see the card for which sets are
    standardised. Channels come in the order of the source. Series of unequal length end in zeros: use `lengths` or
    `mask`.
    """
    import numpy as np
    import torch

    if split not in ("train", "test"):
        raise DataError(f"The series {name!r} have no split {split!r}: ask for 'train' or 'test'.")
    folder = rows()[name]["folder"]
    member = f"aeon/datasets/data/{folder}/{folder}_{split.upper()}.ts"
    cases, labels, known = parse_ts(wheels.archive("aeon").read(member).decode())
    lengths = np.array([case.shape[1] for case in cases])
    x = np.zeros((len(cases), len(cases[0]), lengths.max()), dtype=np.float32)
    for row, case in zip(x, cases, strict=True):
        row[:, : case.shape[1]] = case
    number = {label: i for i, label in enumerate(known)}
    return Series(
        name=name,
        x=torch.from_numpy(x),
        lengths=torch.from_numpy(lengths),
        labels=torch.tensor([number[label] for label in labels]),
        classes=classes(name),
    )


family("ucr", labelled)


def _csv(package: str, member: str):
    import pandas as pd

    return pd.read_csv(io.BytesIO(wheels.archive(package).read(member)))


@loader("airline")
def airline(name: str):
    """International airline passengers, 144 months from 1949: a data frame with the column passengers (int64,
    thousands a month) and the index month (periods of one month). Takes no options.
    """
    import pandas as pd

    frame = _csv("aeon", "aeon/datasets/data/Airline/Airline.csv")
    return pd.DataFrame(
        {"passengers": frame["Passengers"].to_numpy()}, index=pd.PeriodIndex(frame["Date"], freq="M", name="month")
    )


@loader("lynx")
def lynx(name: str):
    """Lynx trapped in the Mackenzie River district of Canada, 114 years, 1821 to 1934: a data frame with the column
    trapped (int64, skins a year) and the index year (periods of one year). Takes no options.
    """
    import pandas as pd

    frame = _csv("aeon", "aeon/datasets/data/Lynx/Lynx.csv")
    years = pd.PeriodIndex(frame.iloc[:, 0].astype(str), freq="Y", name="year")
    return pd.DataFrame({"trapped": frame.iloc[:, 1].to_numpy()}, index=years)


@loader("solar")
def solar(name: str):
    """Solar power of Great Britain, 289 half-hours from 1 May 2021: a data frame with the column generation (float64, 0
    at night, at most 0.56; a share of the installed capacity) and the index time (UTC). Takes no options.
    """
    import pandas as pd

    frame = _csv("aeon", "aeon/datasets/data/solar/solar.csv")
    time = pd.DatetimeIndex(frame["datetime_gmt"], freq="30min", name="time")
    return pd.DataFrame({"generation": frame["solar_gen"].to_numpy()}, index=time)


@loader("bikeshare")
def bikeshare(name: str):
    """Bicycles hired in Washington, D.C., each hour of 2011: a data frame with 8,645 rows and the index time (local;
    115 hours without a record are missing).

    bikers = casual + registered (int64, an hour); season (1 winter to 4 autumn), holiday, workingday (0 or 1), weekday
    (0 Sunday to 6), weather (clear, cloudy/misty, light rain/snow, heavy rain/snow); temperature, felt (temperature),
    humidity and wind, scaled by the source to 0..1. Takes no options.
    """
    import pandas as pd

    frame = _csv("ISLP", "ISLP/data/Bikeshare.csv")
    hours = (frame["day"] - 1) * 24 + frame["hr"]
    frame.index = pd.DatetimeIndex(pd.Timestamp("2011-01-01") + pd.to_timedelta(hours, unit="h"), name="time")
    names = {"weathersit": "weather", "temp": "temperature", "atemp": "felt", "hum": "humidity", "windspeed": "wind"}
    return frame.drop(columns=["mnth", "day", "hr"]).rename(columns=names)


@loader("nyse")
def nyse(name: str):
    """The New York Stock Exchange, 6,051 trading days from 3 December 1962 to 31 December 1986: a data frame with the
    index date.

    dj_return (logarithm of the ratio of two days' Dow Jones indices), log_volume (logarithm of the volume relative to
    its moving average over 100 days), log_volatility (logarithm of the exponentially weighted moving average of the
    squared return), all float64; train (bool: the 4,281 days before 1980). Takes no options.
    """
    import pandas as pd

    frame = _csv("ISLP", "ISLP/data/NYSE.csv")
    frame.index = pd.DatetimeIndex(frame["date"], name="date")
    return frame.drop(columns=["date", "day_of_week"]).rename(columns={"DJ_return": "dj_return"})
