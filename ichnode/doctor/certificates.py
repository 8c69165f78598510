"""Certificates: when ours, those that we trust, and those that destinations show, expire."""

import time
from collections.abc import Iterator
from pathlib import Path

from ichnode.config import Settings
from ichnode.dicom.tls import client_context, expires_at
from ichnode.doctor.check import Check, failure, ok, warning
from ichnode.errors import ConfigError
from ichnode.peers import tls_files

SOON_DAYS = 21  # as the alert rules of deploy/ say it


def check_certificates(settings: Settings, *, now: float) -> Iterator[Check]:
    """Files of [tls], of [audit] and of STOW destinations."""
    for key, file in settings.certificate_files.items():
        yield _of_file(f"certificate {key}", file, now)
    if (tls := tls_files(settings)) is not None:
        try:
            client_context(tls)
        except ConfigError as problem:
            yield failure("certificate tls.key", str(problem), "the key must be that of tls.certificate, unencrypted")


def _of_file(name: str, file: Path, now: float) -> Check:
    try:
        return of_time(name, str(file), expires_at(file), now)
    except ConfigError as problem:
        return failure(name, str(problem), "it must be a PEM file that the user of the service can read")


def of_time(name: str, what: str, at: float, now: float) -> Check:
    """What `at`, seconds since the epoch, means for a certificate."""
    days, day = (at - now) / 86_400, time.strftime("%Y-%m-%d", time.gmtime(at))
    if days < 0:
        return failure(name, f"{what} expired on {day}", "renew it, then restart ichnode")
    if days < SOON_DAYS:
        return warning(name, f"{what} expires on {day}, in {days:.0f} days", "renew it, then restart ichnode")
    return ok(name, f"{what} is good until {day}, {days:.0f} days")
