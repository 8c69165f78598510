"""Dialect: the one place that knows SQLite from PostgreSQL. Statements everywhere else run on both.

SQLite (one machine): WAL, synchronous=FULL, foreign keys on; transactions for writing begin IMMEDIATE, so that there
is one at a time. PostgreSQL (several machines): synchronous_commit=on; transactions for writing begin with an advisory
lock, so that there is one at a time, too, and what holds on SQLite holds there. `Intake.keep` goes beside it, with
a lock for each study. A node that is frozen, or whose machine is gone, soon holds no lock any more (`_LOST_AFTER_S`),
and no node waits for a PostgreSQL whose machine is gone (`with_limits`).
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Dialect,
    Engine,
    Integer,
    Text,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeDecorator

__all__ = ["upsert"]  # PostgreSQL's INSERT ... ON CONFLICT; SQLite took over its grammar, so it compiles for both

LOCK_TIMEOUT_S = 10.0
_LOST_AFTER_S = 5
_WRITER = 0x1C4_0DE  # the advisory lock of whoever writes
_BESIDE = "ichnode_beside_the_writer"  # execution option: a transaction that does not take it
_WAIT_S = "ichnode_wait_s"  # execution option: how long locks are waited for
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # headers of purged instances are overwritten
    f"busy_timeout={int(LOCK_TIMEOUT_S * 1000)}",
)
_SESSION = {  # of PostgreSQL
    "application_name": "ichnode",
    "synchronous_commit": "on",
    "lock_timeout": int(LOCK_TIMEOUT_S * 1000),
    "idle_in_transaction_session_timeout": _LOST_AFTER_S * 1000,  # of a node that was frozen inside a transaction
    "tcp_keepalives_idle": _LOST_AFTER_S,  # of a machine that lost its power or network
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
}
_LIMITS = {  # of libpq; TCP alone asks a machine that lost its power or network for a quarter of an hour, or for ever
    "connect_timeout": f"{LOCK_TIMEOUT_S:.0f}",
    "tcp_user_timeout": f"{LOCK_TIMEOUT_S * 1000:.0f}",  # for what was sent, and was not acknowledged
    "keepalives_idle": f"{_LOST_AFTER_S}",  # for an answer
    "keepalives_interval": "2",
    "keepalives_count": "3",
}

Whole = BigInteger().with_variant(Integer(), "sqlite")  # 64 bits on both; SQLite counts rows up in INTEGER alone


class Words(TypeDecorator[str]):
    """Text. PostgreSQL has no NUL in it, and its driver would store the name of an enum instead of the value."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What the database is told."""
        if value is None or dialect.name == "sqlite":
            return value
        return str(value).replace("\0", "\\0")


def may_be_committed(problem: BaseException) -> bool:
    """Whether a transaction that ended so may be committed all the same: the connection was lost before the answer."""
    return isinstance(problem, DBAPIError) and problem.connection_invalidated


def is_shared(url: str) -> bool:
    """Whether several nodes may use the database: PostgreSQL."""
    return not url.startswith("sqlite:")


def without_password(url: str) -> str:
    """The URL for logs and messages."""
    return make_url(url).render_as_string() if is_shared(url) else url


def with_limits(url: str) -> URL:
    """The URL of a PostgreSQL with how long its machine may be silent; limits that the URL has itself stay."""
    address = make_url(url)
    return address.update_query_dict({**_LIMITS, **address.query})


def database_file(url: str) -> Path:
    """Where the database of a sqlite:/// URL lies."""
    return Path(url.removeprefix("sqlite:///"))


def new_engine(url: str) -> Engine:
    """An engine whose commits survive a power cut."""
    if is_shared(url):
        options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
        engine = create_engine(
            with_limits(url),
            connect_args={"options": options},
            pool_size=8,
            max_overflow=24,
            pool_timeout=LOCK_TIMEOUT_S,
            pool_pre_ping=True,  # the server may have been restarted
            json_serializer=_to_json,
            json_deserializer=_from_json,
        )
        event.listen(engine, "begin", _begin_shared)
    else:
        arguments = {"timeout": LOCK_TIMEOUT_S, "check_same_thread": False}
        engine = create_engine(url, connect_args=arguments, pool_size=64, max_overflow=64)
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", _begin)
    return engine


def reading(engine: Engine) -> Connection:
    """A connection for reads: without a transaction, so it neither waits for a writer nor makes one wait."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def begin_within(engine: Engine, seconds: float, *, beside: bool = False) -> Iterator[Connection]:
    """A transaction for writing, which waits at most this long for other writers.

    `beside`: on PostgreSQL it does not wait for the one writer, nor the writer for it; see `hold_study`.
    """
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(**{_WAIT_S: seconds, _BESIDE: beside}) as db, db.begin():
            yield db
        return
    with engine.connect() as db:
        driver: Any = db.connection.dbapi_connection
        driver.execute(f"PRAGMA busy_timeout={max(0, int(seconds * 1000))}")
        try:
            with db.begin():
                yield db
        finally:
            driver.execute(f"PRAGMA busy_timeout={int(LOCK_TIMEOUT_S * 1000)}")


def hold_study(db: Connection, study_instance_uid: str) -> None:
    """Until the end of the transaction nobody else adds to the study, or removes from it.

    So the ids of a study's instances are committed in their order, and a snapshot up to one of them is whole. Who holds
    several studies takes them in the order of their UIDs.
    """
    if db.dialect.name != "sqlite":  # there nobody else writes anyhow
        db.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(study_instance_uid, 0))))


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_shared(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return
    if (wait_s := options.get(_WAIT_S)) is not None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, int(wait_s * 1000))}")
    if not options.get(_BESIDE):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")


def _set_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; the "begin" listener does
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


_NOT_FINITE = "not a finite number"


def _to_json(value: Any) -> str:
    """JSON as PostgreSQL takes it: headers may hold NaN, which is no JSON; SQLite does not mind."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value))


def _from_json(text: str | bytes) -> Any:
    return json.loads(text, object_hook=lambda found: float(found[_NOT_FINITE]) if _NOT_FINITE in found else found)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_NOT_FINITE: repr(value)}
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
