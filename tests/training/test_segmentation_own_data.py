"""Own data in training: every head once a round, with its hematoma; a bad row is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.data_factory import phantom_row
from tests.training.fit_factory import Cubes
from training.data.load import native
from training.data.manifest import DataError, Row
from training.fit.mixed import MixedSource
from training.segmentation.own_data import ManifestSource
from training.segmentation.system import Heads

SPACING_MM = (5.0, 2.5, 2.5)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Phantoms of 20, 30 and 40 mL."""
    return [phantom_row(tmp_path_factory.mktemp("own"), ml) for ml in (20.0, 30.0, 40.0)]


def source_of(rows: list[Row], **values: int) -> ManifestSource:
    return replace(ManifestSource(rows=rows, spacing_mm=SPACING_MM, most_planes=32), **values)


def ml_of(labels: torch.Tensor) -> float:
    return int((labels == 1).sum()) * 5 * 2.5 * 2.5 / 1000


def test_every_head_comes_once_a_round_with_its_hematoma(rows: list[Row]) -> None:
    source = source_of(rows)
    for first in (0, 3):
        found = sorted(ml_of(source.batch(number).labels_bdhw) for number in range(first, first + 3))
        for ml, true_ml in zip(found, (20, 30, 40), strict=True):
            assert true_ml * 0.55 < ml < true_ml * 1.6  # a head may be shown smaller or larger


def test_heads_are_shown_without_most_of_the_air(rows: list[Row]) -> None:
    whole, _ = native(rows[0])
    batches = [source_of(rows[:1]).batch(number).hu_bdhw[0] for number in range(8)]
    air = float((torch.from_numpy(whole.hu) < -900).float().mean())
    assert all(float((hu < -900).float().mean()) < air for hu in batches)
    assert min(float((hu < -900).float().mean()) for hu in batches) < air - 0.1


def test_the_same_number_is_the_same_batch_whatever_came_before(rows: list[Row]) -> None:
    one, other = source_of(rows, kept=1), source_of(rows)
    for number in range(4):
        one.batch(number)
    assert torch.equal(one.batch(4).hu_bdhw, other.batch(4).hu_bdhw)


def test_a_copy_for_other_rows_shows_its_own_heads(rows: list[Row]) -> None:
    train = source_of(rows[:1])
    train.batch(0)
    copy, fresh = replace(train, rows=rows[1:2]), source_of(rows[1:2])
    assert torch.equal(copy.batch(0).hu_bdhw, fresh.batch(0).hu_bdhw)
    assert torch.equal(copy.batch(0).labels_bdhw, fresh.batch(0).labels_bdhw)


def test_several_heads_make_a_batch(rows: list[Row]) -> None:
    batch = source_of(rows, heads=2).batch(1)
    assert len(batch.labels_bdhw) == 2
    assert batch.labels_bdhw.shape == batch.hu_bdhw.shape


def test_a_row_that_cannot_be_read_is_named(rows: list[Row]) -> None:
    gone = rows[0].model_copy(update={"ct": rows[0].ct / "gone", "study": "A17"})
    with pytest.raises(DataError, match="A17"):
        source_of([gone]).batch(0)


def test_own_and_simulated_batches_are_mixed_in_the_share_asked_for() -> None:
    mixed = MixedSource(own=Cubes(16), simulated=Cubes(32), share=0.3)
    sizes = [mixed.batch(number).hu_bdhw.shape[-1] for number in range(100)]
    assert sizes.count(16) == 30
    assert max(len(run) for run in "".join("." if size == 32 else "o" for size in sizes).split("o")) <= 3


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_each_of_several_processes_sees_the_share_asked_for_and_no_own_batch_twice(
    processes: int, share: float
) -> None:
    class Numbered:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def batch(self, number: int):  # type: ignore[no-untyped-def]
            return self.kind, number

    mixed = MixedSource(own=Numbered("own"), simulated=Numbered("simulated"), share=share, processes=processes)  # type: ignore[type-var]
    turns = 40
    every: list[tuple[str, int]] = [mixed.batch(number) for number in range(turns * processes)]  # type: ignore[misc]
    for process in range(processes):
        assert [kind for kind, _ in every[process::processes]].count("own") == pytest.approx(share * turns, abs=1)
    for turn in range(turns):
        together = [kind for kind, _ in every[turn * processes : (turn + 1) * processes]]
        assert together.count("own") == pytest.approx(share * processes, abs=1)
    for kind in ("own", "simulated"):
        numbers = [number for other, number in every if other == kind]
        assert numbers == list(range(len(numbers)))


def test_each_kind_of_batch_comes_in_its_own_order_without_gaps() -> None:
    class Numbers:
        def __init__(self) -> None:
            self.asked: list[int] = []

        def batch(self, number: int) -> Heads:
            self.asked.append(number)
            return Cubes().batch(number)

    own, simulated = Numbers(), Numbers()
    mixed = MixedSource(own=own, simulated=simulated, share=0.4)
    for number in range(20):
        mixed.batch(number)
    assert own.asked == list(range(8))
    assert simulated.asked == list(range(12))


def test_heads_of_a_validation_are_as_they_are_in_their_order(rows: list[Row]) -> None:
    source = source_of(rows, as_they_are=True)
    assert [ml_of(source.batch(number).labels_bdhw) for number in range(3)] == pytest.approx([20, 30, 40], rel=0.05)
    tissue = [batch.hu_bdhw[batch.labels_bdhw == 1].median() for batch in map(source.batch, range(3))]
    whole = [(volume.hu[labels == 1]) for volume, labels in map(native, rows)]
    assert [float(hu) for hu in tissue] == pytest.approx([float(np.median(hu)) for hu in whole], abs=1.5)
