"""The cavity of a skull and the brain in it."""

import numpy as np
import pytest

from ichnode.imaging.cavity import brain_in, cavity_of
from ichnode.imaging.volume import FloatArray


def head_of(spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Brain of 35 HU and 60 mm radius in a skull, the voxels between them a part of each."""
    offsets = [(np.arange(round(180 / mm)) - round(90 / mm)) * mm for mm in spacing_mm]
    z, y, x = np.meshgrid(*offsets, indexing="ij")
    half = spacing_mm[-1] / 2
    hu = np.interp(np.sqrt(z**2 + y**2 + x**2), (60 - half, 60 + half, 72, 76), (35, 1000, 1000, -1000))
    return hu.astype(np.float32)


@pytest.mark.parametrize("spacing_mm", [(5.0, 1.0, 1.0), (5.0, 2.0, 2.0), (5.0, 4.0, 4.0)])
def test_the_brain_has_no_bone_in_it_and_is_not_much_smaller_than_the_cavity(
    spacing_mm: tuple[float, float, float],
) -> None:
    hu = head_of(spacing_mm)
    cavity = cavity_of(hu, spacing_mm)
    brain = brain_in(cavity, spacing_mm)
    middle = len(hu) // 2
    assert not (brain & ~cavity).any()
    assert not (hu[brain] > 50).any()
    assert 0.8 < brain[middle].sum() / cavity[middle].sum() < 0.98


def test_where_no_skull_is_found_all_is_brain() -> None:
    nothing = np.zeros((3, 8, 8), np.bool_)
    assert brain_in(nothing, (5.0, 2.0, 2.0)).all()
    assert brain_in(~nothing, (5.0, 2.0, 2.0)).all()
