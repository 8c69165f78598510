"""A simulated patient leaves the simulator: as DICOM that the daemon takes, as NIfTI, with its truth."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from ichnode.domain.facts import facts_of
from ichnode.domain.reasons import Reason
from ichnode.domain.rules import Rule, decide
from ichnode.domain.study import Series
from ichnode.imaging.header import instance_from_file
from ichnode.imaging.quality import checked_head
from ichnode.imaging.series_reader import read_volume
from ichnode.phantom import IRREGULAR, head_ct
from tests.acceptance.dcmtk import dciodvfy
from training.data.dicom import series_in
from training.data.load import native
from training.data.manifest import read_manifest, write_manifest
from training.simulate import dicom_study, extra_series
from training.simulate.acquire import GRAFTED, Protocol, SimulatedCT, acquire, protocol
from training.simulate.atlas import atlas_of
from training.simulate.cohort import patient_spec
from training.simulate.demo_patient import write_demo_patient
from training.simulate.grafted import evened
from training.simulate.makers import MAKERS, Maker
from training.simulate.montage import simulated_strip, write_montage
from training.simulate.patient import simulate_head
from training.simulate.patient_files import Formats, write_patient
from training.simulate.styles import TRAINING
from training.simulate.truth import truth

SMALL = Protocol(slice_mm=8.0, pixel_mm=2.4, matrix=96, slices=20)
DEFAULT = Rule(name="default", match=(), run=(), send_to=())


@lru_cache
def simulated_ct(tilt_deg: float = 0.0, *, followup: bool = False, seed: int = 367, kind: str = "iph") -> SimulatedCT:
    how = replace(SMALL, tilt_deg=tilt_deg)
    head = simulate_head(patient_spec(seed, kind), how.grid, atlas_of(TRAINING), TRAINING, followup=followup)
    return acquire(head, how, style="training", followup=followup)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.name)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """Every study is written as this maker does."""
    monkeypatch.setattr(dicom_study, "MAKERS", (request.param,))
    return request.param


def written(ct: SimulatedCT, folder: Path) -> Series:
    dicom_study.write(dicom_study.head_ct(ct), folder)
    return series_of(sorted(folder.iterdir()))


def series_of(files: Sequence[Path]) -> Series:
    instances = tuple(map(instance_from_file, files))
    return Series(
        series_instance_uid=instances[0].series_instance_uid,
        study_instance_uid=instances[0].study_instance_uid,
        instances=instances,
    )


def encoded(ds: Dataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("tilt_deg", [0.0, 16.5])
def test_ichnode_reads_the_hu_that_every_maker_wrote_where_they_are(
    maker: Maker, tilt_deg: float, tmp_path: Path
) -> None:
    ct = simulated_ct(tilt_deg)
    read = read_volume(written(ct, tmp_path / "dicom"))
    assert np.array_equal(read.hu, np.maximum(ct.volume.hu, -1024))
    assert read.grid.positions_lps == pytest.approx(ct.volume.grid.positions_lps, abs=1e-5)
    assert read.grid.sop_instance_uids == ct.volume.grid.sop_instance_uids
    checked_head(read)


def test_the_default_rules_take_the_series_of_every_maker_and_no_other_of_its_study(
    maker: Maker, tmp_path: Path
) -> None:
    ct = simulated_ct()
    found = {"head": written(ct, tmp_path / "head")}
    for name, made in (("localizer", extra_series.localizer), ("dose page", extra_series.dose_page)):
        dicom_study.write((made(ct),), tmp_path / name)
        found[name] = series_of(list((tmp_path / name).iterdir()))
    decisions = decide([facts_of(series, {}, one_patient=True) for series in found.values()], [DEFAULT])
    reasons = dict(zip(found, (decision.reason for decision in decisions), strict=True))
    assert reasons == {"head": Reason.CHOSEN, "localizer": Reason.LOCALIZER, "dose page": Reason.NOT_CT_IMAGE}


def test_dciodvfy_finds_no_errors(maker: Maker, tmp_path: Path) -> None:
    ct = simulated_ct(16.5)
    dicom_study.write((dicom_study.head_ct(ct)[0], extra_series.localizer(ct), extra_series.dose_page(ct)), tmp_path)
    assert {file.name: dciodvfy(file) for file in tmp_path.iterdir()} == {
        "IM00020001.dcm": [],
        "IM00010001.dcm": [],
        "IM09990001.dcm": [],
    }


def test_every_instance_says_that_nobody_was_scanned() -> None:
    ct = simulated_ct()
    for ds in (*dicom_study.head_ct(ct), extra_series.localizer(ct), extra_series.dose_page(ct)):
        words = [
            ds.PatientName,
            ds.PatientID,
            ds.StudyDescription,
            ds.Manufacturer,
            ds.PatientComments,
            ds.ImageComments,
        ]
        assert all("SIM" in str(word) for word in words)
        assert (ds.QualityControlSubject, ds.QualityControlImage) == ("YES", "YES")


def test_the_same_seed_gives_the_same_bytes_and_other_pixels_give_other_uids() -> None:
    first = dicom_study.head_ct(simulated_ct())
    simulated_ct.cache_clear()
    again, later = dicom_study.head_ct(simulated_ct()), dicom_study.head_ct(simulated_ct(followup=True))
    assert list(map(encoded, first)) == list(map(encoded, again))
    assert {ds.SOPInstanceUID for ds in first}.isdisjoint(ds.SOPInstanceUID for ds in later)
    assert {ds.PatientID for ds in (*first, *later)} == {"SIM-367"}
    assert first[0].StudyInstanceUID != later[0].StudyInstanceUID
    assert first[0].StudyDate + first[0].StudyTime < later[0].StudyDate + later[0].StudyTime


def test_a_tilted_gantry_shows_the_same_head() -> None:
    upright, tilted = simulated_ct(), simulated_ct(16.5)
    volumes = [truth(ct)["ml"]["IPH"] for ct in (upright, tilted)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.08)
    centres = [np.array(truth(ct)["parts"][0]["centre_lps"]) for ct in (upright, tilted)]
    assert np.linalg.norm(centres[0] - centres[1]) < 2.0


def test_the_truth_is_what_the_written_mask_holds(tmp_path: Path) -> None:
    rows = [
        write_patient(simulated_ct(16.5, followup=followup), tmp_path, Formats(dicom=dicom, nifti=not dicom))
        for followup, dicom in ((False, True), (True, False))
    ]
    write_manifest(rows, tmp_path / "manifest.jsonl")
    for row in read_manifest(tmp_path / "manifest.jsonl"):
        volume, labels = native(row)
        told = json.loads((tmp_path / row.study / "truth.json").read_text("utf-8"))
        assert volume.grid.volume_ml(labels == 1) == pytest.approx(told["ml"]["IPH"], rel=1e-3)
        assert told["ml"]["all"] == row.volume_ml
        assert told["meant_ml"]["first"]["IPH"] == pytest.approx(30.9, abs=0.1)
        assert volume.hu[labels == 1].mean() > np.median(volume.hu[(volume.hu > 10) & (volume.hu < 60)]) + 5
    assert [row.paired_with for row in rows] == [None, "SIM-367-first"]


def test_a_normal_head_is_a_reading_without_hemorrhage(tmp_path: Path) -> None:
    row = write_patient(simulated_ct(kind="normal"), tmp_path, Formats())
    assert (row.types, row.volume_ml) == ((), 0)
    assert truth(simulated_ct(kind="normal"))["parts"] == []


def test_the_head_ct_of_a_written_study_is_found_among_its_series(tmp_path: Path) -> None:
    row = write_patient(simulated_ct(), tmp_path, Formats(localizer=True, dose_page=True))
    assert len(series_in(row.ct).instances) == SMALL.slices
    assert len(list(row.ct.iterdir())) == SMALL.slices + 2


def test_a_hemorrhage_in_a_real_head_does_not_claim_that_nobody_was_scanned() -> None:
    cts = [replace(simulated_ct(), style=style) for style in ("training", GRAFTED)]
    said = [dicom_study.head_ct(ct)[0].PatientComments for ct in cts]
    assert ["nobody was scanned" in comment for comment in said] == [True, False]
    assert all(comment.startswith("SIMULATED PATIENT - RESEARCH USE ONLY") for comment in said)


def test_uneven_slices_of_a_real_head_are_made_even_where_they_are(tmp_path: Path) -> None:
    geometry = replace(IRREGULAR, rows=64, columns=64, tilt_deg=18.5)
    dicom_study.write(head_ct(hematoma_ml=30, geometry=geometry).datasets, tmp_path)
    real = read_volume(series_of(list(tmp_path.iterdir())))
    even = evened(real)
    assert np.ptp(np.diff(even.grid.offsets_mm)) < 1e-3 < 3 < np.ptp(np.diff(real.grid.offsets_mm))
    volumes = [one.grid.volume_ml(one.hu > 300) for one in (real, even)]
    nearest = abs(real.grid.offsets_mm[:, None] - even.grid.offsets_mm).argmin(0)
    assert np.linalg.norm(even.grid.positions_lps - real.grid.positions_lps[nearest], axis=1).max() < 4
    assert volumes[1] == pytest.approx(volumes[0], rel=0.1)
    assert evened(even) is even


@pytest.mark.parametrize("slice_mm", [0.6, 1.25, 5.0, 10.0])
def test_every_slice_thickness_covers_the_head_within_the_memory_of_a_thick_one(slice_mm: float) -> None:
    for seed in range(40):
        how = protocol(seed, TRAINING, slice_mm)
        planes, rows, columns = how.grid.shape
        assert how.slices * slice_mm == pytest.approx(172, abs=20)
        assert planes * rows * columns < 40e6
        assert planes == (how.slices + 2 * how.margin) * how.planes_each
        assert rows * how.enlarged == columns * how.enlarged == 512


def test_the_demo_patient_is_jpeg_ls_with_its_labels_in_order_of_acquisition(tmp_path: Path) -> None:
    ct = simulated_ct()
    for name in ("once.zip", "again.zip"):
        write_demo_patient(ct, tmp_path / name)
    assert (tmp_path / "once.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    with ZipFile(tmp_path / "once.zip") as archive:
        labels = np.load(BytesIO(archive.read("labels.npy")))
        datasets = [dcmread(BytesIO(archive.read(f"{n:03d}.dcm"))) for n in range(1, SMALL.slices + 1)]
    assert {ds.file_meta.TransferSyntaxUID for ds in datasets} == {JPEGLSLossless}
    uids = ct.volume.grid.sop_instance_uids
    assert all(
        np.array_equal(shown, ct.labels[uids.index(ds.SOPInstanceUID)])
        for shown, ds in zip(labels, datasets, strict=True)
    )


def test_a_montage_shows_the_truth_in_red_where_it_is_asked_for(tmp_path: Path) -> None:
    plain, outlined = (simulated_strip(simulated_ct(), outline=outline) for outline in (False, True))
    coloured = [(one.tiles[..., 0] != one.tiles[..., 1]).sum() for one in (plain, outlined)]
    assert coloured[0] == 0 < coloured[1]
    write_montage([plain, outlined], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
