"""The rejection note as a DICOM object."""

import io
from dataclasses import replace
from datetime import datetime

import pytest
from pydicom import config, dcmread

from ichnode.domain.judgement import RejectReason
from ichnode.results.provenance import RunContext
from ichnode.results.rejection_note import compose_rejection_note
from tests.acceptance.dcmtk import dciodvfy, dsrdump
from tests.results_factory import PROFILE, phantom_case, save

CONTEXT = RunContext(run_at=datetime(2026, 1, 2, 3, 4, 5), config_sha256="", rule="head ct")


@pytest.fixture(scope="module")
def case():
    return phantom_case(30)


@pytest.fixture(scope="module")
def results(case):
    return [result.dataset for result in case.results()]


@pytest.fixture
def compose(case, results):
    def compose(*, reason=RejectReason.MISSED, of=results, destinations=("pacs",), context=CONTEXT):
        rejected = [(str(d.SeriesInstanceUID), str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in of]
        return compose_rejection_note(
            of[0],
            rejected,
            reason=reason,
            destinations=destinations,
            models=(case.model,),
            profile=PROFILE,
            context=context,
        )

    return compose


@pytest.mark.parametrize("reason", [RejectReason.MISSED, RejectReason.WRONG_OUTLINE])
def test_dciodvfy_finds_no_errors_and_dcmtk_reads_it(compose, tmp_path, reason):
    file = save(compose(reason=reason), tmp_path / "note.dcm")
    assert dciodvfy(file) == []
    said = "Rejected for Patient Safety" if reason is RejectReason.MISSED else "Rejected for Quality"
    assert said in dsrdump(file)


@pytest.mark.filterwarnings("error")
def test_it_names_every_object_once_in_the_study_of_the_patient(compose, results, monkeypatch):
    buffer = io.BytesIO()
    compose().dataset.save_as(buffer, enforce_file_format=True)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    note = dcmread(io.BytesIO(buffer.getvalue()))
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    evidence = [i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for i in s.ReferencedSOPSequence]
    content = [
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for i in note.ContentSequence
        if "ReferencedSOPSequence" in i
    ]
    wanted = [d.SOPInstanceUID for d in results]
    assert sorted(evidence) == sorted(wanted)
    assert content == wanted
    assert study.StudyInstanceUID == note.StudyInstanceUID == results[0].StudyInstanceUID
    assert (note.Modality, note.PatientID, note.PatientName) == ("KO", results[0].PatientID, results[0].PatientName)
    assert (note.ConceptNameCodeSequence[0].CodeValue, note.ConceptNameCodeSequence[0].CodingSchemeDesignator) == (
        "113037",
        "DCM",
    )
    assert not any("ConceptNameCodeSequence" in i for i in note.ContentSequence if "ReferencedSOPSequence" in i)


def test_reports_are_composites_and_the_rest_images(compose, results):
    kinds = [i.ValueType for i in compose().dataset.ContentSequence if "ReferencedSOPSequence" in i]
    assert kinds == ["COMPOSITE" if d.Modality == "SR" else "IMAGE" for d in results]


def test_the_same_rejection_gives_the_same_bytes_and_another_one_another_note(compose, results):
    def uid(**other):
        return compose(**other).dataset.SOPInstanceUID

    assert uid() == uid(context=replace(CONTEXT, run_at=datetime(2027, 1, 1)))
    others = {uid(), uid(reason=RejectReason.WRONG_TYPE), uid(of=results[:2]), uid(destinations=("archive",))}
    assert len(others) == 4
    assert compose().dataset == compose().dataset
