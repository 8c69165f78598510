"""A head that was turned, moved and scanned on another grid comes back; what is no match is refused."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK

from ichnode.imaging.resample import CanonicalGrid
from tests.training.atlas_factory import ellipsoid_atlas
from training.data import alignment as module
from training.data.alignment import Alignment, Head, NotAligned, alignment
from training.simulate.cohort import patient_spec
from training.simulate.patient import simulate_head
from training.simulate.styles import TRAINING

GRID = CanonicalGrid(shape=(36, 72, 60), spacing_mm=(5.0, 3.0, 3.0), origin_lps=(-88.5, -106.5, -87.5))
OTHER = CanonicalGrid(shape=(40, 64, 64), spacing_mm=(4.5, 3.5, 3.5), origin_lps=(-100.0, -120.0, -90.0))
POSE = SimpleITK.Euler3DTransform((0.0, 0.0, 0.0), 0.12, 0.0, -0.12, (9.0, -5.0, 4.0))
PLACES = ((0.0, 0.0, 0.0), (50.0, 0.0, 0.0), (0.0, 60.0, 0.0), (0.0, 0.0, 50.0))


@pytest.fixture(scope="module")
def first() -> Head:
    made = simulate_head(patient_spec(3, "normal"), GRID, ellipsoid_atlas(), TRAINING)
    return Head(hu=made.hu.numpy(), grid=GRID)


@pytest.fixture(scope="module")
def later(first: Head) -> Head:
    """The same head, turned by 7 degrees about two axes and moved, on another grid."""
    return Head(hu=Alignment(first=OTHER, later=GRID, transform=POSE).hu(first.hu), grid=OTHER)


def test_a_turned_head_comes_back(first: Head, later: Head) -> None:
    found = alignment(first, later)
    back = POSE.GetInverse()
    off_mm = [
        np.linalg.norm(np.subtract(found.transform.TransformPoint(place), back.TransformPoint(place)))
        for place in PLACES
    ]
    assert max(off_mm) < 2.0
    inside = (first.hu > 0) & (first.hu < 80)
    assert float(np.abs(found.hu(later.hu) - first.hu)[inside].mean()) < 25


def test_a_head_that_does_not_lie_on_the_first_is_refused(
    first: Head, later: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_transform", lambda first, later: SimpleITK.Euler3DTransform())
    with pytest.raises(NotAligned, match=r"overlap by 0\.[78]"):
        alignment(first, later)


def test_what_the_fit_cannot_do_is_a_pair_that_is_not_aligned(
    first: Head, later: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_far(first: Head, later: Head) -> SimpleITK.Transform:
        raise RuntimeError("all samples map outside")

    monkeypatch.setattr(module, "_transform", too_far)
    with pytest.raises(NotAligned, match="cannot be brought onto each other: all samples"):
        alignment(first, later)


def test_what_is_no_head_is_refused(first: Head) -> None:
    with pytest.raises(NotAligned, match="no head"):
        alignment(first, replace(first, hu=np.full_like(first.hu, -1000)))
