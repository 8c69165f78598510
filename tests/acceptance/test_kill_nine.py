"""`ichnode serve` killed with SIGKILL while studies arrive: nothing acknowledged is lost, nothing is doubled."""

import random
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ichnode.phantom import REGULAR
from tests.acceptance.scanner import Scanner, data_set_of, scan
from tests.acceptance.serve import Serve
from tests.pacs import Pacs

pytestmark = pytest.mark.acceptance
KILLS = 10
STUDIES = 8
SMALL = replace(REGULAR, rows=64, columns=64)
_pause = threading.Event()


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """What a scanner sends."""
    folder = tmp_path_factory.mktemp("studies")
    return [scan(folder, seed=seed, geometry=SMALL) for seed in range(100, 100 + STUDIES)]


def test_ten_kills_lose_no_acknowledged_instance_and_each_series_gets_exactly_one_result(studies, tmp_path):
    rng = random.Random(9)
    sections = {
        "completeness": {"quiet_s": 4},
        "delivery": {"first_retry_s": 0.5, "max_retry_s": 2},
        "rules": [{"name": "head-ct", "run": ["hematoma"]}],
        "inference": {"hematoma_bundle": "hematoma-baseline"},  # at home in phantoms
    }
    with Pacs() as pacs, Serve(tmp_path, **sections) as serve:
        serve.add_destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        serve.start()
        scanner = Scanner(serve.dicom_port)

        def send_all():
            for study in studies:
                scanner.send_until_acknowledged(study)

        sender = threading.Thread(target=send_all)
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
        rows = dict(serve.ask("SELECT sop_instance_uid, file FROM instances"))
    instances = [instance for study in studies for instance in study.instances]
    assert scanner.acknowledged == {i.sop_instance_uid for i in instances}
    assert scanner.acknowledged <= set(rows)
    for instance in instances:
        kept, sent = Path(rows[instance.sop_instance_uid]), Path(instance.file)
        assert data_set_of(kept.read_bytes()) == data_set_of(sent.read_bytes())
    assert not list((tmp_path / "data").rglob("*.part"))
    series_of_study = [
        {d.SeriesInstanceUID for d in pacs.taken if d.StudyInstanceUID == study.study_instance_uid} for study in studies
    ]
    assert {len(series) for series in series_of_study} == {4}  # one SEG, two reports, one page: no second set
