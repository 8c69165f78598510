"""The predicted series and the summary page."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import ImageDraw
from pydicom.dataset import Dataset

from ichnode.domain.findings import (
    Caveat,
    Estimate,
    EstimateName,
    Findings,
    HematomaPart,
    HemorrhageType,
    ModelEstimates,
    RiskClass,
)
from ichnode.phantom import IRREGULAR, TILTED, Geometry
from ichnode.results.provenance import Role
from ichnode.results.saliency_series import render as render_heat
from ichnode.results.summary_page import BANNER_HEIGHT, PAGE_SIZE
from ichnode.results.summary_page import render as render_page
from ichnode.results.summary_text import summary_lines
from tests.results_factory import FOLLOWUP_MODEL, MODEL, PROFILE, SMALL, Case, measured, phantom_case, shared_data


def followup(case: Case) -> list[Dataset]:
    return [result.dataset for result in case.results() if result.role == Role.PREDICTED_SERIES]


def hu(dataset: Dataset) -> np.ndarray:
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


@pytest.mark.parametrize("geometry", [SMALL, replace(SMALL, tilt_deg=TILTED.tilt_deg)], ids=["regular", "tilted"])
def test_the_predicted_series_keeps_order_geometry_and_hu(geometry: Geometry) -> None:
    case = phantom_case(30, geometry)
    series = followup(case)
    prediction = case.prediction.followup
    assert prediction is not None
    assert len(series) == len(case.sources)
    unchanged = ~(prediction.hematoma & ~case.mask)
    for index, (dataset, source) in enumerate(zip(series, case.sources, strict=True)):
        assert dataset.InstanceNumber == index + 1
        assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
        np.testing.assert_allclose(dataset.ImagePositionPatient, source.ImagePositionPatient, atol=1e-6)
        np.testing.assert_allclose(dataset.ImageOrientationPatient, source.ImageOrientationPatient, atol=1e-6)
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        same = unchanged[index]
        np.testing.assert_array_equal(hu(dataset)[same], case.volume.hu[index][same])
        assert (hu(dataset)[~same] == 64).all()


def test_hu_of_a_real_unsigned_series_come_back_exactly() -> None:
    case = Case(shared_data("philips_phantom_study/S2010"))
    case.grow_by_pixels = 0
    for index, dataset in enumerate(followup(case)):
        np.testing.assert_array_equal(hu(dataset), case.volume.hu[index])


@pytest.mark.parametrize(
    ("configured", "sop_class"), [("sc", "1.2.840.10008.5.1.4.1.1.7"), ("ct", "1.2.840.10008.5.1.4.1.1.2")]
)
def test_the_predicted_series_says_that_it_is_synthetic(configured: str, sop_class: str) -> None:
    case = phantom_case(30)
    case.profile = replace(PROFILE, followup_sop=configured)
    series = followup(case)
    assert len({dataset.SOPInstanceUID for dataset in series}) == len(case.sources)
    for dataset in series:
        assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == sop_class
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.ImageType[0] == "DERIVED"
        assert dataset.SyntheticData == "YES"
        assert "SYNTHETIC" in dataset.DerivationDescription
        assert "RESEARCH" in dataset.DerivationDescription
        assert "AcquisitionDate" not in dataset
        assert "AcquisitionTime" not in dataset


def test_a_warning_in_the_pixels_is_there_where_the_site_wants_it_and_nowhere_else_in_them() -> None:
    plain, warned = phantom_case(30), phantom_case(30)
    warned.profile = replace(PROFILE, followup_warning=True)
    for without, with_it in zip(followup(plain), followup(warned), strict=True):
        letters = hu(with_it) != hu(without)
        assert 0.01 < letters[:12].mean() < 0.5
        assert not letters[12:].any()
        assert (hu(with_it)[letters] == 3000).all()


def test_an_enhanced_ct_gives_one_predicted_instance_a_frame() -> None:
    case = phantom_case(30, replace(SMALL, offsets_mm=SMALL.offsets_mm[::-1]))
    positions = case.volume.grid.positions_lps
    case.become_enhanced()
    for index, dataset in enumerate(followup(case)):
        np.testing.assert_allclose(dataset.ImagePositionPatient, positions[index], atol=1e-6)
        (source,) = dataset.SourceImageSequence
        assert source.ReferencedFrameNumber == case.volume.grid.frame_numbers[index]


def test_a_source_that_was_ever_lossy_gives_lossy_results() -> None:
    case = phantom_case(30)
    for source in case.sources:
        source.LossyImageCompression, source.LossyImageCompressionRatio = "01", "10"
    assert {dataset.LossyImageCompression for dataset in followup(case)} == {"01"}
    assert case.result(Role.SEGMENTATION).LossyImageCompression == "01"


def page(case: Case) -> np.ndarray:
    pixels: np.ndarray = case.result(Role.SUMMARY_PAGE).pixel_array
    return pixels


def test_the_page_burns_in_the_research_banner() -> None:
    dataset = phantom_case(30).result(Role.SUMMARY_PAGE)
    assert dataset.BurnedInAnnotation == "YES"
    assert "RescaleIntercept" not in dataset
    banner = dataset.pixel_array[:BANNER_HEIGHT]
    assert 0.02 < (banner.max(axis=2) < 100).mean() < 0.3  # black letters on a plain strip


def test_the_page_outlines_the_hematoma_and_shows_none_where_there_is_none() -> None:
    def outlined(case: Case) -> int:
        red, green, blue = np.moveaxis(page(case)[:, :640].astype(int), -1, 0)
        return int(((red > 220) & (green < 80) & (blue < 80)).sum())

    assert outlined(phantom_case(30)) > 500
    assert outlined(phantom_case(0)) == 0


def test_the_page_shows_left_on_the_right_whatever_the_order_of_the_columns() -> None:
    standard = phantom_case(30)
    mirrored = phantom_case(30)
    grid = mirrored.volume.grid
    width = (grid.columns - 1) * grid.pixel_spacing_mm[1] * grid.row_direction_lps
    mirrored.volume = replace(
        mirrored.volume,
        hu=mirrored.volume.hu[:, :, ::-1],
        grid=replace(grid, positions_lps=grid.positions_lps + width, row_direction_lps=-grid.row_direction_lps),
    )
    mirrored.mask = mirrored.mask[:, :, ::-1]
    letters = np.s_[350:390, 12:40]  # the letter at the left edge of the large panel
    assert (page(standard)[letters] != page(mirrored)[letters]).any()


def test_the_page_keeps_the_proportions_of_oblong_pixels() -> None:
    case = phantom_case(0, replace(SMALL, offsets_mm=IRREGULAR.offsets_mm, thickness_mm=IRREGULAR.thickness_mm))
    squeezed = phantom_case(0)
    grid = squeezed.volume.grid
    squeezed.volume = replace(
        squeezed.volume,
        hu=squeezed.volume.hu[:, ::2],
        grid=replace(
            grid, rows=grid.rows // 2, pixel_spacing_mm=(2 * grid.pixel_spacing_mm[0], grid.pixel_spacing_mm[1])
        ),
    )
    squeezed.mask = squeezed.mask[:, ::2]

    def height_over_width(case: Case) -> float:
        rows, columns = np.nonzero(page(case)[90:650, 60:600].max(axis=2) > 200)  # the skull
        return float(np.ptp(rows) / np.ptp(columns))

    assert height_over_width(squeezed) == pytest.approx(height_over_width(case), rel=0.05)


def test_a_page_without_estimates_and_one_with_long_notes_are_drawn() -> None:
    case = phantom_case(30)
    plain = page(phantom_case(30, followup=False))
    case.predictions = tuple(
        replace(said, estimates=tuple(replace(e, note="a long reason " * 20) for e in said.estimates))
        for said in case.predictions
    )
    assert (page(case) != plain).any()


def written_on_the_page(monkeypatch: pytest.MonkeyPatch, findings: Findings) -> list[str]:
    """What is written beside the pictures; nothing of it is off the page, or lies on something else."""
    case, written, write = phantom_case(30), list[str](), ImageDraw.ImageDraw.text
    boxes = list[tuple[float, ...]]()

    def note(draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, **how: Any) -> None:
        left, top, right, bottom = draw.textbbox(xy, text, font=how["font"], anchor=how.get("anchor"))
        assert left >= 0 <= top, text
        assert right <= PAGE_SIZE >= bottom, text
        if text and xy[0] > 640:
            assert all(right <= x0 or x1 <= left or bottom <= y0 or y1 <= top for x0, y0, x1, y1 in boxes), text
            boxes.append((left, top, right, bottom))
            written.append(text)
        write(draw, xy, text, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    numbers = tuple(range(len(case.sources)))
    render_page(case.volume, case.prediction, findings, numbers, case.sources[0])
    return written


def everything(note: str) -> Findings:
    """All that can be found: every type, caveat and estimate, by as many models, each about to say `note`."""
    case = phantom_case(30)
    part = HematomaPart(type=HemorrhageType.IPH, volume_ml=33.2, volume_low_ml=22.04, volume_high_ml=44.0)
    hematoma = measured(case.volume.grid, case.mask)
    names = list(EstimateName)
    return Findings(
        hematoma=replace(hematoma, parts=tuple(replace(part, type=one) for one in HemorrhageType)),
        model=replace(MODEL, name="hematoma"),
        caveats=tuple(Caveat),
        predictions=tuple(
            ModelEstimates(
                model=replace(FOLLOWUP_MODEL, name=f"model {i}"),
                estimates=tuple(
                    Estimate(name=name, value=61.0, low=52.0, high=73.0, category=RiskClass.HIGH, note=f"{note} {name}")
                    for name in names[i::4]
                ),
            )
            for i in range(4)
        ),
    )


def test_the_fullest_page_loses_notes_and_says_so_but_no_value_nor_whose_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = written_on_the_page(monkeypatch, everything("a long reason " * 5))
    assert sum("(52 to 73)" in line or "(52.0 to 73.0)" in line for line in written) == len(EstimateName)
    assert sum("(22.0 to 44.0)" in line for line in written) == len(HemorrhageType)
    for said in (
        "Trained on nothing",
        "Trained on simulated patients",
        "Study date",
        "2026-01-01",
        "Accession",
        "PH000001",
    ):
        assert said in written, said
    assert RiskClass.HIGH.value in written
    assert "Notes on estimates are left out: too little room" in written
    assert not [line for line in written if "a long reason" in line]


def test_a_long_page_becomes_smaller_before_it_loses_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = replace(everything("a reason"), caveats=())
    written = written_on_the_page(monkeypatch, replace(findings, predictions=findings.predictions[:3]))
    assert [line for line in written if "a reason" in line]
    assert {"Study date", "Accession", "Trained on simulated patients"} <= {*written}
    assert not [line for line in written if "left out" in line]


def test_a_value_too_wide_to_stand_beside_its_name_stands_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Estimate(name=EstimateName.VOLUME_CHANGE, value=-12.3, low=-112.3, high=120.4)
    case = phantom_case(30)
    said = ModelEstimates(model=FOLLOWUP_MODEL, estimates=(change,))
    findings = Findings(model=MODEL, hematoma=measured(case.volume.grid, case.mask), predictions=(said,))
    assert "-12.3 mL  (-112.3 to 120.4)" in written_on_the_page(monkeypatch, findings)


def test_the_page_has_a_line_for_each_type_of_hemorrhage_and_for_each_caveat() -> None:
    case = phantom_case(30)
    part = HematomaPart(type=HemorrhageType.IVH, volume_ml=3.2, volume_low_ml=2.04, volume_high_ml=4.0)
    hematoma = replace(measured(case.volume.grid, case.mask), parts=(part,))
    findings = Findings(model=case.model, hematoma=hematoma, caveats=(Caveat.LOST_OFFSET,))

    lines = [(line.text, line.value) for line in summary_lines(findings, case.sources[0])]

    assert ("Intraventricular", "3.2 mL  (2.0 to 4.0)") in lines
    assert (Caveat.LOST_OFFSET.value, "") in lines


def test_the_number_of_a_slice_stands_clear_of_the_corners_of_the_page_where_viewers_write() -> None:
    pixels = page(phantom_case(30))
    for top_left in (np.s_[BANNER_HEIGHT + 12 : 84, 12:100], np.s_[692:716, 12:80], np.s_[972:1024, 12:80]):
        assert pixels[top_left].max() < 200
    for caption in (np.s_[655:680, 560:632], np.s_[970:996, 250:316], np.s_[970:996, 560:632]):
        assert pixels[caption].max() > 200


def test_heat_is_shown_where_it_is_or_hematoma_is_in_the_place_of_the_ct() -> None:
    case = phantom_case(30)
    series = [result.dataset for result in case.results() if result.role == Role.EXPANSION_SALIENCY]
    bleeding = np.flatnonzero(case.mask.any(axis=(1, 2)))  # 0.9 inside, elsewhere 0.05
    assert [int(dataset.InstanceNumber) for dataset in series] == [int(index) + 1 for index in bleeding]
    headers = {header.SOPInstanceUID: header for header in case.sources}
    for dataset in series:
        (source,) = dataset.SourceImageSequence
        header = headers[source.ReferencedSOPInstanceUID]
        assert dataset.ImagePositionPatient == header.ImagePositionPatient
        assert dataset.FrameOfReferenceUID == header.FrameOfReferenceUID
        assert (dataset.BurnedInAnnotation, dataset.PhotometricInterpretation) == ("YES", "RGB")


def test_heat_is_red_to_yellow_and_leaves_the_rest_gray_under_the_warning() -> None:
    heat = np.zeros((200, 200), np.float32)
    heat[80:90, 80:90], heat[100:110, 100:110] = 1.0, 0.5
    pixels = render_heat(np.full((200, 200), 40, np.float32), heat, "what speaks for it").astype(int)
    (red, green, blue), (red_half, green_half, _) = pixels[85, 85], pixels[105, 105]
    assert red > 200 > 2 * blue
    assert green > green_half
    assert red > red_half > 127
    assert (pixels[40:70] == 128).all()
    assert (pixels[:12].max(axis=2) > 200).any()
    assert (pixels[-12:].max(axis=2) > 200).any()
    scale = pixels[135:175, 192]  # the colours from the most to the least heat
    assert abs(scale[0] - pixels[85, 85]).max() < 12
    assert (np.diff(scale[:, 2]) >= 0).all()
    assert (scale[-1] == 110).all()
