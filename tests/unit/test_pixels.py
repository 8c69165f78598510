"""Stored pixels become the right HU under every transfer syntax, or the series is refused."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from ichnode.domain.reasons import Reason
from ichnode.imaging.series_reader import read_volume
from tests.series_factory import (
    COMPRESSED,
    NATIVE,
    Datasets,
    alter,
    refusal_of,
    stored_series,
    stored_values,
    with_stored_values,
)


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_every_transfer_syntax_gives_the_same_hu(
    syntax: str, datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    volume = read_volume(stored_series(datasets, tmp_path, syntax))

    np.testing.assert_array_equal(volume.hu, expected_hu)
    assert volume.hu.dtype == np.float32


@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_every_transfer_syntax_gives_the_same_hu_from_twelve_unsigned_bits(
    syntax: str, datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    unsigned = [
        with_stored_values(
            ds, stored_values(ds) + 1024, BitsStored=12, HighBit=11, PixelRepresentation=0, RescaleIntercept=-1024
        )
        for ds in datasets
    ]

    np.testing.assert_array_equal(read_volume(stored_series(unsigned, tmp_path, syntax)).hu, expected_hu)


def test_garbage_in_the_unused_high_bits_is_ignored(
    datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path
) -> None:
    twelve = [
        with_stored_values(
            ds,
            (np.clip(stored_values(ds), -1024, 2047) & 0x0FFF) | (np.arange(16, dtype=np.int32)[at % 16] << 12),
            BitsStored=12,
            HighBit=11,
        )
        for at, ds in enumerate(datasets)
    ]

    np.testing.assert_array_equal(read_volume(stored_series(twelve, tmp_path)).hu, np.clip(expected_hu, -1024, 2047))


def _padded_signed(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.where(outside, -1500, values), {"PixelPaddingValue": -1500}


def _padded_unsigned(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.where(outside, 63536, values + 1024), {
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "PixelPaddingValue": 63536,  # -2000 written as unsigned
    }


def _padded_range(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    ramp = 40000 + np.arange(values.size).reshape(values.shape) % 500
    return np.where(outside, ramp, values + 1024), {
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "PixelPaddingValue": 40000,
        "PixelPaddingRangeLimit": 40499,
    }


def _padded_beyond_twelve_bits(values: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    return np.where(outside, 63536, np.clip(values + 1024, 0, 4095)), {
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "PixelPaddingValue": 63536,
    }


@pytest.mark.parametrize(
    "pad", [_padded_signed, _padded_unsigned, _padded_range, _padded_beyond_twelve_bits], ids=lambda f: f.__name__
)
def test_padding_is_air_and_everything_else_keeps_its_hu(
    pad: Callable[..., tuple[np.ndarray, dict[str, object]]],
    datasets: Datasets,
    expected_hu: np.ndarray,
    tmp_path: Path,
) -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    outside = np.hypot(x, y) > 31
    padded = []
    for ds in datasets:
        values, attributes = pad(stored_values(ds).astype(int), outside)
        padded.append(with_stored_values(ds, values, **attributes))

    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian):
        hu = read_volume(stored_series(padded, tmp_path, syntax)).hu
        np.testing.assert_array_equal(hu, np.where(outside, -1024, expected_hu))


def test_slope_and_intercept_are_applied(datasets: Datasets, expected_hu: np.ndarray, tmp_path: Path) -> None:
    scaled = alter(RescaleSlope="0.5", RescaleIntercept="-100")(datasets)

    np.testing.assert_allclose(read_volume(stored_series(scaled, tmp_path)).hu, expected_hu * 0.5 - 100)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
def test_pixels_that_do_not_decode_are_refused(syntax: str, datasets: Datasets, tmp_path: Path) -> None:
    series = stored_series(datasets, tmp_path, syntax)
    path = Path(series.instances[3].file)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"\xfe\xff\x00\xe0") + 8  # the fragment
    content[start:-8] = bytes(len(content) - start - 8)
    path.write_bytes(content)

    assert refusal_of(read_volume, series).reason == Reason.BAD_PIXELS


@pytest.mark.filterwarnings("ignore:End of file reached")
@pytest.mark.parametrize("syntax", [*NATIVE, *COMPRESSED], ids=lambda uid: uid.name)
def test_a_file_cut_off_since_its_receipt_is_refused(syntax: str, datasets: Datasets, tmp_path: Path) -> None:
    series = stored_series(datasets, tmp_path, syntax)
    path = Path(series.instances[3].file)
    path.write_bytes(path.read_bytes()[:-100])

    assert refusal_of(read_volume, series).reason == Reason.BAD_PIXELS


def test_a_disk_that_fails_inside_a_slice_is_no_fault_of_the_series(
    datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = stored_series(datasets, tmp_path)
    monkeypatch.setattr(np, "fromfile", lambda *_, **__: np.empty(0, np.int16))  # what NumPy makes of EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        read_volume(series)
