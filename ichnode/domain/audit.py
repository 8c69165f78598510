"""AuditRow: one thing that happened, chained to the one before by its hash, without anything about a patient.

Studies are named by `pseudonym`: who has a Study Instance UID finds its rows, and nobody finds the UID from the rows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

BEFORE_THE_FIRST = "0" * 64  # stands for the hash of the row before the first


class AuditEvent(StrEnum):
    """What can happen."""

    APPLICATION_STARTED = "application_started"
    APPLICATION_STOPPED = "application_stopped"
    ASSOCIATION_OPENED = "association_opened"  # with the first C-STORE
    ASSOCIATION_REJECTED = "association_rejected"
    INSTANCES_RECEIVED = "instances_received"  # over one association, when it ended
    JOB_DECIDED = "job_decided"
    JOB_ENDED = "job_ended"
    JOB_REVIVED = "job_revived"  # by a person
    JOB_RAISED = "job_raised"  # to STAT, by a person
    DESTINATION_RETRIED = "destination_retried"  # what waits for it is due at once, by a person
    RESULTS_DELIVERED = "results_delivered"  # of one job to one destination
    STUDY_PURGED = "study_purged"
    AUDIT_READ = "audit_read"
    LOGGED_IN = "logged_in"
    RESULTS_VIEWED = "results_viewed"  # the review page of a job was opened
    JUDGED = "judged"


class AuditOutcome(StrEnum):
    """How it went."""

    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One row of the trail."""

    sequence: int  # 1, 2, 3, ... without a gap
    at: float  # seconds since the epoch
    event: str  # an AuditEvent
    who: str  # AE title, user, or the node's own part
    what: Mapping[str, Any]  # plain JSON values
    outcome: str  # an AuditOutcome
    previous_sha256: str
    sha256: str

    @property
    def expected_sha256(self) -> str:
        """What the hash must be for what the row says and the row that it follows."""
        said = [self.sequence, self.at, self.event, self.who, self.what, self.outcome]
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(f"{self.previous_sha256}\n{canonical}".encode()).hexdigest()


def pseudonym(uid: str) -> str:
    """A name for a UID that does not tell it."""
    return hashlib.sha256(uid.encode()).hexdigest()[:32]
