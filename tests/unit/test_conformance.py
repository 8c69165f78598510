"""The conformance statement is printed by the program, and docs/conformance.md is what it prints as it comes."""

from pathlib import Path

from ichnode.config import load_settings
from ichnode.conformance import statement
from ichnode.dicom.statuses import DimseStatus, EventReportStatus, Verdict, verdict

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


def printed(tmp_path, text=""):
    (tmp_path / "ichnode.toml").write_text(text)
    return statement(load_settings(tmp_path / "ichnode.toml", {}))


def test_the_document_is_what_ichnode_prints(tmp_path):
    assert DOCUMENT.read_text("utf-8") == printed(tmp_path), "ichnode conformance > docs/conformance.md"


def test_every_status_that_is_answered_is_in_it(tmp_path):
    text = printed(tmp_path)
    assert all(f"| 0x{status:04X} |" in text for status in [*DimseStatus, *EventReportStatus])


def test_it_tells_of_the_configuration(tmp_path):
    text = printed(
        tmp_path,
        """
        node = {ae_title = "NEURO", port = 4242}
        results = {followup_sop = "ct", report_sop = "enhanced"}
        sources = [{ae_title = "CT1", host = "10.0.0.0/24"}]
        [[destinations]]
        name = "pacs"
        ae_title = "ARCHIVE"
        host = "10.0.0.5"
        port = 104
        commitment = true
        [[destinations]]
        name = "cloud"
        url = "https://archive.example/dicom-web"
        """,
    )
    for said in (
        "| AE title | NEURO (",
        "| port | 4242 (",
        "| who may send | CT1 from 10.0.0.0/24 |",
        "| pacs | ARCHIVE | 10.0.0.5:104 | no | asked for |",
        "(here: cloud at https://archive.example/dicom-web)",
        "| CT Image Storage | 1.2.840.10008.5.1.4.1.1.2 | AI RESEARCH: Predicted 24h CT (SYNTHETIC) |",
        "| Enhanced SR Storage | 1.2.840.10008.5.1.4.1.1.88.22 | AI RESEARCH: Hematoma measurements; ",
    ):
        assert said in text


def test_answers_of_destinations_are_told_apart():
    assert {s: verdict(s) for s in (0x0000, 0xB000, 0x0111)} == dict.fromkeys(
        (0x0000, 0xB000, 0x0111), Verdict.DELIVERED
    )
    assert {s: verdict(s) for s in (0xA700, 0xA7FF, 0x0110)} == dict.fromkeys(
        (0xA700, 0xA7FF, 0x0110), Verdict.TRANSIENT
    )
    assert {s: verdict(s) for s in (0xA900, 0xC000, 0x0124)} == dict.fromkeys(
        (0xA900, 0xC000, 0x0124), Verdict.PERMANENT
    )
    assert verdict(0x0122) is Verdict.UNSUPPORTED
