"""A clinic whose studies have pixels and results, and the pages that show them: everything real but the models."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import httpx
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Engine

from ichnode.domain.job import Job
from ichnode.imaging.header import instance_from_file
from ichnode.results.provenance import Result
from ichnode.storage.audit import AuditTrail
from ichnode.storage.history import ResultFile
from ichnode.storage.judgements import Judgements
from ichnode.storage.retention import Retention
from ichnode.storage.worklist import WorkList
from ichnode.web.app import create_app
from ichnode.web.guard import Credentials
from ichnode.web.parts import WebParts
from ichnode.web.server import WebServer
from tests.finished_study import Clinic
from tests.results_factory import Case
from tests.series_factory import part10

VIEWER = "https://pacs.example/viewer?StudyInstanceUIDs={StudyInstanceUID}&lang=en"


class ReviewedClinic(Clinic):
    """Receives data sets, and analyses them as a `Case` says."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        super().__init__(engine, folder)
        self._servers: list[WebServer] = []

    def browser(self, *, viewer_url: str | None = None, patients_shown: bool = False, **more: object) -> httpx.Client:
        parts = dict.fromkeys(field.name for field in fields(WebParts)) | {  # None: the review asks for no more
            "ae_title": "ICHNODE",
            "version": "0",
            "history": self.history,
            "outbox": self.outbox,
            "intake": self.intake,
            "judgements": Judgements(self.engine),
            "audit": AuditTrail(self.engine),
            "clock": lambda: self.now,
            "stopping": lambda: False,
            "credentials": Credentials(),
            "work_list": WorkList(self.engine),
            "rules": (),
            "viewer_url": viewer_url,
            "patients_shown": patients_shown,
            **more,
        }
        server = WebServer(create_app(WebParts(**parts)), host="127.0.0.1", port=0)
        server.start()
        self._servers.append(server)
        return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=30)

    def close(self) -> None:
        for server in self._servers:
            server.stop()

    def receive_datasets(self, datasets: Iterable[Dataset], syntax: str = ExplicitVRLittleEndian) -> str:
        """As over one association; the study."""
        association = self.intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=self.now)
        for dataset in datasets:
            file = self.store.keep([part10(dataset, syntax)])
            instance = instance_from_file(file)
            values = {"association_id": association, "received_at": self.now}
            kept = type(instance)(**{f: getattr(instance, f) for f in instance.__slots__} | values)
            self.intake.keep(kept, sha256=str(file), size_bytes=file.stat().st_size)
        self.intake.close_association(association, ending="released", at=self.now)
        return kept.study_instance_uid

    def decide_on(self, dataset: Dataset, **plan: object) -> Job:
        """One job for the series of `dataset`; it is ready unless `plan` says otherwise."""
        self.decide(dataset.StudyInstanceUID, series_instance_uid=dataset.SeriesInstanceUID, **plan)
        return self.history.list_jobs()[0]

    def finish_with(self, case: Case, results: Sequence[Result] | None = None) -> Job:
        """The next job, with the findings and results of `case`."""
        job = self.ledger.claim(at=self.now)
        assert job
        files = [self._keep(result) for result in (case.results() if results is None else results)]
        self.ledger.finish_analysis(job, files, findings=asdict(case.findings), seconds={}, at=self.now)
        done = self.history.job(job.id)
        assert done
        return done

    def purge(self, study: str) -> None:
        retention = Retention(self.engine)
        assert retention.purge(study, reason="age", received_before=self.now + 1, at=self.now)
        for file in retention.discarded():
            Path(file).unlink()

    def _keep(self, result: Result) -> ResultFile:
        dataset, file = result.dataset, self.results.begin()
        path = file.publish()
        dataset.save_as(path, enforce_file_format=True)
        return ResultFile(
            role=str(result.role),
            sop_instance_uid=dataset.SOPInstanceUID,
            sop_class_uid=dataset.SOPClassUID,
            series_instance_uid=dataset.SeriesInstanceUID,
            file=str(path),
            size_bytes=path.stat().st_size,
        )


def page_of(job: Job) -> str:
    """Where its review page is."""
    return f"/studies/{job.study_instance_uid}/jobs/{job.id}"
