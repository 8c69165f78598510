"""Results on their way: one job with results to deliver in a real ledger, the stage that delivers them, and a clock."""

from functools import partial

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.domain.job import JobState
from ichnode.domain.study import Instance
from ichnode.metrics import Metrics
from ichnode.stages.deliver import DeliverStage, RetryPolicy
from ichnode.stages.fallback import Fallback
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.outbox import Outbox
from ichnode.storage.refused_classes import RefusedClasses
from tests.planned_job import planned_job

NOW = 1000.0
RETRY = RetryPolicy(first_s=8, cap_s=60, max_attempts=3)


def peer_at(port: int) -> Peer:
    return Peer(ae_title="PACS", host="127.0.0.1", port=port, connect_timeout_s=2, response_timeout_s=5)


class Delivering:
    """The stage of one destination with one job of three results to deliver, and a clock that the test sets."""

    def __init__(
        self, engine, objects: list[Outgoing], port: int = 1, *, sender=None, commits=False, fallback=True
    ) -> None:
        self.now = NOW
        self.outbox, self.history, self._ledger = Outbox(engine), History(engine), Ledger(engine)
        self.refused, self._intake = RefusedClasses(engine), Intake(engine)
        self._jobs = 0
        self.open_job(objects)
        self.stage = DeliverStage(
            "pacs",
            send=sender or partial(send, peer_at(port), calling_ae_title="ICHNODE"),
            commits=commits,
            fallback=self.fallback() if fallback else None,
            outbox=self.outbox,
            history=self.history,
            metrics=Metrics(sources=[], count_jobs=dict),
            retry=RETRY,
            clock=lambda: self.now,
            monotonic=lambda: self.now,
        )

    def open_job(self, objects: list[Outgoing]) -> None:
        """A job of a study of its own, with results to deliver; `job_id` from now on."""
        self._jobs += 1
        self._receive_and_decide(str(self._jobs))
        job = self._ledger.claim(at=self.now)
        self.job_id = job.id
        files = [
            ResultFile(
                role="summary_page" if o.sop_class_uid == SecondaryCaptureImageStorage else f"role {number}",
                sop_instance_uid=o.sop_instance_uid,
                sop_class_uid=o.sop_class_uid,
                series_instance_uid=f"4.{number}",
                file=o.file,
            )
            for number, o in enumerate(objects)
        ]
        self._ledger.finish_analysis(job, files, findings={}, seconds={}, at=self.now)

    def fallback(self) -> Fallback:
        return Fallback(
            "pacs", outbox=self.outbox, refused=self.refused, offer_again_s=7 * 86_400, clock=lambda: self.now
        )

    def _receive_and_decide(self, study: str) -> None:
        instance = Instance(
            sop_instance_uid=f"{study}.1.1",
            sop_class_uid=CTImageStorage,
            series_instance_uid=f"{study}.1",
            study_instance_uid=study,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            file=f"/{study}",
            header={},
            association_id=self._intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=self.now),
            received_at=self.now,
        )
        self._intake.keep(instance, sha256="a", size_bytes=10)
        (waiting,) = self._intake.waiting_studies()
        planned = planned_job(f"{study}.1")
        self._ledger.record_decisions(
            study,
            [planned],
            last_instance_id=waiting.last_instance_id,
            last_received_at=self.now,
            evidence="quiet",
            at=self.now,
        )

    def job_state(self) -> JobState:
        return self.history.job(self.job_id).state

    def deliveries(self) -> list[tuple[str, int]]:
        return [(d.state, d.attempts) for d in self.outbox.of_job(self.job_id)]
