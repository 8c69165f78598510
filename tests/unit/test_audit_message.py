"""Rows of the audit trail as PS3.15 messages in syslog frames."""

import base64
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ichnode.dicom.audit_message import NOT_DISCLOSED, audit_message
from ichnode.dicom.syslog import frame
from ichnode.domain.audit import AuditEvent, AuditRow

ROW = AuditRow(
    sequence=1,
    at=1_700_000_000.5,
    event=AuditEvent.INSTANCES_RECEIVED,
    who="CT1",
    what={
        "association": 1,
        "peer": "10.0.0.9",
        "ending": "released",
        "studies": {"ab" * 16: {"1.2.3": 30, "1.2.4": 1}},
    },
    outcome="success",
    previous_sha256="0",
    sha256="1",
)
REJECTED = replace(
    ROW,
    event=AuditEvent.ASSOCIATION_REJECTED,
    who="EVIL<&>\x01",
    what={"called_ae_title": "X", "peer": "10.6.6.6", "reason": "not admitted", "times": 3, "left_out": 0},
    outcome="failure",
)


def parsed(row):
    return ElementTree.fromstring(audit_message(row, ae_title="ICHNODE"))


def codes(message, path):
    return [(c.get("csd-code"), c.get("codeSystemName")) for c in message.findall(path)]


@pytest.mark.parametrize(
    ("row", "event", "kind", "action", "outcome"),
    [
        (replace(ROW, event=AuditEvent.APPLICATION_STARTED), "110100", "110120", "E", "0"),
        (replace(ROW, event=AuditEvent.APPLICATION_STOPPED), "110100", "110121", "E", "0"),
        (replace(ROW, event=AuditEvent.AUDIT_READ), "110101", None, "R", "0"),
        (ROW, "110104", None, "C", "0"),
        (replace(ROW, outcome="failure"), "110104", None, "C", "4"),
        (replace(ROW, event=AuditEvent.STUDY_PURGED, what={"study": "cd"}), "110105", None, "D", "0"),
        (replace(ROW, event=AuditEvent.RESULTS_VIEWED, what={"study": "cd", "job": 1}), "110103", None, "R", "0"),
        (REJECTED, "110113", "110126", "E", "4"),
    ],
)
def test_each_event_has_its_codes(row, event, kind, action, outcome):
    message = parsed(row)
    identification = message.find("EventIdentification")
    assert codes(message, "EventIdentification/EventID") == [(event, "DCM")]
    assert codes(message, "EventIdentification/EventTypeCode") == ([(kind, "DCM")] if kind else [])
    assert (identification.get("EventActionCode"), identification.get("EventOutcomeIndicator")) == (action, outcome)
    assert identification.get("EventDateTime") == "2023-11-14T22:13:20.500+00:00"
    assert message.find("AuditSourceIdentification").get("AuditSourceID") == "ICHNODE"
    order = [child.tag for child in message]
    assert order == sorted(order, key=["EventIdentification", "ActiveParticipant", "AuditSourceIdentification",
                                       "ParticipantObjectIdentification"].index)  # fmt: skip


def test_received_instances_name_source_destination_and_what_came_by_pseudonym():
    message = parsed(ROW)
    source, destination = message.findall("ActiveParticipant")
    assert (source.get("UserID"), source.get("AlternativeUserID")) == ("CT1", "AETITLES=CT1")
    assert (source.get("NetworkAccessPointID"), source.get("NetworkAccessPointTypeCode")) == ("10.0.0.9", "2")
    assert codes(message, "ActiveParticipant/RoleIDCode") == [("110153", "DCM"), ("110152", "DCM")]
    assert destination.get("UserID") == "ICHNODE"
    study, patient = message.findall("ParticipantObjectIdentification")
    assert (study.get("ParticipantObjectID"), patient.get("ParticipantObjectID")) == ("ab" * 16, NOT_DISCLOSED)
    assert {c.get("UID"): c.get("NumberOfInstances") for c in study.iter("SOPClass")} == {"1.2.3": "30", "1.2.4": "1"}


def test_delivered_results_go_from_the_node_to_the_destination():
    what = {"job": 1, "destination": "pacs", "studies": {"cd": {"1.2.5": 2}}}
    message = parsed(replace(ROW, event=AuditEvent.RESULTS_DELIVERED, what=what))
    assert [p.get("UserID") for p in message.findall("ActiveParticipant")] == ["ICHNODE", "pacs"]


def test_whatever_a_stranger_calls_himself_is_text():
    message = parsed(REJECTED)
    assert [p.get("UserID") for p in message.findall("ActiveParticipant")] == ["ICHNODE", "EVIL<&>?"]
    detail = message.find("ParticipantObjectIdentification/ParticipantObjectDetail")
    assert base64.b64decode(detail.get("value")) == b"not admitted; called X; 3 times"


@pytest.mark.parametrize("event", [AuditEvent.JOB_DECIDED, AuditEvent.ASSOCIATION_OPENED, "unheard of"])
def test_other_rows_have_no_message(event):
    assert audit_message(replace(ROW, event=event), ae_title="ICHNODE") is None


def test_an_association_that_brought_nothing_has_no_message():
    assert audit_message(replace(ROW, what={**ROW.what, "studies": {}}), ae_title="ICHNODE") is None


def test_a_frame_begins_with_its_length_and_a_syslog_header():
    xml = audit_message(ROW, ae_title="ICHNODE")
    length, _, message = frame(ROW.at, xml, ae_title="ICH NODE").partition(b" ")
    assert int(length) == len(message)
    head, _, body = message.partition(b"\xef\xbb\xbf")
    fields = head.decode().split(" ")
    assert (fields[0], fields[1]) == ("<85>1", "2023-11-14T22:13:20.500Z")
    assert (fields[3], fields[5], fields[6]) == ("ichnode-ICH_NODE", "DICOM+RFC3881", "-")
    assert body == xml
