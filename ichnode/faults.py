"""Faults: named points at which a test ends, stops or breaks the process. Everywhere else `point` does nothing.

`ICHNODE_FAULT=POINT[@ABOUT]:ACTION[:NTH]`, looked at once, arms one point of this process and its children for its NTH
passing (ABOUT: of the instance or study with this UID, where the point says it). It counts only beside
ICHNODE_TESTING=1, and `ichnode serve` refuses to start with it alone.
"""

import logging
import multiprocessing
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from ichnode.errors import ConfigError

log = logging.getLogger(__name__)

POINTS: Final[Mapping[str, str]] = {  # in the order in which a study passes them
    "models_loading": "the bundles are loaded, and nothing is ready yet; in the child",
    "data_set_half_written": "one fragment of a data set is in its file",
    "file_renamed": "a file has its final name, and is not on the disk",
    "file_synced": "its content is on the disk, its name is not",
    "file_published": "an instance file is on the disk, and no row names it",
    "instance_committed": "its row is committed, and the sender has no answer",
    "snapshot_written": "a snapshot is written, and not committed",
    "job_opened": "a job row is written, and not committed",
    "study_decided": "snapshot and jobs are committed, and nobody is woken",
    "job_claimed": "a job is claimed, and its analysis has not begun",
    "mid_inference": "the hematoma is found, and nothing is composed; in the child",
    "result_kept": "one result file of several is on the disk",
    "outbox_filled": "results and deliveries are committed",
    "result_taken": "a destination took a result, and no row says so",
    "delivery_noted": "a delivery is noted; others of its job may be open",
    "job_ending": "the last delivery is written, the end of its job is not; neither is committed",
    "commitment_noted": "a request for commitment is noted, and not sent",
    "commitment_asked": "a request for commitment was answered",
    "study_purged": "the rows of a study are gone, its files are not",
    "files_removed": "the files of a study are gone, and still listed for removal",
}
_ACTIONS = ("kill", "kill_node", "stop", "raise")
_FORM = re.compile(rf"(?P<point>\w+)(@(?P<about>[\w.]+))?:(?P<action>{'|'.join(_ACTIONS)})(:(?P<nth>[1-9]\d*))?")


class Injected(Exception):
    """What the action `raise` raises: an error that nobody foresaw."""


@dataclass(slots=True)
class Fault:
    """One armed point."""

    point: str
    about: str  # "": anything
    action: str
    nth: int
    _passed: int = 0
    _lock: Lock = field(default_factory=Lock)

    def passed(self, point: str, about: str) -> None:
        """Strike, where and when it is due."""
        if point != self.point or self.about not in ("", about):
            return
        with self._lock:
            self._passed += 1
            due = self._passed == self.nth
        if due:
            self._strike()

    def _strike(self) -> None:
        if self.action == "raise":
            raise Injected(self.point)
        if self.action == "kill_node" and (node := multiprocessing.parent_process()) and node.pid:
            os.kill(node.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGSTOP if self.action == "stop" else signal.SIGKILL)


def fault_of(environment: Mapping[str, str]) -> Fault | None:
    """The fault that an environment asks for. Raises ConfigError for one that must not be."""
    wanted = environment.get("ICHNODE_FAULT")
    if not wanted:
        return None
    if environment.get("ICHNODE_TESTING") != "1":
        raise ConfigError(("ICHNODE_FAULT: breaks the node on purpose; it is for tests, with ICHNODE_TESTING=1",))
    form = _FORM.fullmatch(wanted)
    if form is None or form["point"] not in POINTS:
        raise ConfigError((f"ICHNODE_FAULT: {wanted} is not POINT[@ABOUT]:{'|'.join(_ACTIONS)}[:NTH]",))
    return Fault(point=form["point"], about=form["about"] or "", action=form["action"], nth=int(form["nth"] or 1))


def announce() -> None:
    """At the start of a node: say loudly what is armed. Raises ConfigError for a fault that must not be."""
    if fault_of(os.environ):
        log.critical("fault_armed", extra={"detail": os.environ["ICHNODE_FAULT"]})


def _at_import() -> Fault | None:
    try:
        return fault_of(os.environ)
    except ConfigError:
        return None  # nothing is armed; `announce` will say why


_ARMED = _at_import()


def point(name: str, about: str = "") -> None:
    """A point of POINTS is passed, with what `about` names."""
    if _ARMED is not None:
        _ARMED.passed(name, about)
