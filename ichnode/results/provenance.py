"""Who made a result object, from which source, by which model, and the UIDs that follow from that.

A UID is derived from the source instances, the models, the configuration and the rule, never from the clock: repeated
work names the same objects, and another model or configuration names new ones (a PACS keeps the first object of a UID
and answers success to a changed second one).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from importlib.metadata import version

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import ichnode
from ichnode.domain.findings import ModelIdentity
from ichnode.domain.identity import IMPLEMENTATION_CLASS_UID, derived_uid
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.results.concepts import ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT, code_item

MANUFACTURER = "ichnode"
RESEARCH_BANNER = "AI RESEARCH - RESEARCH USE ONLY - NOT FOR CLINICAL USE"
SOFTWARE_VERSION = f"ichnode {ichnode.__version__}"
_SCANNER_KEYWORDS = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)


class Role(StrEnum):
    """What a result object is for. One series each."""

    SEGMENTATION = "segmentation"
    PREDICTED_SEGMENTATION = "predicted_segmentation"
    MEASUREMENT_REPORT = "measurement_report"
    OUTLINE_REPORT = "outline_report"
    SUMMARY_PAGE = "summary_page"
    PREDICTED_SERIES = "predicted_series"
    PREDICTION_REPORT = "prediction_report"
    FOLLOWUP_SALIENCY = "followup_saliency"
    EXPANSION_SALIENCY = "expansion_saliency"
    PROGNOSIS_SALIENCY = "prognosis_saliency"
    VOLUME_SURVIVAL_SALIENCY = "volume_survival_saliency"
    REJECTION_NOTE = NOTE_ROLE


OF_AN_ANALYSIS = frozenset(Role) - {Role.REJECTION_NOTE}  # which comes later, if a person rejects the others
SERIES_DESCRIPTIONS: Mapping[Role, str] = {
    Role.SEGMENTATION: "AI RESEARCH: Hematoma segmentation",
    Role.PREDICTED_SEGMENTATION: "AI RESEARCH: Predicted 24h hematoma segmentation",
    Role.MEASUREMENT_REPORT: "AI RESEARCH: Hematoma measurements",
    Role.OUTLINE_REPORT: "AI RESEARCH: Hematoma outline",
    Role.SUMMARY_PAGE: "AI RESEARCH: Summary page",
    Role.PREDICTED_SERIES: "AI RESEARCH: Predicted 24h CT (SYNTHETIC)",
    Role.PREDICTION_REPORT: "AI RESEARCH: Predictions",
    Role.FOLLOWUP_SALIENCY: "AI RESEARCH: Where the follow-up model looks",
    Role.EXPANSION_SALIENCY: "AI RESEARCH: What speaks for expansion",
    Role.PROGNOSIS_SALIENCY: "AI RESEARCH: What speaks for a poor outcome",
    Role.VOLUME_SURVIVAL_SALIENCY: "AI RESEARCH: What speaks for the volume",
    Role.REJECTION_NOTE: "AI RESEARCH: Results are rejected",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredecessorReport:
    """The measurement report that a new one replaces, after slices that came late."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The run that makes the objects."""

    run_at: datetime  # node local time, or with a time zone
    config_sha256: str
    rule: str
    predecessor: PredecessorReport | None = None
    told: Mapping[str, float] = field(default_factory=dict)  # of the patient, that stands in no header


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultProfile:
    """Which objects a site wants, and in which form."""

    objects: frozenset[str]  # the roles to write
    series_numbers: Mapping[str, int]  # by role
    followup_sop: str  # of the predicted series: "sc" or "ct"
    followup_warning: bool = False  # whether its pixels say that it was not acquired
    sr_class: str  # "comprehensive_3d", "comprehensive" or "enhanced"
    device_serial_number: str  # stable for the node


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One DICOM object to deliver, with complete file meta information, Explicit VR Little Endian."""

    role: str
    dataset: Dataset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provenance:
    """What all objects of one run share."""

    patient_and_study: Dataset  # as `source_headers.patient_and_study` gives it
    scanner: Dataset  # any data set with the equipment attributes of the source
    derived_from: tuple[str, ...]  # source SOP Instance UIDs, and the reason where nothing was analysed
    models: tuple[ModelIdentity, ...]
    profile: ResultProfile
    context: RunContext

    def uid(self, *parts: str) -> str:
        """The UID of the part of this run that `parts` name."""
        models = [f"{m.name} {m.version} {m.weights_sha256}" for m in self.models]
        told = [f"{name} {value}" for name, value in sorted(self.context.told.items())]
        origin = (*sorted(set(self.derived_from)), *models, self.context.config_sha256, self.context.rule, *told)
        return derived_uid(*parts, sha256("|".join(origin).encode()).hexdigest())

    def series_uid(self, role: Role) -> str:
        """Series Instance UID of the objects of one role."""
        return self.uid(role, "series")

    def instance_uid(self, role: Role, index: int = 0) -> str:
        """SOP Instance UID of the object of one role; `index` counts the slices of a series of images."""
        return self.uid(role, "instance", str(index))

    def series_number(self, role: Role) -> int:
        """Series Number as configured."""
        return self.profile.series_numbers[role]


def finish(dataset: Dataset, role: Role, provenance: Provenance, *, index: int = 0) -> Result:
    """`dataset` as a result: identity, patient, study, times, equipment and file meta information set in place.

    Whatever the writing library took from the clock or from a random generator is overwritten, so that the same run
    gives the same bytes. The data set must have its SOP Class UID.
    """
    dataset.update(provenance.patient_and_study)
    dataset.SOPInstanceUID = provenance.instance_uid(role, index)
    dataset.SeriesInstanceUID = provenance.series_uid(role)
    dataset.SeriesNumber = provenance.series_number(role)
    dataset.InstanceNumber = index + 1
    dataset.SeriesDescription = SERIES_DESCRIPTIONS[role]
    _stamp_times(dataset, provenance)
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MANUFACTURER
    dataset.DeviceSerialNumber = provenance.profile.device_serial_number[:64]
    dataset.SoftwareVersions = SOFTWARE_VERSION
    dataset.ContributingEquipmentSequence = _contributing_equipment(provenance)
    dataset.file_meta = file_meta(dataset)
    dataset.preamble = b"\0" * 128
    return Result(role=role, dataset=dataset)


def file_meta(dataset: Dataset) -> FileMetaDataset:
    """File meta information (PS3.10 7.1) for the SOP class and instance of `dataset`."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = f"ICHNODE_{ichnode.__version__}"[:16]
    return meta


def _stamp_times(dataset: Dataset, provenance: Provenance) -> None:
    """Series, content and creation time. The offset of a source governs the study time too, so it is all or nothing."""
    run_at = provenance.context.run_at
    offset = provenance.patient_and_study.get("TimezoneOffsetFromUTC")
    if offset and run_at.tzinfo:
        run_at = run_at.astimezone(datetime.strptime(offset, "%z").tzinfo)
    elif offset:
        del dataset.TimezoneOffsetFromUTC
    date, time = run_at.strftime("%Y%m%d"), run_at.strftime("%H%M%S")
    dataset.SeriesDate, dataset.SeriesTime = date, time
    dataset.ContentDate, dataset.ContentTime = date, time
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = date, time


def _contributing_equipment(provenance: Provenance) -> list[Dataset]:
    """The scanner, where it gave its name, and ichnode with the models that it ran."""
    node = Dataset()
    node.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    node.Manufacturer, node.ManufacturerModelName = MANUFACTURER, MANUFACTURER
    node.DeviceSerialNumber = provenance.profile.device_serial_number[:64]
    node.SoftwareVersions = [SOFTWARE_VERSION, f"highdicom {version('highdicom')}", f"pydicom {version('pydicom')}"]
    models = "; ".join(f"{m.name} {m.version}, weights {m.weights_sha256}" for m in provenance.models)
    node.ContributionDescription = f"Analysis of a head CT under rule {provenance.context.rule}. {models}"[:1024]
    if not provenance.scanner.get("Manufacturer"):
        return [node]
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [code_item(ACQUISITION_EQUIPMENT)]
    for keyword in _SCANNER_KEYWORDS:
        if provenance.scanner.get(keyword):
            scanner.add(provenance.scanner[keyword])
    return [scanner, node]
