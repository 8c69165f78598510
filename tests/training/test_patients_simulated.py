"""Pairs of CTs lie on each other, differ by what came to pass, and come with what is known of the patient."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.patients.batch import BECAME, KNOWN, told
from training.patients.frame import in_the_middle
from training.patients.simulated import Cohort, SimulatedPatients
from training.simulate.cohort import patient_spec
from training.simulate.draw import Draw
from training.simulate.planes import around_origin
from training.simulate.styles import TRAINING

GRID = around_origin((16, 56, 48), (10.0, 4.0, 4.0))
SEED = 300_000_000


def source(**changes: object) -> SimulatedPatients:
    made = SimulatedPatients(grid=GRID, style=TRAINING, kinds=("iph",), first_seed=SEED, unknown=0)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_pair_lies_on_its_grid_and_shows_the_growth_of_its_patient() -> None:
    batch = source(showings=1).batch(0)
    spec = patient_spec(SEED, "iph")
    first, later = ((labels == 1).sum() * 0.16 for labels in (batch.labels_bdhw, batch.later_labels_bdhw))

    assert batch.hu_bdhw.shape == batch.later_labels_bdhw.shape == (1, *GRID.shape)
    lesions = [lesion for lesion in spec.lesions if lesion.type == "IPH"]
    assert float(first) == pytest.approx(sum(lesion.volume_ml for lesion in lesions), rel=0.3)
    assert float(later) == pytest.approx(sum(lesion.followup_ml for lesion in lesions), rel=0.3)
    bone, later_bone = batch.hu_bdhw > 300, batch.later_hu_bdhw > 300
    assert 2 * (bone & later_bone).sum() / (bone.sum() + later_bone.sum()) > 0.85


def test_what_is_known_and_what_became_of_the_patient_is_that_of_the_cohort() -> None:
    batch, spec = source(showings=1).batch(0), patient_spec(SEED, "iph")
    known = dict(zip(KNOWN, batch.known_bn[0].tolist(), strict=True))
    became = dict(zip(BECAME, batch.became_bn[0].tolist(), strict=True))

    assert (known["age"], known["gcs"]) == pytest.approx((spec.age, spec.gcs))
    assert known["baseline_ml"] == pytest.approx(float((batch.labels_bdhw == 1).sum()) * 0.16)
    assert became["conventional expansion"] == spec.expansion.conventional
    assert became["death in 30 days"] == spec.outcome.death_30d
    assert became["late hemorrhage"] != became["late hemorrhage"]  # it is asked after thrombectomy only


def test_expansion_is_that_of_spontaneous_hemorrhage_and_late_hemorrhage_that_after_thrombectomy() -> None:
    became = source(kinds=("thrombectomy",)).batch(0).became_bn[0]
    assert became[:2].isnan().all()
    assert became[4] in (0, 1)


def test_the_same_number_gives_the_same_batch() -> None:
    ran = source()
    ran.batch(0)
    one, other = ran.batch(4).tensors(), source().batch(4).tensors()
    assert all(torch.equal(one[name].nan_to_num(-1), other[name].nan_to_num(-1)) for name in one)


def test_some_of_what_is_known_is_not_told() -> None:
    known = torch.ones(200, len(KNOWN))
    some = told(known, Draw(seed=1), unknown=0.3, header_alone=0.0)
    assert float(some.isnan().float().mean()) == pytest.approx(0.3, abs=0.05)
    header = told(known, Draw(seed=1), unknown=0.0, header_alone=1.0)
    assert [name for name, column in zip(KNOWN, header.T, strict=True) if not column.isnan().any()] == [
        "baseline_ml",
        "age",
    ]


def test_a_stripped_head_is_its_brain_alone_the_same_on_both_cts() -> None:
    batch = source(stripped=True).batch(0)
    first, later = (hu != 0 for hu in (batch.hu_bdhw, batch.later_hu_bdhw))
    litres = float(first.sum()) * 0.16 / 1000
    assert 0.9 < litres < 2.0
    assert float((first & later).sum()) > 0.97 * float((first | later).sum())
    assert float((batch.hu_bdhw > 300).float().sum()) < 0.01 * float(first.sum())


def test_the_brain_is_shown_beside_the_whole_head_and_its_rim_of_bone_is_not_in_it() -> None:
    batch = source(finds_brain=True).batch(0)
    assert 0.8 < float(batch.brain_bdhw.sum()) * 0.16 / 1000 < 2.0
    assert bool((batch.hu_bdhw > 300)[~batch.brain_bdhw].any())
    bright = [float((hu > 80).float().mean()) for hu in (batch.hu_bdhw[batch.brain_bdhw], source().batch(0).hu_bdhw)]
    assert bright[0] < 0.01 < bright[1]
    assert bool(source().batch(0).brain_bdhw.all())  # nobody asked


def test_without_a_follow_up_the_later_ct_is_the_first() -> None:
    batch = source(followup=False).batch(0)
    assert torch.equal(batch.hu_bdhw, batch.later_hu_bdhw)


def test_a_cohort_comes_again_and_again_each_time_all_of_it_in_another_order(tmp_path: Path) -> None:
    cohort = Cohort(patients=20, folder=tmp_path)
    first, second = ([cohort.patient(number) for number in range(start, start + 20)] for start in (0, 20))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_patients_of_a_cohort_are_those_made_on_the_fly_and_each_showing_has_a_scan_of_its_own(tmp_path: Path) -> None:
    ran = source(cohort=Cohort(patients=1, folder=tmp_path), followup=False, mirrored=False)
    once, again, fresh = ran.batch(0), ran.batch(1), source(followup=False, mirrored=False).batch(0)
    assert torch.equal(once.hu_bdhw, fresh.hu_bdhw)
    assert torch.equal(once.became_bn.nan_to_num(-1), again.became_bn.nan_to_num(-1))
    assert not torch.equal(once.hu_bdhw, again.hu_bdhw)
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_a_box_gets_into_the_middle() -> None:
    x = torch.zeros(4, 6, 6)
    x[1:3, 0:2, 3:6] = 1
    moved = in_the_middle(x, (slice(1, 3), slice(0, 2), slice(3, 6)), (4, 4, 5), 7)
    assert moved.shape == (4, 4, 5)
    assert (moved[1:3, 1:3, 1:4] == 1).all()
    assert (moved == 1).sum() == x.sum()
    assert (moved[:, 0] == 7).all()  # behind the edge
