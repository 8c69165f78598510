"""A clinic whose results can be judged: real DICOM headers in the files, and the stage that makes rejection notes."""

from dataclasses import asdict
from io import BytesIO

from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from ichnode.domain.findings import ModelIdentity
from ichnode.domain.identity import derived_uid
from ichnode.domain.judgement import Opinion, RejectReason, Verdict
from ichnode.phantom import head_ct
from ichnode.results.provenance import ResultProfile, Role, file_meta
from ichnode.stages.withdraw import WithdrawStage
from ichnode.storage.history import ResultFile
from ichnode.storage.judgements import Judgements
from ichnode.storage.withdrawals import Withdrawals
from tests.finished_study import Clinic
from tests.results_factory import PROFILE, SMALL

MODEL = ModelIdentity(
    name="hematoma", version="0.7", weights_sha256="a" * 64, family="neural network", trained_on="simulated patients"
)
FINDINGS = {"model": asdict(MODEL), "hematoma": {"volume_ml": 31.5}}
ACCEPTED = Opinion(verdict=Verdict.ACCEPTED)
REJECTED = Opinion(verdict=Verdict.REJECTED, reason=RejectReason.MISSED, comment="in the pons", corrected_ml=36.0)
_SOP_CLASSES = {"segmentation": SegmentationStorage, "measurement_report": Comprehensive3DSRStorage}


class JudgedClinic(Clinic):
    """Results are a segmentation and a report, of which only the patient and study are real."""

    def __init__(self, engine, folder) -> None:
        super().__init__(engine, folder)
        self.judgements, self.withdrawals = Judgements(engine), Withdrawals(engine)
        self.woken = 0
        self.withdrawing = self.stage()

    def stage(self, *, profile: ResultProfile = PROFILE) -> WithdrawStage:
        def wake():
            self.woken += 1

        return WithdrawStage(
            withdrawals=self.withdrawals, store=self.results, profile=profile, clock=lambda: self.now, wake=wake
        )

    def analysed(self, study="1", *, send_to=("pacs",)):
        """A job with results in the outbox."""
        self.receive(study)
        self.decide(study, send_to=send_to)
        job = self.ledger.claim(at=self.now)
        self.ledger.finish_analysis(job, [*self._composed(job.id, study)], findings=FINDINGS, seconds={}, at=self.now)
        return self.history.job(job.id)

    def _composed(self, job_id, study):
        header = head_ct(hematoma_ml=0, geometry=SMALL).datasets[0]
        for role, sop_class in _SOP_CLASSES.items():
            header.StudyInstanceUID, header.SOPClassUID = study, sop_class
            header.SOPInstanceUID = derived_uid(str(job_id), role)
            header.SeriesInstanceUID = derived_uid(str(job_id), role, "series")
            header.file_meta, header.preamble = file_meta(header), b"\0" * 128
            buffer = BytesIO()
            header.save_as(buffer, enforce_file_format=True)
            yield ResultFile(
                role=role,
                sop_instance_uid=header.SOPInstanceUID,
                sop_class_uid=sop_class,
                series_instance_uid=header.SeriesInstanceUID,
                file=str(self.results.keep([buffer.getvalue()])),
                size_bytes=len(buffer.getvalue()),
            )

    def deliver_to(self, destination, *roles):
        """What is due there; with `roles` those alone."""
        for delivery in self.outbox.due(destination, at=self.now):
            if not roles or delivery.role in roles:
                self.outbox.delivered(delivery, status=0, at=self.now)

    def reject(self, job, opinion=REJECTED, *, who="anna", withdraw=True):
        return self.judgements.record(job.id, opinion, who=who, at=self.now, withdraw=withdraw)

    def notes(self, job):
        """The results that are rejection notes."""
        return [result for result in self.history.results(job.id) if result.role == Role.REJECTION_NOTE]

    def states(self, job, destination="pacs"):
        """By role, of every delivery there."""
        return {d.role: d.state for d in self.outbox.of_job(job.id) if d.destination == destination}
