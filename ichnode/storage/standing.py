"""Standing: whether the findings of a job still count, by what people said of them. Reads only."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from ichnode.domain.judgement import Verdict
from ichnode.storage.schema import judgements, withdrawals


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What was said last of a job's results, and whether they were withdrawn, which no later word takes back."""

    verdict: Verdict
    withdrawn: bool

    @property
    def counts(self) -> bool:
        """Whether the findings are findings still."""
        return self.verdict is Verdict.ACCEPTED and not self.withdrawn

    @property
    def words(self) -> str:
        """For people.

        >>> Standing(verdict=Verdict.ACCEPTED, withdrawn=True).words
        'withdrawn, then accepted'
        """
        if not self.withdrawn:
            return self.verdict.value
        return "rejected and withdrawn" if self.verdict is Verdict.REJECTED else "withdrawn, then accepted"


def read_standings(db: Connection, job_ids: Select[Any]) -> dict[int, Standing]:
    """Of those among the jobs that were judged; in one query, as the transaction of `db` sees them."""
    newest = select(func.max(judgements.c.id)).where(judgements.c.job_id.in_(job_ids)).group_by(judgements.c.job_id)
    query = (
        select(judgements.c.job_id, judgements.c.verdict, withdrawals.c.job_id.is_not(None).label("withdrawn"))
        .outerjoin(withdrawals, withdrawals.c.job_id == judgements.c.job_id)
        .where(judgements.c.id.in_(newest))
    )
    return {
        job_id: Standing(verdict=Verdict(verdict), withdrawn=bool(withdrawn))
        for job_id, verdict, withdrawn in db.execute(query)
    }
