"""Purge: studies that are finished and old enough leave, one a turn; by age, or when the disk runs low.

What may go is decided by `storage.retention`; here is when. Without a limit nothing ever goes.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ichnode.faults import point
from ichnode.metrics import Metrics
from ichnode.storage.files import sync_folder
from ichnode.storage.retention import Retention

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """When a finished study leaves."""

    keep_s: float | None  # this long after its last instance; None: age is no reason
    free_bytes: int | None  # with less than this free on the disk, the oldest; None: space is no reason
    at_least_s: float  # but lack of space takes nothing younger than this


class PurgeStage:
    """One study a turn."""

    def __init__(
        self,
        policy: RetentionPolicy,
        *,
        retention: Retention,
        metrics: Metrics,
        free_bytes: Callable[[], int],
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._retention = retention
        self._metrics = metrics
        self._free_bytes = free_bytes
        self._clock = clock
        self._monotonic = monotonic
        self._began = clock() - monotonic()
        self._short = False  # of space, with nothing that may go

    def turn(self) -> bool:
        """Purge the study that is due; whether there was one."""
        self.remove_discarded()
        return self._by_age() or self._by_space()

    def remove_discarded(self) -> None:
        """Remove the files that no row needs any more, also those that a killed process was about to remove."""
        removed = []
        for file in map(Path, self._retention.discarded()):
            try:
                file.unlink(missing_ok=True)
            except OSError as problem:
                log.warning("file_not_removed", extra={"detail": f"{file.name}: {problem.strerror}"})
            else:
                removed.append(file)
        if removed:
            for folder in {file.parent for file in removed}:
                if folder.exists():
                    sync_folder(folder)
            point("files_removed")
            self._retention.forget([str(file) for file in removed])

    def _by_age(self) -> bool:
        keep_s = self._policy.keep_s
        return keep_s is not None and self._purge("age", received_before=self._now() - keep_s)

    def _by_space(self) -> bool:
        wanted = self._policy.free_bytes
        if wanted is None or self._free_bytes() >= wanted:
            self._short = False
            return False
        purged = self._purge("space", received_before=self._now() - self._policy.at_least_s)
        if not purged and not self._short:
            log.warning("nothing_to_purge", extra={"detail": "the disk runs low, but no finished study is old enough"})
        self._short = not purged
        return purged

    def _now(self) -> float:
        """The clock, or where it would be without the steps forward since the start: those make nothing older."""
        return min(self._clock(), self._began + self._monotonic())

    def _purge(self, reason: str, *, received_before: float) -> bool:
        study = self._retention.oldest(received_before=received_before)
        if study is None:
            return False
        purge = self._retention.purge(study, reason=reason, received_before=received_before, at=self._clock())
        if purge is None:
            return False  # something of it came in meanwhile
        point("study_purged", study)
        self._metrics.purged_studies.labels(reason).inc()
        self._metrics.purged_bytes.inc(purge.size_bytes)
        self._metrics.store_bytes.dec(purge.instance_bytes)
        detail = f"{purge.results} results, {purge.size_bytes} bytes"
        extra = {"study_instance_uid": study, "reason": reason, "count": purge.instances, "detail": detail}
        log.info("study_purged", extra=extra)
        self.remove_discarded()
        return True
