"""JobState, the table of transitions between states, and when a failed attempt is tried again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_ATTEMPTS = 3  # a job that fails, or kills its worker, this often is parked
MAX_INTERRUPTIONS = 20  # a job that is interrupted this often, as the node ended or its disk failed, is parked, too


class JobState(StrEnum):
    """Where one series of one snapshot stands."""

    IGNORED = "ignored"  # decided: not analysed, and nothing to report
    READY = "ready"  # waits for the worker
    ANALYSING = "analysing"  # with the worker
    REFUSED = "refused"  # a gate says that it is not what the models read
    DELIVERING = "delivering"  # results are composed; the outbox is not empty
    DONE = "done"  # every destination took every result
    FAILED = "failed"  # parked: an error, or a destination that will not take a result; `jobs retry` revives it
    SUPERSEDED = "superseded"  # a later snapshot of the study replaced it before it was done
    DROPPED = "dropped"  # a person ended it


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.IGNORED: frozenset(),
    JobState.READY: frozenset({JobState.ANALYSING, JobState.SUPERSEDED, JobState.DROPPED}),
    JobState.ANALYSING: frozenset(
        {
            JobState.READY,
            JobState.REFUSED,
            JobState.DELIVERING,
            JobState.DONE,
            JobState.FAILED,
            JobState.SUPERSEDED,
            JobState.DROPPED,
        }
    ),
    JobState.REFUSED: frozenset({JobState.READY}),
    JobState.DELIVERING: frozenset({JobState.DONE, JobState.FAILED, JobState.SUPERSEDED, JobState.DROPPED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset({JobState.READY, JobState.DELIVERING, JobState.SUPERSEDED, JobState.DROPPED}),
    JobState.SUPERSEDED: frozenset(),
    JobState.DROPPED: frozenset({JobState.READY, JobState.DELIVERING}),
}

ON_THE_WAY = (JobState.READY, JobState.ANALYSING, JobState.DELIVERING)
UNFINISHED = frozenset({*ON_THE_WAY, JobState.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One series of one snapshot under one rule."""

    id: int
    study_instance_uid: str
    series_instance_uid: str
    state: JobState
    decision: str  # "analyse" or "ignore"
    reason: str  # why it is where it is: the outcome where it is no plain success, else the decision's reason
    detail: str
    decision_reason: str  # a domain.reasons.Reason
    decision_detail: str
    rule: str | None
    run: tuple[str, ...]
    send_to: tuple[str, ...]
    priority: str
    report_ignored: bool
    evidence: str
    snapshot_id: int
    supersedes: int | None  # the job whose results this one replaces
    attempts: int
    created_at: float
    updated_at: float
    findings: Mapping[str, Any] | None = field(default=None)
    claim: int = 0  # the number of the claim under which it is worked on


def retry_delay_s(attempt: int, *, first_s: float, cap_s: float, jitter: float) -> float:
    """Seconds before the next attempt: doubling from `first_s`, capped; `jitter` in 0-1 takes off up to half.

    >>> retry_delay_s(1, first_s=2, cap_s=300, jitter=0)
    2.0
    >>> retry_delay_s(12, first_s=2, cap_s=300, jitter=1)
    150.0
    """
    return float(min(cap_s, first_s * 2 ** min(attempt - 1, 30))) * (1 - jitter / 2)
