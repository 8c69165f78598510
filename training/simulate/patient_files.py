"""Patient files: one simulated CT as DICOM or NIfTI in a folder of its own, the truth beside it, its manifest row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.manifest import TYPES, Outcome, Row
from training.simulate import dicom_study, extra_series
from training.simulate.acquire import GRAFTED, SimulatedCT
from training.simulate.nifti import write_nifti
from training.simulate.truth import as_json, volumes_ml


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """What is written beside the truth and its mask."""

    dicom: bool = True
    nifti: bool = False
    localizer: bool = False  # these two in the DICOM study
    dose_page: bool = False


def write_patient(ct: SimulatedCT, out: Path, formats: Formats) -> Row:
    """Everything of one CT, below `out`; its row names the DICOM folder where there is one."""
    folder = out / ct.name
    folder.mkdir(parents=True, exist_ok=True)
    grid = ct.volume.grid
    write_nifti(ct.labels, grid, folder / "mask.nii.gz")
    (folder / "truth.json").write_text(as_json(ct), "utf-8")
    if formats.nifti:
        write_nifti(ct.volume.hu.astype(np.int16), grid, folder / "ct.nii.gz")
    if formats.dicom:
        extra = [extra_series.localizer(ct)] * formats.localizer + [extra_series.dose_page(ct)] * formats.dose_page
        dicom_study.write((*dicom_study.head_ct(ct), *extra), folder / "dicom")
    return _row(ct, folder, folder / ("dicom" if formats.dicom else "ct.nii.gz"))


def _row(ct: SimulatedCT, folder: Path, image: Path) -> Row:
    """No training run draws the seeds that are written to files, so that all are for testing."""
    spec, volumes = ct.spec, volumes_ml(ct)
    patient = f"SIM-{spec.seed}"
    return Row(
        patient=patient,
        study=ct.name,
        ct=image.absolute(),
        source=f"simulated/{ct.style}" if ct.style != GRAFTED else "simulated in a real head",
        licence="Apache-2.0" if ct.style != GRAFTED else "that of the real head",
        split="test",
        mask=(folder / "mask.nii.gz").absolute(),
        label_map=dict(enumerate(TYPES, 1)),
        types=tuple(name for name in TYPES if name in volumes),
        volume_ml=volumes["all"],
        t_hours=spec.followup_h if ct.followup else 0,
        onset_hours=spec.onset_to_ct_h,
        paired_with=f"{patient}-first" if ct.followup else None,
        age=spec.age,
        gcs=spec.gcs,
        systolic_mmhg=spec.systolic_mmhg,
        anticoagulant=spec.anticoagulant,
        thrombectomy=spec.kind == "thrombectomy",
        outcome=Outcome(type="mrs_90d", value=spec.outcome.mrs_90d),
    )
