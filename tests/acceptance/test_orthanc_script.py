"""The script in deploy/orthanc, in Orthanc: what has come in is sent on, and what ichnode made is not."""

from pathlib import Path

import pytest

from tests.acceptance.orthanc import Orthanc
from tests.pacs import Pacs
from tests.series_factory import altered, phantom_datasets

pytestmark = pytest.mark.acceptance
SCRIPT = Path(__file__).parents[2] / "deploy" / "orthanc" / "send-to-ichnode.lua"


def test_a_ct_series_is_sent_to_ichnode_and_its_own_series_is_not(tmp_path):
    head = phantom_datasets()[:2]
    made = [
        altered(
            dataset,
            SeriesInstanceUID=f"{dataset.SeriesInstanceUID}.1",
            SOPInstanceUID=f"{dataset.SOPInstanceUID}.1",
            SeriesDescription="AI RESEARCH: Predicted 24h CT",
        )
        for dataset in head
    ]
    for dataset in made:
        dataset.file_meta = head[0].file_meta
    with Pacs(ae_title="ichnode") as node:
        options = {"LuaScripts": [str(SCRIPT)], "StableAge": 1}
        with Orthanc(tmp_path / "orthanc", known={"ichnode": node.port}, **options) as orthanc:
            for number, dataset in enumerate([*made, *head]):  # what must not come has its turn first
                dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
                orthanc.post_file(tmp_path / f"{number}.dcm")
            taken = node.wait_for(len(head), timeout_s=30)
    assert {d.SOPInstanceUID for d in taken} == {d.SOPInstanceUID for d in head}
