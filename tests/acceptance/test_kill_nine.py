"""`ichnode serve` killed with SIGKILL while studies arrive: nothing acknowledged is lost, nothing is doubled."""

import random
import sqlite3
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.errors import DeliveryError
from ichnode.phantom import REGULAR, head_ct
from tests.acceptance.serve import Serve
from tests.pacs import Pacs

pytestmark = pytest.mark.acceptance
KILLS = 10
STUDIES = 8
SMALL = replace(REGULAR, rows=64, columns=64)
_pause = threading.Event()


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Files to send, by study, as a scanner keeps them until they are acknowledged."""
    folder = tmp_path_factory.mktemp("studies")
    studies = {}
    for seed in range(100, 100 + STUDIES):
        datasets = head_ct(hematoma_ml=30, geometry=SMALL, seed=seed).datasets
        for dataset in datasets:
            dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        studies[datasets[0].StudyInstanceUID] = [
            Outgoing(
                sop_class_uid=d.SOPClassUID,
                sop_instance_uid=d.SOPInstanceUID,
                file=str(folder / f"{d.SOPInstanceUID}.dcm"),
            )
            for d in datasets
        ]
    return studies


def send_until_acknowledged(port, instances, acknowledged):
    """A scanner: sends what is not acknowledged yet, over and over, until everything is."""
    peer = Peer(ae_title="ICHNODE", host="127.0.0.1", port=port, connect_timeout_s=3, response_timeout_s=10)
    while waiting := [i for i in instances if i.sop_instance_uid not in acknowledged]:
        try:
            for instance, outcome in zip(waiting, send(peer, waiting, calling_ae_title="CT"), strict=False):
                if outcome.verdict is Verdict.DELIVERED:
                    acknowledged.add(instance.sop_instance_uid)
        except DeliveryError:
            _pause.wait(0.3)


def test_ten_kills_lose_no_acknowledged_instance_and_each_series_gets_exactly_one_result(studies, tmp_path):
    rng = random.Random(9)
    acknowledged: set[str] = set()
    sections = {
        "completeness": {"quiet_s": 4},
        "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
        "rules": [{"name": "head-ct", "run": ["hematoma"]}],
        "inference": {"hematoma_bundle": "hematoma-baseline"},  # at home in phantoms
    }
    with Pacs() as pacs, Serve(tmp_path, **sections) as serve:
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        serve.start()
        port = serve.dicom_port

        def scanner():
            for instances in studies.values():
                send_until_acknowledged(port, instances, acknowledged)

        sender = threading.Thread(target=scanner)
        sender.start()
        for _ in range(KILLS):
            _pause.wait(rng.uniform(0.3, 5.0))
            serve.kill()
            serve.start()
        sender.join(300)
        assert not sender.is_alive()
        jobs = serve.wait_for_jobs(STUDIES, timeout_s=300)
        assert Counter(job["state"] for job in jobs) == {"done": STUDIES}
        serve.stop()
        with sqlite3.connect(tmp_path / "data" / "ichnode.db") as ledger:
            rows = dict(ledger.execute("SELECT sop_instance_uid, file FROM instances"))
    assert acknowledged == {i.sop_instance_uid for instances in studies.values() for i in instances}
    assert acknowledged <= set(rows)
    for instance in (i for instances in studies.values() for i in instances):
        kept, sent = Path(rows[instance.sop_instance_uid]), Path(instance.file)
        assert kept.read_bytes()[-8192:] == sent.read_bytes()[-8192:]
    assert not list((tmp_path / "data").rglob("*.part"))
    series_of_study = {
        study: {d.SeriesInstanceUID for d in pacs.taken if d.StudyInstanceUID == study} for study in studies
    }
    assert {len(series) for series in series_of_study.values()} == {4}  # one SEG, two reports, one page: no second set
