"""Wide tables for the paper profiles, taken from `$PAPERS_DATA/<name>/` when placed there, else from their home."""

from __future__ import annotations

from . import cache, hub
from .containers import Table
from .errors import DataError
from .registry import classes, loader

_UCI = "https://archive.ics.uci.edu"
_COVERTYPE = f"{_UCI}/ml/machine-learning-databases/covtype/covtype.data.gz"
_COVERTYPE_SHA256 = "614360d0257557dd1792834a85a1cdebfadc3c4f30b011d56afee7ffb5b15771"  # as scikit-learn has it
_QUANTITIES = (
    "elevation aspect slope horizontal_distance_to_hydrology vertical_distance_to_hydrology "
    "horizontal_distance_to_roadways hillshade_9am hillshade_noon hillshade_3pm horizontal_distance_to_fire_points"
).split()


@loader("covertype")
def covertype(name: str) -> Table:
    """Forest cover: x (581012, 54) float64, y (581012,) int64, seven types of trees.

    Ten quantities of a 30 m square of forest, then four areas and forty soil types as columns of 0 and 1. Takes no
    options.
    """
    import numpy as np
    import pandas as pd

    path = hub.download(name, _COVERTYPE, _COVERTYPE_SHA256)

    def parse(draft):
        np.save(draft, pd.read_csv(path, header=None, compression="gzip").to_numpy(np.int32))

    stored = np.load(cache.built(f"parsed/{name}-{cache.key('v1', cache.sha256_of(path))}.npy", parse))
    if stored.shape[1] != 55:
        raise DataError(f"{path.name} has {stored.shape[1]} columns where 55 belong: it is not the file of Covertype.")
    columns = [*_QUANTITIES, *(f"area_{i}" for i in range(1, 5)), *(f"soil_{i}" for i in range(1, 41))]
    y = stored[:, -1].astype(np.int64) - 1
    return Table(name, stored[:, :-1].astype(np.float64), y, columns, ["numeric"] * 54, classes(name))


@loader("uji-indoor-loc")
def uji_indoor_loc(name: str) -> Table:
    """Where in a university a telephone is: x (21048, 520) float64, y (21048,) int64, building and floor.

    x: received strength of 520 wireless access points in dBm, -104 to 0; -110 where a point was not heard. groups: the
    person who carried the telephone, so that a split can keep people apart. held_out: the 1,111 rows that were measured
    four months later, by people of their own. Takes no options; no digest is published, so what comes is taken as it
    is.
    """
    import io
    import zipfile

    import numpy as np
    import pandas as pd

    path = hub.download(name, f"{_UCI}/static/public/310/ujiindoorloc.zip", None)
    with zipfile.ZipFile(path) as archive:
        members = {member.rsplit("/", 1)[-1]: member for member in archive.namelist()}
        files = [members.get(part) for part in ("trainingData.csv", "validationData.csv")]
        if None in files:
            raise DataError(
                f"{path.name} has no trainingData.csv and validationData.csv: it is not the file of UJIIndoorLoc."
            )
        parts = [pd.read_csv(io.BytesIO(archive.read(member))) for member in files]
    frame = pd.concat(parts, ignore_index=True)
    points = [column for column in frame if column.startswith("WAP")]
    x = frame[points].to_numpy(np.float64)
    x[x == 100] = -110  # the file writes +100 for a point that was not heard
    known = classes(name)
    place = frame["BUILDINGID"].astype(str) + "-" + frame["FLOOR"].astype(str)
    y = place.map({label: i for i, label in enumerate(known)}).to_numpy()
    held_out = np.repeat([False, True], [len(part) for part in parts])
    groups = frame["USERID"].to_numpy(np.int64)
    return Table(
        name, x, y.astype(np.int64), points, ["numeric"] * len(points), known, groups=groups, held_out=held_out
    )
