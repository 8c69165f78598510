"""Audit messages of PS3.15 A.5: what a row of the trail is in the XML that audit repositories read.

- Application Activity (A.5.3.1): start and stop
- Audit Log Used (A.5.3.2)
- DICOM Instances Accessed (A.5.3.6): the review page of a job was opened
- DICOM Instances Transferred (A.5.3.7): received over an association, delivered to a destination
- DICOM Study Deleted (A.5.3.8): purges
- Security Alert (A.5.3.11): rejected associations

Other rows have no message. Studies are named by pseudonym and the patient is not disclosed: the trail knows neither.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from ichnode.domain.audit import AuditEvent, AuditOutcome, AuditRow

NOT_DISCLOSED = "not disclosed"
_APPLICATION, _SOURCE, _DESTINATION = "110150 Application", "110153 Source Role ID", "110152 Destination Role ID"
_SUCCESS, _MINOR_FAILURE = "0", "4"
_IP_ADDRESS = "2"  # NetworkAccessPointTypeCode
_PERSON, _SYSTEM = "1", "2"  # ParticipantObjectTypeCode
_PATIENT, _REPORT, _SECURITY_RESOURCE = "1", "3", "13"  # ParticipantObjectTypeCodeRole


def audit_message(row: AuditRow, *, ae_title: str) -> bytes | None:
    """The AuditMessage of a row, UTF-8; None for events that PS3.15 has no message for. `ae_title` is the node's."""
    build = _BUILDERS.get(row.event)
    nothing_came = row.event == AuditEvent.INSTANCES_RECEIVED and not row.what["studies"]
    return (
        None
        if build is None or nothing_came
        else tostring(build(row, ae_title), encoding="utf-8", xml_declaration=True)
    )


def _application_activity(row: AuditRow, ae_title: str) -> Element:
    started = row.event == AuditEvent.APPLICATION_STARTED
    kind = "110120 Application Start" if started else "110121 Application Stop"
    message = _message(row, "110100 Application Activity", "E", kind)
    _participant(message, ae_title, role=_APPLICATION, requestor=False)
    return _from(message, ae_title)


def _audit_log_used(row: AuditRow, ae_title: str) -> Element:
    message = _message(row, "110101 Audit Log Used", "R")
    _participant(message, row.who, requestor=True)
    _from(message, ae_title)
    log = _object(message, "ichnode:audit", "12 URI", _SYSTEM, _SECURITY_RESOURCE, scheme="RFC-3881")
    SubElement(log, "ParticipantObjectName").text = "Security Audit Log"
    return message


def _received(row: AuditRow, ae_title: str) -> Element:
    message = _message(row, "110104 DICOM Instances Transferred", "C")
    _participant(message, row.who, role=_SOURCE, requestor=True, address=str(row.what["peer"]))
    _participant(message, ae_title, role=_DESTINATION, requestor=False)
    return _studies(_from(message, ae_title), row.what["studies"])


def _viewed(row: AuditRow, ae_title: str) -> Element:
    message = _message(row, "110103 DICOM Instances Accessed", "R")
    _participant(message, row.who, requestor=True)
    return _studies(_from(message, ae_title), {str(row.what["study"]): {}})


def _delivered(row: AuditRow, ae_title: str) -> Element:
    message = _message(row, "110104 DICOM Instances Transferred", "C")
    _participant(message, ae_title, role=_SOURCE, requestor=True)
    _participant(message, str(row.what["destination"]), role=_DESTINATION, requestor=False)
    return _studies(_from(message, ae_title), row.what["studies"])


def _study_deleted(row: AuditRow, ae_title: str) -> Element:
    message = _message(row, "110105 DICOM Study Deleted", "D")
    _participant(message, ae_title, requestor=True)
    return _studies(_from(message, ae_title), {str(row.what["study"]): {}})


def _security_alert(row: AuditRow, ae_title: str) -> Element:
    message = _message(row, "110113 Security Alert", "E", "110126 Node Authentication")
    _participant(message, ae_title, role=_APPLICATION, requestor=False)
    _participant(message, row.who, requestor=True, address=str(row.what["peer"]))
    _from(message, ae_title)
    subject = _object(message, str(row.what["peer"]), "110182 Node ID", _SYSTEM, _SECURITY_RESOURCE)
    said = f"{row.what['reason']}; called {row.what['called_ae_title']}; {row.what['times']} times"
    value = base64.b64encode(said.encode()).decode()
    SubElement(subject, "ParticipantObjectDetail", {"type": "Alert Description", "value": value})
    return message


_BUILDERS: Mapping[str, Callable[[AuditRow, str], Element]] = {
    AuditEvent.APPLICATION_STARTED: _application_activity,
    AuditEvent.APPLICATION_STOPPED: _application_activity,
    AuditEvent.AUDIT_READ: _audit_log_used,
    AuditEvent.INSTANCES_RECEIVED: _received,
    AuditEvent.RESULTS_DELIVERED: _delivered,
    AuditEvent.RESULTS_VIEWED: _viewed,
    AuditEvent.STUDY_PURGED: _study_deleted,
    AuditEvent.ASSOCIATION_REJECTED: _security_alert,
}


def _message(row: AuditRow, event: str, action: str, kind: str | None = None) -> Element:
    message = Element("AuditMessage")
    failed = row.outcome != AuditOutcome.SUCCESS
    identification = SubElement(
        message,
        "EventIdentification",
        {
            "EventActionCode": action,
            "EventDateTime": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds"),
            "EventOutcomeIndicator": _MINOR_FAILURE if failed else _SUCCESS,
        },
    )
    _coded(identification, "EventID", event)
    if kind:
        _coded(identification, "EventTypeCode", kind)
    return message


def _participant(
    message: Element, user: str, *, requestor: bool, role: str | None = None, address: str | None = None
) -> None:
    said = {"UserID": _printable(user), "UserIsRequestor": "true" if requestor else "false"}
    if role in (_SOURCE, _DESTINATION, _APPLICATION):
        said["AlternativeUserID"] = f"AETITLES={_printable(user)}"
    if address:
        said |= {"NetworkAccessPointID": _printable(address), "NetworkAccessPointTypeCode": _IP_ADDRESS}
    participant = SubElement(message, "ActiveParticipant", said)
    if role:
        _coded(participant, "RoleIDCode", role)


def _from(message: Element, ae_title: str) -> Element:
    source = SubElement(message, "AuditSourceIdentification", {"AuditSourceID": ae_title})
    SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    return message


def _studies(message: Element, studies: Mapping[str, Mapping[str, Any]]) -> Element:
    for study, sop_classes in studies.items():
        participant = _object(message, study, "110180 Study Instance UID", _SYSTEM, _REPORT)
        if sop_classes:
            description = SubElement(participant, "ParticipantObjectDescription")
            for uid, count in sop_classes.items():
                SubElement(description, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})
    _object(message, NOT_DISCLOSED, "2 Patient Number", _PERSON, _PATIENT, scheme="RFC-3881")
    return message


def _object(message: Element, name: str, kind: str, code: str, role: str, *, scheme: str = "DCM") -> Element:
    said = {
        "ParticipantObjectID": _printable(name),
        "ParticipantObjectTypeCode": code,
        "ParticipantObjectTypeCodeRole": role,
    }
    participant = SubElement(message, "ParticipantObjectIdentification", said)
    _coded(participant, "ParticipantObjectIDTypeCode", kind, scheme)
    return participant


def _coded(parent: Element, element: str, code: str, scheme: str = "DCM") -> None:
    value, _, meaning = code.partition(" ")
    SubElement(parent, element, {"csd-code": value, "codeSystemName": scheme, "originalText": meaning})


def _printable(received: str) -> str:
    """Text that XML can carry: what was received may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in received)
