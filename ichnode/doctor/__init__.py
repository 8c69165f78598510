"""`ichnode doctor`: is this installation all right, and what is to be done where it is not? One line a check.

It sends no patient data and stores nothing anywhere: destinations get C-ECHO and a negotiation, DICOMweb services
OPTIONS, the running node C-ECHO and /readyz.
"""

import time
from collections.abc import Iterator

from ichnode.config import DicomDestination, Settings
from ichnode.doctor.certificates import check_certificates
from ichnode.doctor.check import Check, Level
from ichnode.doctor.database import look_at_database
from ichnode.doctor.installation import check_bundles, check_clock, check_configuration, check_device, check_disk
from ichnode.doctor.network import (
    check_audit_collector,
    check_dicom_destination,
    check_dicom_port,
    check_web_destination,
    check_web_port,
)

__all__ = ["Check", "Level", "examine"]


def examine(settings: Settings, *, now: float | None = None) -> Iterator[Check]:
    """Every check in turn; `now`, seconds since the epoch, is the clock's time otherwise."""
    now = time.time() if now is None else now
    yield from check_configuration(settings)
    yield check_dicom_port(settings)
    yield check_web_port(settings)
    for destination in settings.destinations:
        if isinstance(destination, DicomDestination):
            yield from check_dicom_destination(settings, destination, now=now)
        else:
            yield from check_web_destination(destination, now=now)
    yield from check_audit_collector(settings)
    yield from check_certificates(settings, now=now)
    yield check_disk(settings)
    database = look_at_database(settings)
    yield database.check
    yield check_clock(now=now, newest_at=database.newest_at)
    yield check_device(settings)
    yield from check_bundles(settings)
