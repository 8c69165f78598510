"""Audit messages reach a collector over TLS, in order and none left out, and never make anybody wait."""

import shutil
import time
from itertools import pairwise

import pytest
from sqlalchemy.exc import OperationalError

from ichnode.dicom.syslog import Collector
from ichnode.domain.audit import AuditEvent
from ichnode.metrics import Metrics
from ichnode.stages.report_audit import AuditStage
from ichnode.storage.audit import AuditTrail
from tests.acceptance.peers import free_port
from tests.finished_study import Clinic
from tests.syslog_collector import SyslogCollector, make_certificate

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="makes certificates with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("collector"))


@pytest.fixture
def clinic(engine, tmp_path):
    return Clinic(engine, tmp_path)


class Time:
    """A monotonic clock that tests move."""

    passed = 0.0


@pytest.fixture
def start_auditing(clinic, certificate):
    def start(port=None, **collector):
        options = {"host": "127.0.0.1", "port": port, "ca_file": certificate[0], "timeout_s": 5.0} | collector
        metrics = Metrics(sources=[], count_jobs=dict)
        stage = AuditStage(
            Collector(**options) if port else None,
            trail=AuditTrail(clinic.engine),
            metrics=metrics,
            ae_title="ICHNODE",
            clock=lambda: clinic.now,
            monotonic=lambda: Time.passed,
        )
        stage.metrics = metrics
        return stage

    Time.passed = 0.0
    return start


def unsent(stage):
    return stage.metrics.registry.get_sample_value("ichnode_audit_unsent_rows")


def test_what_happens_to_a_study_reaches_the_collector_once_and_in_order(clinic, certificate, start_auditing):
    clinic.finish()
    with SyslogCollector(*certificate) as collector:
        auditing = start_auditing(collector.port)
        assert auditing.turn() is False
        auditing.turn()
        collector.wait_for(b"AETITLES=CT")
        collector.wait_for(b'UserID="pacs"')
        assert ["110104" in m.decode() for m in collector.messages] == [True, True]
    assert unsent(auditing) == 0


def test_what_a_dead_collector_missed_is_sent_when_it_is_back_also_by_the_next_process(
    clinic, certificate, start_auditing
):
    port = free_port()
    clinic.finish("1")
    auditing = start_auditing(port)
    assert auditing.turn() is False
    assert unsent(auditing) == 5
    clinic.finish("2")
    with SyslogCollector(*certificate, port=port) as collector:
        start_auditing(port).turn()
        collector.wait_for(b'UserID="pacs"')
        assert len(collector.messages) == 4


def test_a_dead_collector_is_asked_less_and_less_often(clinic, start_auditing, monkeypatch):
    asked = []

    def dead(*_, **__):
        asked.append(Time.passed)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("ichnode.stages.report_audit.send_syslog", dead)
    clinic.finish()
    auditing = start_auditing(1)
    for second in range(200):
        Time.passed = float(second)
        auditing.turn()
    gaps = [b - a for a, b in pairwise(asked)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_collector_with_a_certificate_that_nobody_vouches_for_gets_nothing(
    clinic, certificate, start_auditing, tmp_path
):
    clinic.finish()
    stranger = make_certificate(tmp_path, "stranger")
    with SyslogCollector(*stranger) as collector:
        auditing = start_auditing(collector.port)
        auditing.turn()
        assert (collector.messages, unsent(auditing)) == ([], 5)


def test_a_collector_that_wants_to_know_the_node_sees_its_certificate(clinic, certificate, start_auditing, tmp_path):
    clinic.finish()
    mine, key = make_certificate(tmp_path, "node")
    with SyslogCollector(*certificate, clients=mine) as collector:
        start_auditing(collector.port, cert_file=mine, key_file=key).turn()
        collector.wait_for(b'UserID="pacs"')


def test_a_rejected_association_is_told_and_does_not_wait(clinic, certificate, start_auditing):
    with SyslogCollector(*certificate) as collector:
        auditing = start_auditing(collector.port)
        with clinic.engine.begin():  # somebody holds the ledger
            began = time.monotonic()
            auditing.association_rejected(calling_ae_title="X", called_ae_title="Y", peer="10.6.6.6", reason="unknown")
            assert time.monotonic() - began < 0.1
        auditing.turn()
        assert b"110113" in collector.wait_for(b"10.6.6.6")


def test_what_the_ledger_could_not_take_is_written_when_it_can(clinic, start_auditing, monkeypatch):
    def full(*_, **__):
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    auditing = start_auditing()
    with monkeypatch.context() as patched:
        patched.setattr(AuditTrail, "append", full)
        auditing.tell(AuditEvent.APPLICATION_STARTED, {})
        auditing.association_rejected(calling_ae_title="X", called_ae_title="Y", peer="10.6.6.6", reason="unknown")
        with pytest.raises(OperationalError):
            auditing.turn()
    auditing.turn()
    assert [row.event for row in AuditTrail(clinic.engine).rows()] == ["application_started", "association_rejected"]


def test_a_flood_of_rejections_is_a_few_rows(clinic, start_auditing):
    auditing = start_auditing()
    for number in range(5000):
        auditing.association_rejected(
            calling_ae_title=f"X{number % 50}", called_ae_title="Y", peer="10.6.6.6", reason="unknown"
        )
        auditing.turn()
    Time.passed = 1.0
    auditing.turn()
    rows = list(AuditTrail(clinic.engine).rows())
    assert len(rows) == 21
    assert sum(row.what["times"] + row.what["left_out"] for row in rows) == 5000
