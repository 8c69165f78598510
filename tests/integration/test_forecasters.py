"""A rule that runs forecasters gets what they say into its results, and one that does not is as it was."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from ichnode.config import load_settings
from ichnode.domain.findings import Caveat
from ichnode.domain.study import Series
from ichnode.errors import ConfigError
from ichnode.node import analyser_settings
from ichnode.phantom import head_ct
from ichnode.results.provenance import RunContext
from ichnode.stages.analyser import Analysis, AnalysisRequest
from ichnode.stages.analysis import FORECASTERS
from tests.bundle_factory import NETWORKS, forecaster_bundle
from tests.series_factory import stored_series

SPONTANEOUS = tuple(pipeline for pipeline in FORECASTERS if pipeline != "followup_after_thrombectomy")
CONTEXT = RunContext(run_at=datetime(2026, 11, 27, 3, 0), config_sha256="0" * 64, rule="head-ct", predecessor=None)


def config(folder: Path, run: str) -> Path:
    file = folder / "ichnode.toml"
    file.write_text(
        f"""
[node]
data_dir = "{folder / "data"}"
[inference]
hematoma_bundle = "hematoma-baseline"
bundles_dir = "{folder / "bundles"}"
[[rules]]
name = "head-ct"
run = {run}
""",
        "utf-8",
    )
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("expansion")
    (made / "bundles").mkdir()
    for name in NETWORKS:
        least_ml = 0.0 if name == "followup" else 0.5
        forecaster_bundle(made / "bundles" / name, name, shape=[32, 112, 96], hematoma_ml=[least_ml, 150.0])
    return made


@pytest.fixture(scope="module")
def series(folder: Path) -> Series:
    (folder / "series").mkdir()
    return stored_series(head_ct(hematoma_ml=20).datasets, folder / "series")


def analysed(folder: Path, series: Series, *, run: tuple[str, ...]) -> Analysis:
    settings = load_settings(config(folder, str(["hematoma", *SPONTANEOUS])), {})
    return analyser_settings(settings)()(AnalysisRequest(series=series, run=run, context=CONTEXT))


def test_what_a_table_tells_of_the_patient_conditions_the_model_stands_in_the_report_and_makes_other_objects(
    folder: Path, series: Series, tmp_path: Path
) -> None:
    accession = dcmread(series.instances[0].file, stop_before_pixels=True).AccessionNumber
    table = tmp_path / "clinical.csv"
    reports = []
    for lines in (["other,2.5,1"], [f"{accession},2.5,1"], [f"{accession},2.5,0"]):
        table.write_text("\n".join(["accession,onset_to_ct_h,anticoagulant", *lines]))
        settings = load_settings(config(folder, '["hematoma", "expansion"]'), {"ICHNODE_CLINICAL__FILE": str(table)})
        request = AnalysisRequest(series=series, run=("hematoma", "expansion"), context=CONTEXT)
        reports += objects(analyser_settings(settings)()(request), "prediction_report")
    assert len({report.SOPInstanceUID for report in reports}) == 3
    texts = [report.to_json() for report in reports]
    assert "onset" not in texts[0]
    assert "2.5 h from onset to CT, an anticoagulant" in texts[1]
    assert "2.5 h from onset to CT, no anticoagulant" in texts[2]


def objects(analysis: Analysis, role: str) -> list[Dataset]:
    return [dcmread(BytesIO(each.encoded)) for each in analysis.objects if each.role == role]


def test_the_next_day_is_in_the_results(folder: Path, series: Series) -> None:
    analysis = analysed(folder, series, run=("hematoma", "expansion"))
    (report,) = objects(analysis, "prediction_report")
    (segmentation,) = objects(analysis, "predicted_segmentation")
    predicted = objects(analysis, "predicted_series")

    assert analysis.findings is not None
    hematoma_ml, (said,) = analysis.findings["hematoma"]["volume_ml"], analysis.findings["predictions"]
    estimates = said["estimates"]
    assert [estimate["name"] for estimate in estimates] == [
        "expansion_probability",
        "expansion_3_ml_probability",
        "predicted_volume",
        "volume_change",
    ]
    assert estimates[2]["value"] == pytest.approx(hematoma_ml, rel=0.01)  # untrained: as it was
    assert "Predicted hematoma volume at 24 h" in report.to_json()
    assert hd.seg.Segmentation.from_dataset(segmentation).number_of_segments == 1  # no growth
    assert len(predicted) == len(series.instances)
    received = {int(dcmread(each.file).InstanceNumber): dcmread(each.file) for each in series.instances}
    for dataset in predicted:
        np.testing.assert_array_equal(dataset.pixel_array, received[int(dataset.InstanceNumber)].pixel_array)


def test_all_models_speak_in_one_report_each_for_itself(folder: Path, series: Series) -> None:
    analysis = analysed(folder, series, run=("hematoma", *SPONTANEOUS))
    (report,) = objects(analysis, "prediction_report")
    assert analysis.findings is not None
    predictions = analysis.findings["predictions"]
    assert [said["model"]["name"] for said in predictions] == ["expansion", "prognosis", "volume-survival", "followup"]
    assert all(estimate["value"] is not None for said in predictions for estimate in said["estimates"])
    for said in predictions:
        assert f"weights_sha256={said['model']['weights_sha256']}" in report.to_json()
    (page,) = objects(analysis, "summary_page")
    assert not page.pixel_array[1000:, 700:].any()  # all lines have room


def test_where_answers_come_from_is_shown_over_the_ct(folder: Path, series: Series) -> None:
    analysis = analysed(folder, series, run=("hematoma", *SPONTANEOUS))
    (segmentation,) = objects(analysis, "segmentation")
    for pipeline in SPONTANEOUS:
        shown = objects(analysis, f"{pipeline}_saliency")
        assert {each.SeriesInstanceUID for each in shown} == {shown[0].SeriesInstanceUID}
        numbers = {int(each.InstanceNumber) for each in shown}
        assert len(numbers) == len(shown) <= len(series.instances)
        positions = {tuple(map(float, each.ImagePositionPatient)) for each in shown}
        assert positions >= {
            tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))
            for frame in segmentation.PerFrameFunctionalGroupsSequence
        }
        colour = np.stack([each.pixel_array for each in shown]).astype(int)
        assert ((colour[..., 0] - colour[..., 2])[:, 30:-30] > 100).any()


def test_a_model_that_fails_takes_nothing_from_what_was_found(
    folder: Path, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("ichnode.inference.expansion.ExpansionPredictor.heat", fails)
    analysis = analysed(folder, series, run=("hematoma", *SPONTANEOUS))
    assert objects(analysis, "segmentation")
    assert analysis.findings is not None
    expansion, prognosis, *_ = analysis.findings["predictions"]
    assert {estimate["note"] for estimate in expansion["estimates"]} == {"the model failed: out of memory"}
    assert all(estimate["value"] is not None for estimate in prognosis["estimates"])


def test_what_a_site_does_not_want_is_not_worked_out(folder: Path, series: Series) -> None:
    settings = load_settings(config(folder, str(["hematoma", *SPONTANEOUS])), {})
    analyser = analyser_settings(settings)
    profile = replace(analyser.profile, objects=frozenset(["summary_page"]))
    analysis = replace(analyser, profile=profile)()(
        AnalysisRequest(series=series, run=("hematoma", *SPONTANEOUS), context=CONTEXT)
    )
    assert [each.role for each in analysis.objects] == ["summary_page"]


def test_a_rule_that_does_not_run_it_gets_nothing_of_it(folder: Path, series: Series) -> None:
    analysis = analysed(folder, series, run=("hematoma",))
    assert {each.role for each in analysis.objects}.isdisjoint(
        {"prediction_report", "predicted_segmentation", "predicted_series"}
    )
    assert analysis.findings is not None
    assert analysis.findings["predictions"] == ()


def test_a_head_without_hematoma_has_no_next_day(folder: Path, tmp_path: Path) -> None:
    healthy = stored_series(head_ct(hematoma_ml=0).datasets, tmp_path)
    analysis = analysed(folder, healthy, run=("hematoma", "expansion"))
    assert analysis.findings is not None
    assert analysis.findings["hematoma"] is None
    assert analysis.findings["predictions"] == ()


def test_a_pipeline_whose_bundle_is_not_there_is_told_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    file = config(tmp_path, '["hematoma", "followup"]')
    file.write_text(file.read_text("utf-8").replace("[inference]", '[inference]\nfollowup_bundle = "of-ours"'), "utf-8")
    settings = load_settings(file, {})
    with pytest.raises(ConfigError, match=r"inference\.followup_bundle: there is no bundle 'of-ours'"):
        analyser_settings(settings)()


def test_what_begins_from_the_hematoma_needs_it(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    with pytest.raises(ConfigError, match=r"rules\.0\.run: .*lacks hematoma"):
        load_settings(config(tmp_path, '["expansion"]'), {})


def test_after_thrombectomy_heads_without_hematoma_are_asked_about(folder: Path, tmp_path: Path) -> None:
    healthy = stored_series(head_ct(hematoma_ml=0).datasets, tmp_path)
    settings = load_settings(config(folder, '["hematoma", "followup_after_thrombectomy"]'), {})
    request = AnalysisRequest(series=healthy, run=("hematoma", "followup_after_thrombectomy"), context=CONTEXT)
    analysis = analyser_settings(settings)()(request)
    assert analysis.findings is not None
    (said,) = analysis.findings["predictions"]
    (estimate,) = said["estimates"]
    assert (estimate["name"], estimate["note"]) == ("late_hemorrhage_probability", "after thrombectomy")
    assert estimate["value"] is not None
    assert Caveat.STAINING in analysis.findings["caveats"]
    assert {each.role for each in analysis.objects} == {  # an untrained network adds nothing
        "measurement_report",
        "prediction_report",
        "summary_page",
        "predicted_series",
        "followup_saliency",
    }


@pytest.mark.parametrize("description", ["CT HEAD", "CT POST THROMBECTOMY"])
def test_after_thrombectomy_contrast_may_be_counted_and_models_of_spontaneous_hemorrhage_abstain(
    folder: Path, tmp_path: Path, description: str
) -> None:
    slices = head_ct(hematoma_ml=20).datasets
    for each in slices:
        each.StudyDescription = description
    analysis = analysed(folder, stored_series(slices, tmp_path), run=("hematoma", "volume_survival"))
    assert analysis.findings is not None
    (said,) = analysis.findings["predictions"]
    abstains = ["after thrombectomy" in each["note"] and each["value"] is None for each in said["estimates"]]
    treated = description != "CT HEAD"
    assert abstains == [treated, treated]
    assert analysis.findings["caveats"] == ((Caveat.STAINING,) if treated else ())


def test_the_two_uses_of_the_followup_model_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    with pytest.raises(ConfigError, match=r"rules\.0\.run: .*different patients"):
        load_settings(config(tmp_path, '["hematoma", "followup", "followup_after_thrombectomy"]'), {})
