"""A series of files to a volume in HU: ichnode's reader against the libraries that people use for it.

ichnode keeps what it needs of the headers from receipt, so its instances are made before the clock starts; a second row
makes them anew in the measured time, as everyone else has to. Files are in the page cache.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import highdicom as hd
import numpy as np
import SimpleITK
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless

from ichnode.domain.study import Series
from ichnode.imaging.header import instance_from_file
from ichnode.imaging.series_reader import read_volume
from tests.benchmarks.phantom_files import phantom_files
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios

sitk: Any = SimpleITK
sitk.ProcessObject.SetGlobalWarningDisplay(False)

TITLE = "A series to a volume in HU, warm page cache"
PYDICOM = "pydicom"
FROM_FILES = "ichnode, from files"
GOAL = "<= 0.4"  # of plain pydicom on a thin uncompressed series
PEERS = {
    FROM_FILES: "instance_from_file, then the same",
    PYDICOM: "dcmread, sorted; pixel_array * slope + intercept; np.stack, float64",
    "SimpleITK": "ImageSeriesReader, file names sorted beforehand; int16 or float64",
    "highdicom": "dcmread; get_volume_from_series, float32",
}


def measure(*, slices: Sequence[int] = (28, 300), size: int = 512, rounds: int = 5) -> list[Row]:
    """Seconds for each reader, uncompressed and as JPEG-LS."""
    return [row for syntax in (None, JPEGLSLossless) for count in slices for row in _case(count, size, syntax, rounds)]


def _case(slices: int, size: int, syntax: str | None, rounds: int) -> list[Row]:
    files = phantom_files(slices, rows=size, transfer_syntax_uid=syntax)
    series = _series(files)
    readers: dict[str, Callable[[], object]] = {
        ICHNODE: partial(read_volume, series),
        FROM_FILES: lambda: read_volume(_series(files)),
        PYDICOM: partial(_pydicom, files),
        "SimpleITK": partial(_simpleitk, files),
        "highdicom": partial(_highdicom, files),
    }
    for read in readers.values():
        read()  # imports, page cache
    measured = alternated({name: partial(_seconds, read) for name, read in readers.items()}, rounds=rounds)
    ours = Row(
        case=(case := f"{slices} slices of {size}, {'JPEG-LS' if syntax else 'uncompressed'}"),
        contestant=ICHNODE,
        setting="read_volume, all its checks; headers kept from receipt; float32",
        value=median(measured[ICHNODE]),
        unit="s",
    )
    peers = [
        Row(
            case=case,
            contestant=name,
            setting=setting,
            value=median(measured[name]),
            unit="s",
            ratio=ratios(measured[ICHNODE], measured[name]),
            goal=GOAL if name == PYDICOM and not syntax else "",
        )
        for name, setting in PEERS.items()
    ]
    return [ours, *peers]


def _seconds(read: Callable[[], object]) -> float:
    began = perf_counter()
    read()
    return perf_counter() - began


def _series(files: Sequence[Path]) -> Series:
    instances = tuple(map(instance_from_file, files))
    return Series(
        series_instance_uid=instances[0].series_instance_uid,
        study_instance_uid=instances[0].study_instance_uid,
        instances=instances,
    )


def _pydicom(files: Sequence[Path]) -> object:
    datasets = sorted(map(dcmread, files), key=lambda ds: float(ds.ImagePositionPatient[2]))
    return np.stack([ds.pixel_array * ds.RescaleSlope + ds.RescaleIntercept for ds in datasets])


def _simpleitk(files: Sequence[Path]) -> object:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    return sitk.GetArrayViewFromImage(reader.Execute())


def _highdicom(files: Sequence[Path]) -> object:
    return hd.get_volume_from_series([dcmread(file) for file in files], dtype=np.float32)
