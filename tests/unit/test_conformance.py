"""docs/conformance.md says what the code does."""

from pathlib import Path

from ichnode.dicom.contexts import ANALYSED, KEPT_DOCUMENTS, KEPT_IMAGES, accepted_contexts
from ichnode.dicom.statuses import DimseStatus, EventReportStatus, Verdict, verdict

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text("utf-8")


def test_every_accepted_sop_class_and_no_other_is_in_the_document():
    rows = [line for line in TEXT.splitlines() if "Storage" in line and line.startswith("|")]
    named = {name.strip() for row in rows for name in row.split("|")[1].split(",")}
    accepted = {sop_class.name for sop_class in (*ANALYSED, *KEPT_IMAGES, *KEPT_DOCUMENTS)}
    assert named == accepted
    assert len(accepted_contexts()) == len(accepted) + 1


def test_every_status_that_is_answered_is_in_the_document():
    assert all(f"0x{status:04X}" in TEXT for status in [*DimseStatus, *EventReportStatus])


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
