"""Nodes: which nodes share the ledger, what each does, and which of them live.

Each beats every `BEAT_S`, by the clock of the database, so that no two clocks are compared. Who did not for
`DEAD_AFTER_S` is dead: its claims are taken over. Should it only have been frozen, it finds them gone when it wakes.
When nobody could beat (PostgreSQL was away), nobody is dead: who judges has itself beaten steadily for as long.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, Float, cast, extract, func, literal, select
from sqlalchemy.sql.selectable import Select

from ichnode.storage.dialect import reading, upsert
from ichnode.storage.schema import nodes

BEAT_S = 2.0
DEAD_AFTER_S = 12.0  # a takeover is promised within 30 s
_FORGOTTEN_AFTER_S = 86_400.0
_STEADY_S = 3 * BEAT_S  # no longer between two beats; with it, the rest of a loop after a failure is below DEAD_AFTER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class LivingNode:
    """One node that beats."""

    name: str
    roles: tuple[str, ...]


class Nodes:
    """The nodes of one ledger on PostgreSQL, as the node `name` sees and joins them."""

    def __init__(
        self, engine: Engine, *, name: str, roles: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._name = name
        self._roles = " ".join(sorted(roles))
        self._clock = clock
        self._steady: tuple[float, float] | None = None  # its first and its last beat without a failure or gap between

    def beat(self) -> None:
        """This node lives."""
        values = {"roles": self._roles, "beat_at": _now()}
        row = upsert(nodes).values(name=self._name, **values)
        before, self._steady = self._steady, None
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(row.on_conflict_do_update(index_elements=["name"], set_=values))
        now = self._clock()
        first = before[0] if before and now - before[1] <= _STEADY_S else now
        self._steady = first, now

    def may_judge(self) -> bool:
        """Whether others that do not beat are dead: this node could beat for as long as makes a node dead.

        Else PostgreSQL may have been away, and the beats of all are old.
        """
        steady, now = self._steady, self._clock()
        return steady is not None and now - steady[1] <= _STEADY_S and steady[1] - steady[0] >= DEAD_AFTER_S

    def leave(self) -> None:
        """This node stops: others need not wait for its death."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(nodes.update().where(nodes.c.name == self._name).values(beat_at=0.0))

    def forget_the_gone(self) -> None:
        """Rows of nodes that stopped, or did not beat for a day: replacements may have other names."""
        gone = nodes.c.beat_at < _now() - literal(_FORGOTTEN_AFTER_S)
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(nodes.delete().where(gone))

    def living(self) -> list[LivingNode]:
        """In the order of their names."""
        with reading(self._engine) as db:
            rows = db.execute(select(nodes.c.name, nodes.c.roles).where(_lives()).order_by(nodes.c.name))
            return [LivingNode(name=row.name, roles=tuple(row.roles.split())) for row in rows]

    def leads(self, role: str | None = None) -> bool:
        """Whether this node does what one node alone should do: the first living one (that has the role).

        Two may think so for a moment; what they do is guarded in the ledger as everything is.
        """
        first = next((node for node in self.living() if role is None or role in node.roles), None)
        return first is not None and first.name == self._name


def living_names() -> Select[tuple[str]]:
    """For `IN` and `NOT IN`, on PostgreSQL."""
    return select(nodes.c.name).where(_lives())


def _lives() -> ColumnElement[bool]:
    return nodes.c.beat_at > _now() - literal(DEAD_AFTER_S)


def _now() -> ColumnElement[float]:
    """Seconds of the clock of the database."""
    return cast(extract("epoch", func.clock_timestamp()), Float)
