"""A store in which studies come in, are analysed and delivered, without pixels, models or sockets."""

from ichnode.domain.study import Instance
from ichnode.storage.files import FileStore
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.storage.ledger import Ledger
from ichnode.storage.outbox import Outbox
from tests.planned_job import planned_job


class Clinic:
    """Real SQLite and real files; `now` is the clock of everything."""

    def __init__(self, engine, folder) -> None:
        self.engine, self.now = engine, 1000.0
        self.intake, self.ledger = Intake(engine), Ledger(engine)
        self.outbox, self.history = Outbox(engine), History(engine)
        self.store, self.results = FileStore(folder / "instances"), FileStore(folder / "results")

    def receive(self, study="1", *numbers, series=None, sha256="a"):
        """Instances `numbers` of a series of the study, over one released association; what became of the last."""
        association = self.intake.open_association(calling_ae_title="CT", peer="127.0.0.1", at=self.now)
        for number in numbers or (1, 2):
            uid = f"{series or study + '.1'}.{number}"
            instance = Instance(
                sop_instance_uid=uid,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                series_instance_uid=series or f"{study}.1",
                study_instance_uid=study,
                transfer_syntax_uid="1.2.840.10008.1.2",
                file=str(self.store.keep([b"head", uid.encode()])),
                header={"PatientID": "P", "DataSetOffset": 4},
                association_id=association,
                received_at=self.now,
            )
            kept = self.intake.keep(instance, sha256=sha256, size_bytes=len(uid))
        self.intake.close_association(association, ending="released", at=self.now)
        return kept

    def decide(self, study="1", **plan):
        """One job for the first series of the waiting study; the plans that became jobs."""
        waiting = next(w for w in self.intake.waiting_studies() if w.study_instance_uid == study)
        return self.ledger.record_decisions(
            study,
            [planned_job(**{"series_instance_uid": f"{study}.1"} | plan)],
            last_instance_id=waiting.last_instance_id,
            last_received_at=self.now,
            evidence="quiet",
            at=self.now,
        )

    def analyse(self, *, findings=None, content=b"result"):
        """The next job, its one result written and in the outbox."""
        job = self.ledger.claim(at=self.now)
        file = self.results.keep([content])
        result = ResultFile(
            role="summary_page",
            sop_instance_uid=f"2.{job.id}",
            sop_class_uid="3",
            series_instance_uid="4",
            file=str(file),
            size_bytes=len(content),
        )
        self.ledger.finish_analysis(job, [result], findings=findings, seconds={}, at=self.now)
        return self.history.job(job.id)

    def deliver(self):
        for delivery in self.outbox.due("pacs", at=self.now):
            self.outbox.delivered(delivery, status=0, at=self.now)

    def finish(self, study="1"):
        """A study from the scanner to the PACS; its job."""
        self.receive(study)
        self.decide(study)
        job = self.analyse()
        self.deliver()
        return self.history.job(job.id)

    def files(self):
        """How many files of instances and of results there are."""
        return tuple(sum(f.is_file() for f in s.folder.rglob("*")) for s in (self.store, self.results))
