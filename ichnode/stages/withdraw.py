"""Withdraw: rejection notes for results that a person rejected, under a rule with `withdraw_rejected = true`.

The person's rejection is a row. This turns it into notes in the outbox, which are then delivered like any result; also
after a kill at any point, and once more for what a destination took while it was being rejected.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from ichnode.domain.findings import ModelIdentity
from ichnode.results.provenance import ResultProfile, RunContext
from ichnode.results.read_back import any_header
from ichnode.results.rejection_note import compose_rejection_note
from ichnode.stages.analyse import discard, discard_unless_committed, keep_composed
from ichnode.stages.analyser import ComposedObject
from ichnode.storage.files import FileStore
from ichnode.storage.history import ResultFile
from ichnode.storage.withdrawals import Taken, Withdrawal, Withdrawals

log = logging.getLogger(__name__)

TRIED_AGAIN_S = 600.0  # where no note could be made: somebody may have brought the result files back


class WithdrawStage:
    """Makes the notes of one job a turn."""

    def __init__(
        self,
        *,
        withdrawals: Withdrawals,
        store: FileStore,
        profile: ResultProfile,
        clock: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._withdrawals = withdrawals
        self._store = store
        self._profile = profile
        self._clock = clock
        self._wake = wake  # the delivering loops
        self._resting: dict[int, float] = {}  # jobs of which no note could be made, and when

    def turn(self) -> bool:
        """Withdraw the results of one job; whether there was one."""
        self._resting = {job: at for job, at in self._resting.items() if self._clock() < at + TRIED_AGAIN_S}
        withdrawal = self._withdrawals.next(without=set(self._resting)) if self._store.has_room() else None
        if withdrawal is None:
            return False
        try:
            composed = [note for taken in withdrawal.taken if (note := self._compose(withdrawal, taken))]
        except Exception:
            self._rests(withdrawal, "it cannot be composed")
            raise
        if len(composed) < len(withdrawal.taken):
            self._rests(withdrawal, "none of its result files can be read")
            return True
        notes: list[ResultFile] = []
        try:
            for note in composed:
                notes.append(keep_composed(note, self._store))
            added = self._withdrawals.add_notes(withdrawal, notes, at=self._clock())
        except BaseException as problem:
            discard_unless_committed(notes, problem)
            raise
        if not added:
            discard(notes)
        elif notes:
            log.info("withdrawn", extra={"job_id": withdrawal.job.id, "count": len(notes)})
            self._wake()
        return True

    def _rests(self, withdrawal: Withdrawal, why: str) -> None:
        """For a while it is not tried again; others go on."""
        self._resting[withdrawal.job.id] = self._clock()
        log.error("not_withdrawn", extra={"job_id": withdrawal.job.id, "detail": f"no rejection note: {why}"})

    def _compose(self, withdrawal: Withdrawal, taken: Taken) -> ComposedObject | None:
        """The note; None where no file of a result can be read."""
        header = any_header(result.file for result in taken.results)
        if header is None:
            return None
        findings = withdrawal.job.findings or {}
        note = compose_rejection_note(
            header,
            [(r.series_instance_uid, r.sop_class_uid, r.sop_instance_uid) for r in taken.results],
            reason=withdrawal.reason,
            destinations=taken.destinations,
            models=(ModelIdentity.as_stored(findings.get("model", {})),),
            profile=self._profile,
            context=RunContext(
                run_at=datetime.fromtimestamp(withdrawal.at), config_sha256="", rule=withdrawal.job.rule or ""
            ),
        )
        return ComposedObject.of(note)
