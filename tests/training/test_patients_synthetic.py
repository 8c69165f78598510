"""Synthetic baselines change the first CT and what follows from it, and nothing else."""

from dataclasses import replace

import pytest
import torch

from training.patients.batch import BECAME, KNOWN, Patients
from training.patients.synthetic import SyntheticBaselines

SPACING_MM = (5.0, 2.0, 2.0)


class Ball:
    """A ball of 40 mL that becomes one of 80 mL, and a little ventricular blood that becomes more."""

    def batch(self, number: int) -> Patients:
        z, y, x = (
            torch.arange(count).view([-1 if axis == at else 1 for axis in range(3)]) * mm
            for at, (count, mm) in enumerate(zip((20, 60, 60), SPACING_MM, strict=True))
        )
        away = (z - 50) ** 2 + (y - 60) ** 2 + (x - 80) ** 2
        first, later = ((away < radius**2).to(torch.uint8) for radius in (21.2, 26.7))
        beside = (z - 50) ** 2 + (y - 60) ** 2 + (x - 36) ** 2
        first[beside < 8**2], later[beside < 11**2] = 2, 2
        known, became = torch.full((1, len(KNOWN)), 1.0), torch.full((1, len(BECAME)), 1.0)
        return Patients(
            hu_bdhw=(30.0 + 35.0 * (first > 0))[None],
            labels_bdhw=first[None],
            later_hu_bdhw=(30.0 + 35.0 * (later > 0))[None],
            later_labels_bdhw=later[None],
            brain_bdhw=torch.ones_like(first[None], dtype=torch.bool),
            known_bn=known,
            became_bn=became,
        )


def ml(labels: torch.Tensor, value: int = 1) -> float:
    return float((labels == value).sum()) * 0.02


def test_the_first_hematoma_is_grown_back_or_on_and_so_are_the_numbers() -> None:
    source = SyntheticBaselines(source=Ball(), spacing_mm=SPACING_MM, share=1.0)
    seen = set()
    for number in range(8):
        before, after = Ball().batch(number), source.batch(number)
        first_ml, later_ml = ml(after.labels_bdhw), ml(after.later_labels_bdhw)
        assert 15 < first_ml < 75
        assert after.known_bn[0, KNOWN.index("baseline_ml")] == pytest.approx(first_ml)
        assert after.became_bn[0, 0] == float(later_ml - first_ml >= min(6, 0.33 * first_ml))
        assert ml(after.labels_bdhw, 2) > 0
        assert torch.equal(after.later_hu_bdhw, before.later_hu_bdhw)
        assert float(after.hu_bdhw[after.labels_bdhw == 1].mean()) > 58
        seen.add(round(first_ml))
    assert len(seen) > 2  # margins move by whole voxels


def test_none_are_made_where_none_are_asked_for_or_nothing_bled() -> None:
    plain = SyntheticBaselines(source=Ball(), spacing_mm=SPACING_MM, share=0.0).batch(0)
    assert torch.equal(plain.hu_bdhw, Ball().batch(0).hu_bdhw)

    class Healthy(Ball):
        def batch(self, number: int) -> Patients:
            batch = super().batch(number)
            return replace(batch, labels_bdhw=torch.zeros_like(batch.labels_bdhw))

    healthy = SyntheticBaselines(source=Healthy(), spacing_mm=SPACING_MM, share=1.0).batch(0)
    assert torch.equal(healthy.hu_bdhw, Ball().batch(0).hu_bdhw)


def test_what_was_not_told_stays_untold() -> None:
    class Untold(Ball):
        def batch(self, number: int) -> Patients:
            batch = super().batch(number)
            return replace(batch, known_bn=batch.known_bn * torch.nan, became_bn=batch.became_bn * torch.nan)

    batch = SyntheticBaselines(source=Untold(), spacing_mm=SPACING_MM, share=1.0).batch(0)
    assert bool(batch.known_bn.isnan().all())
    assert bool(batch.became_bn.isnan().all())
