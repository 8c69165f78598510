"""Results on their way: one job with results to deliver in a real ledger, the stage that delivers them, and a clock."""

from functools import partial

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.domain.job import JobState
from ichnode.domain.study import Instance
from ichnode.metrics import Metrics
from ichnode.stages.deliver import DeliverStage, RetryPolicy
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger, PlannedJob
from ichnode.storage.outbox import Outbox

NOW = 1000.0
RETRY = RetryPolicy(first_s=8, cap_s=60, max_attempts=3)


def peer_at(port: int) -> Peer:
    return Peer(ae_title="PACS", host="127.0.0.1", port=port, connect_timeout_s=2, response_timeout_s=5)


class Delivering:
    """The stage of one destination with one job of three results to deliver, and a clock that the test sets."""

    def __init__(self, engine, objects: list[Outgoing], port: int = 1, *, sender=None, commits=False) -> None:
        self.now = NOW
        self.outbox, self.history, self._ledger = Outbox(engine), History(engine), Ledger(engine)
        self._receive_and_decide(Intake(engine))
        job = self._ledger.claim(at=NOW)
        self.job_id = job.id
        files = [
            ResultFile(
                role=f"role {number}",
                sop_instance_uid=o.sop_instance_uid,
                sop_class_uid=o.sop_class_uid,
                series_instance_uid=f"4.{number}",
                file=o.file,
            )
            for number, o in enumerate(objects)
        ]
        self._ledger.finish_analysis(job, files, findings={}, seconds={}, at=NOW)
        self.stage = DeliverStage(
            "pacs",
            send=sender or partial(send, peer_at(port), calling_ae_title="ICHNODE"),
            commits=commits,
            outbox=self.outbox,
            history=self.history,
            metrics=Metrics(sources=[], count_jobs=dict),
            retry=RETRY,
            clock=lambda: self.now,
        )

    def _receive_and_decide(self, intake: Intake) -> None:
        instance = Instance(
            sop_instance_uid="1.1.1",
            sop_class_uid=CTImageStorage,
            series_instance_uid="1.1",
            study_instance_uid="1",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            file="/1",
            header={},
            association_id=intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=NOW),
            received_at=NOW,
        )
        intake.keep(instance, sha256="a", size_bytes=10)
        (waiting,) = intake.waiting_studies()
        planned = PlannedJob(
            series_instance_uid="1.1",
            state=JobState.READY,
            decision="analyse",
            reason="chosen",
            detail="",
            rule="r",
            run=("hematoma",),
            send_to=("pacs",),
            priority="routine",
            report_ignored=False,
            input_sha256="x",
        )
        self._ledger.record_decisions(
            "1",
            [planned],
            last_instance_id=waiting.last_instance_id,
            last_received_at=NOW,
            evidence="quiet",
            at=NOW,
        )

    def job_state(self) -> JobState:
        return self.history.job(self.job_id).state

    def deliveries(self) -> list[tuple[str, int]]:
        return [(d.state, d.attempts) for d in self.outbox.of_job(self.job_id)]
