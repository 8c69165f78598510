"""Extra series: what scanners send along with a head CT and nobody may analyse: a localizer and a dose page."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from training.simulate.acquire import SimulatedCT
from training.simulate.dicom_study import SIMULATED, instance, put_ct_pixels, study_of

_STEP_MM = 1.0  # pixels of the localizer
_PAGE = (512, 512)


def localizer(ct: SimulatedCT) -> Dataset:
    """The lateral view of the head: the mean along the patient's left-right axis."""
    study, grid = study_of(ct), ct.volume.grid
    seen = np.maximum(ct.volume.hu, -1000).mean(axis=2) + 1000  # (slice, row)
    rows_mm = np.arange(grid.rows) * grid.pixel_spacing_mm[0]
    heights = grid.positions_lps[:, 2, None] + rows_mm * grid.column_direction_lps[2]  # (slice, row)
    upright = np.arange(heights.max(), heights.min(), -_STEP_MM)
    columns = [np.interp(upright, heights[:, row], seen[:, row]) for row in range(grid.rows)]
    stored = np.rint(np.stack(columns, 1) * 0.8 - 500).astype(np.int32) - study.maker.intercept
    ds = instance(study, CTImageStorage, study.maker.localizer, 1)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.SliceThickness = ""
    ds.ImagePositionPatient = ["0", f"{grid.positions_lps[0, 1]:.6g}", f"{upright[0]:.6g}"]
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.PixelSpacing = [f"{_STEP_MM:g}", f"{grid.pixel_spacing_mm[0] * grid.column_direction_lps[1]:.8g}"]
    put_ct_pixels(ds, study, stored)
    return ds


def dose_page(ct: SimulatedCT) -> Dataset:
    """A page of text as a Secondary Capture."""
    study, grid = study_of(ct), ct.volume.grid
    kv, ma, ms = study.tube
    ctdi_mgy = round(0.14 * ma * ms / 1000 * (kv / 120) ** 2, 1)  # plausible for a head, not that of a scanner
    scanned_cm = float(grid.slice_extents_mm.sum()) / 10
    lines = (
        SIMULATED,
        f"SIM-{ct.spec.seed}   {study.began:%Y-%m-%d %H:%M}",
        "",
        "Series     kV    mAs    CTDIvol mGy    DLP mGy cm",
        f"HEAD      {kv}    {ma * ms // 1000}    {ctdi_mgy}           {ctdi_mgy * scanned_cm:.0f}",
    )
    page, font = Image.new("L", _PAGE), ImageFont.load_default(16)
    ImageDraw.Draw(page).multiline_text((24, 24), "\n".join(lines), fill=255, font=font, spacing=8)
    ds = instance(study, SecondaryCaptureImageStorage, "Dose Report", 999)
    ds.ImageType, ds.ConversionType, ds.BurnedInAnnotation = ["DERIVED", "SECONDARY", "OTHER"], "WSD", "YES"
    ds.PatientOrientation = ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = _PAGE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = np.asarray(page).tobytes()
    return ds
