"""Simulated batches are numbered: the same number, the same heads; few slices are few."""

from dataclasses import replace

import pytest
import torch

from ichnode.imaging.resample import CanonicalGrid
from models.segmenter import SegmenterConfig
from tests.training.atlas_factory import ellipsoid_atlas
from training.segmentation import simulated
from training.segmentation.simulated import SimulatedSource, validation_source
from training.simulate.cohort import patient_spec
from training.simulate.styles import HELD_OUT, TRAINING, Style

GRID = CanonicalGrid(shape=(32, 64, 56), spacing_mm=(5.0, 3.0, 3.0), origin_lps=(-82.5, -94.5, -77.5))


@pytest.fixture(autouse=True)
def quick_atlas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "atlas_of", lambda style, device: ellipsoid_atlas())


def source_of(style: Style = TRAINING, **values: float) -> SimulatedSource:
    return replace(SimulatedSource(grid=GRID, style=style), **values)


def test_the_same_number_is_the_same_batch_whatever_came_before() -> None:
    one, other = source_of(), source_of()
    for number in range(5):
        one.batch(number)
    assert torch.equal(one.batch(5).hu_bdhw, other.batch(5).hu_bdhw)
    assert torch.equal(one.batch(5).labels_bdhw, other.batch(5).labels_bdhw)


def test_numbers_differ_and_so_do_styles() -> None:
    assert not torch.equal(
        source_of(few_slices=0, slabs=0).batch(0).hu_bdhw, source_of(few_slices=0, slabs=0).batch(3).hu_bdhw
    )
    held_out = source_of(HELD_OUT[1], few_slices=0, slabs=0)
    assert not torch.equal(source_of(few_slices=0, slabs=0).batch(0).hu_bdhw, held_out.batch(0).hu_bdhw)


def test_several_heads_make_a_batch_in_whole_strides() -> None:
    batch = source_of(heads=2, few_slices=0, slabs=0).batch(0)
    planes, rows, columns = batch.hu_bdhw.shape[1:]
    assert len(batch.hu_bdhw) == 2
    assert SegmenterConfig().fitting((planes, rows, columns)) == (planes, rows, columns)
    assert batch.labels_bdhw.dtype == torch.uint8
    assert int(batch.labels_bdhw.max()) <= 5


def test_few_slices_are_mirrored_up_to_the_fewest_planes_that_the_segmenter_sees() -> None:
    batch = source_of(few_slices=1, slabs=0, heads=2).batch(0)
    assert batch.hu_bdhw.shape[:2] == (2, SegmenterConfig().planes)
    for hu_dhw in batch.hu_bdhw:
        assert 1 <= len(torch.unique(hu_dhw.flatten(1), dim=0)) <= 12


def test_slabs_show_fewer_planes_than_heads_have() -> None:
    distinct = [
        len(torch.unique(source_of(few_slices=0, slabs=1).batch(number).hu_bdhw[0].flatten(1), dim=0))
        for number in range(8)
    ]
    assert min(distinct) < 24
    assert len(set(distinct)) > 3


def test_those_who_are_spared_do_not_bleed() -> None:
    bleeding = {
        spared: sum(
            bool(source_of(few_slices=0, slabs=0, showings=1, spared=spared).batch(n).labels_bdhw.any())
            for n in range(4)
        )
        for spared in (0, 1)
    }
    assert bleeding[0] > bleeding[1] == 0


def test_the_anemic_bleed_blood_of_low_density() -> None:
    drawn = {anemic: [source_of(anemic=anemic)._spec(seed).hematocrit for seed in range(20)] for anemic in (0, 1)}
    assert max(drawn[1]) <= 0.33 < sum(drawn[0]) / 20


def test_subdural_and_subarachnoid_blood_comes_more_often_than_in_the_population() -> None:
    seeds = range(300)

    def kinds(source: SimulatedSource) -> list[str]:
        return [source._spec(seed).kind for seed in seeds]

    drawn, of_population = {"sdh", "sah", "sah_traumatic"}, [patient_spec(seed).kind for seed in seeds]
    assert set(kinds(source_of(sdh_or_sah=1, spared=0))) == drawn
    assert kinds(source_of(sdh_or_sah=0, spared=0)) == kinds(validation_source(GRID, TRAINING)) == of_population
    more, fewer = (sum(kind in drawn for kind in kinds(source)) for source in (source_of(), source_of(sdh_or_sah=0)))
    assert more > fewer + 10


def test_nobody_shows_staining() -> None:
    seeds = [seed for seed in range(400) if patient_spec(seed).staining_ml > 0]
    assert len(seeds) > 5
    for source in (source_of(spared=0), validation_source(GRID, TRAINING)):
        assert not any(source._spec(seed).staining_ml for seed in seeds)
