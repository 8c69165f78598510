"""The rejection note of IHE IOCM (RAD-66): a Key Object Selection that asks archives to withdraw its references.

It is TID 2010 (PS3.16) under the title that says why, in a series of its own in the study of what it names. The comment
of the person who rejected stays on this node: nobody can say what stands in it.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import KeyObjectSelectionDocumentStorage

from ichnode.domain.findings import ModelIdentity
from ichnode.domain.identity import derived_uid
from ichnode.domain.judgement import REASON_WORDS, NoteTitle, RejectReason, title_of
from ichnode.results.concepts import code_item
from ichnode.results.provenance import MANUFACTURER, Provenance, Result, ResultProfile, Role, RunContext, finish
from ichnode.results.source_headers import patient_and_study

TITLES = {
    NoteTitle.QUALITY: Code("113001", "DCM", "Rejected for Quality Reasons"),
    NoteTitle.SAFETY: Code("113037", "DCM", "Rejected for Patient Safety Reasons"),
}
_OBSERVER_TYPE, _DEVICE = Code("121005", "DCM", "Observer Type"), Code("121007", "DCM", "Device")
_DEVICE_UID, _DEVICE_NAME = Code("121012", "DCM", "Device Observer UID"), Code("121013", "DCM", "Device Observer Name")
_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."  # SOP classes of structured reports: without pixels, so COMPOSITE


def compose_rejection_note(
    header: Dataset,
    rejected: Sequence[tuple[str, str, str]],
    *,
    reason: RejectReason,
    destinations: Sequence[str],
    models: tuple[ModelIdentity, ...],
    profile: ResultProfile,
    context: RunContext,
) -> Result:
    """The note about `rejected`: Series Instance UID, SOP Class UID and SOP Instance UID of each result.

    `header` is that of any of them. The UIDs of the note follow from what it names, from its title and from the
    destinations that it is for, so that work that is repeated after a kill gives the same note.
    """
    title = title_of(reason)
    provenance = Provenance(
        patient_and_study=patient_and_study(header),
        scanner=Dataset(),
        derived_from=(*(sop_instance_uid for _, _, sop_instance_uid in rejected), title, *destinations),
        models=models,
        profile=profile,
        context=context,
    )
    note = Dataset()
    note.SOPClassUID, note.Modality = KeyObjectSelectionDocumentStorage, "KO"
    note.ReferencedPerformedProcedureStepSequence = []
    note.CurrentRequestedProcedureEvidenceSequence = [_evidence(header.StudyInstanceUID, rejected)]
    note.ValueType, note.ContinuityOfContent = "CONTAINER", "SEPARATE"
    note.ConceptNameCodeSequence = [code_item(TITLES[title])]
    note.ContentTemplateSequence = [_template()]
    said = f"Results of an AI (research use only) were rejected in review: {REASON_WORDS[reason]}."
    note.ContentSequence = [
        _coded(_OBSERVER_TYPE, _DEVICE),
        _item("HAS OBS CONTEXT", "UIDREF", _DEVICE_UID, UID=derived_uid("device", profile.device_serial_number)),
        _item("HAS OBS CONTEXT", "TEXT", _DEVICE_NAME, TextValue=MANUFACTURER),
        _item("CONTAINS", "TEXT", _DESCRIPTION, TextValue=said),
        *(_reference(sop_class_uid, sop_instance_uid) for _, sop_class_uid, sop_instance_uid in rejected),
    ]
    return finish(note, Role.REJECTION_NOTE, provenance)


def _evidence(study_instance_uid: str, rejected: Sequence[tuple[str, str, str]]) -> Dataset:
    """The study with its series and instances (PS3.3 C.17.2.1)."""
    study = Dataset()
    study.ReferencedSeriesSequence, study.StudyInstanceUID = [], study_instance_uid
    for series_instance_uid in dict.fromkeys(series for series, _, _ in rejected):
        series = Dataset()
        series.ReferencedSOPSequence = [
            _sop(sop_class_uid, sop_instance_uid)
            for of_series, sop_class_uid, sop_instance_uid in rejected
            if of_series == series_instance_uid
        ]
        series.SeriesInstanceUID = series_instance_uid
        study.ReferencedSeriesSequence.append(series)
    return study


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """One rejected object; it has no concept name (TID 2010, row 6)."""
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "COMPOSITE" if sop_class_uid.startswith(_REPORTS) else "IMAGE"
    item.ReferencedSOPSequence = [_sop(sop_class_uid, sop_instance_uid)]
    return item


def _sop(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def _coded(name: Code, value: Code) -> Dataset:
    return _item("HAS OBS CONTEXT", "CODE", name, ConceptCodeSequence=[code_item(value)])


def _item(relationship: str, value_type: str, name: Code, **value: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    item.ConceptNameCodeSequence = [code_item(name)]
    for keyword, content in value.items():
        setattr(item, keyword, content)
    return item


def _template() -> Dataset:
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    return template
