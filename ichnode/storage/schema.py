"""The tables of the ledger, and the engine that opens them safely.

Times are seconds since the epoch, UTC. Nothing here knows the domain: the files beside it turn rows into
domain objects.
The tables are created and changed by the Alembic migrations beside this file; this metadata is what they lead to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    text,
)

BUSY_TIMEOUT_MS = 10_000
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # headers of purged instances are overwritten
    f"busy_timeout={BUSY_TIMEOUT_MS}",
)

metadata = MetaData()

associations = Table(
    "associations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("calling_ae_title", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("ending", Text),  # released, aborted, lost; NULL while open
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),  # order of receipt
    Column("sop_instance_uid", Text, nullable=False, unique=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("header", JSON, nullable=False),  # imaging.keywords.KEPT
    Column("association_id", ForeignKey("associations.id"), nullable=False),
    Column("received_at", Float, nullable=False),
    Index("ix_instances_study", "study_instance_uid", "id"),
    Index("ix_instances_association", "association_id"),
    sqlite_autoincrement=True,  # the ids of purged rows never come again: snapshots name them
)

conflicts = Table(  # same SOP Instance UID, other bytes: kept aside, never used
    "conflicts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sop_instance_uid", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("association_id", ForeignKey("associations.id"), nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sop_instance_uid", "sha256"),
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("first_received_at", Float, nullable=False),  # of the instances since the last snapshot
    Column("last_received_at", Float, nullable=False),
    Column("last_instance_id", Integer, nullable=False),
    Column("waiting", Boolean, nullable=False),  # instances arrived that no snapshot has
    Index("ix_studies_waiting", "waiting"),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", Text, nullable=False, index=True),
    Column("last_instance_id", Integer, nullable=False),  # the snapshot holds the study's instances up to this one
    Column("evidence", Text, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("snapshot_id", ForeignKey("snapshots.id"), nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("reason", Text, nullable=False),  # of the decision
    Column("detail", Text, nullable=False),
    Column("outcome", Text),  # what became of it, where that is not plain success: a refusal or a failure
    Column("outcome_detail", Text),
    Column("rule", Text),
    Column("run", JSON, nullable=False),
    Column("send_to", JSON, nullable=False),
    Column("priority", Text, nullable=False),
    Column("priority_rank", Integer, nullable=False),  # 0 stat, 1 routine
    Column("report_ignored", Boolean, nullable=False),
    Column("input_sha256", Text, nullable=False),  # instances, rule and result settings: same input, same job
    Column("supersedes", ForeignKey("jobs.id")),
    Column("attempts", Integer, nullable=False),  # counted before the work starts
    Column("interruptions", Integer, nullable=False),  # attempts that ended because the whole node did
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("findings", JSON),
    Column("seconds", JSON),  # how long reading, inference and composing took
    Index("ix_jobs_state", "state", "priority_rank", "id"),
    Index("ix_jobs_series", "study_instance_uid", "series_instance_uid"),
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("role", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("size_bytes", Integer),  # NULL: from before it was noted
    Column("purged_at", Float),  # the file is gone since then
    UniqueConstraint("job_id", "sop_instance_uid"),
)

deliveries = Table(  # the outbox: one row for each result and destination
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("result_id", ForeignKey("results.id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),  # outbox.Delivery
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),  # in state sent: when commitment is to be asked for
    Column("transaction_uid", Text),  # in which commitment was last asked for
    Column("status", Integer),  # of the last C-STORE response
    Column("error", Text),
    Column("delivered_at", Float),
    UniqueConstraint("result_id", "destination"),
    Index("ix_deliveries_due", "destination", "state", "next_attempt_at"),
)

purges = Table(
    "purges",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_instance_uid", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("reason", Text, nullable=False),  # age, space
    Column("instances", Integer, nullable=False),
    Column("results", Integer, nullable=False),
    Column("instance_bytes", Integer, nullable=False),
    Column("result_bytes", Integer, nullable=False),
    Column("last_job_id", Integer, nullable=False),  # it took what the study's jobs up to this one read and made
    Index("ix_purges_study", "study_instance_uid"),
)

purged_instances = Table(  # without headers: nothing about a patient stays
    "purged_instances",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("series_instance_uid", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("purge_id", ForeignKey("purges.id"), nullable=False),
    Index("ix_purged_instances_study", "study_instance_uid"),
)

discards = Table("discards", metadata, Column("file", Text, primary_key=True))  # files that are to be removed

audit = Table(  # rows are only appended; triggers forbid the rest
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", JSON, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("previous_sha256", Text, nullable=False),
    Column("sha256", Text, nullable=False),
)

audit_head = Table(  # one row: where the trail ends
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
)

audit_positions = Table(  # the last row that each collector got
    "audit_positions",
    metadata,
    Column("collector", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),
)

commitments = Table(  # every request for storage commitment, so that a report of any age is understood
    "commitments",
    metadata,
    Column("transaction_uid", Text, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("destination", Text, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("reported_at", Float),
)

refused_classes = Table(  # SOP classes that a destination does not take
    "refused_classes",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("sop_class_uid", Text, primary_key=True),
    Column("refused_at", Float, nullable=False),
    Column("job_id", Integer, nullable=False),  # no foreign key: this outlives the job
    Column("status", Integer),  # of the C-STORE response
    Column("detail", Text, nullable=False),
)


def open_engine(url: str) -> Engine:
    """An engine whose commits survive a power cut, with the tables migrated to the newest form."""
    database_file(url).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = engine_as_it_is(url)
    command.upgrade(_migrations(engine), "head")
    return engine


def engine_as_it_is(url: str) -> Engine:
    """The same engine, for whatever form the tables have.

    SQLite runs with WAL, synchronous=FULL, foreign keys and a wait of 10 s for a lock. Transactions begin
    IMMEDIATE, so a guarded update never fails half-way on a lock that it finds too late.
    """
    engine = create_engine(url, connect_args={"timeout": 10, "check_same_thread": False}, pool_size=64, max_overflow=64)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def form_of(db: Connection) -> str | None:
    """The revision of the tables; None where there is none."""
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def newest_form() -> str:
    """The revision that the migrations lead to."""
    return str(ScriptDirectory.from_config(_migrations()).get_current_head())


def is_older_form(revision: str | None) -> bool:
    """Whether the migrations of this ichnode lead on from a revision."""
    known = {script.revision for script in ScriptDirectory.from_config(_migrations()).walk_revisions()}
    return revision in known and revision != newest_form()


def database_file(url: str) -> Path:
    """Where the database of a sqlite:/// URL lies."""
    return Path(url.removeprefix("sqlite:///"))


def _migrations(engine: Engine | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("ichnode.storage").joinpath("migrations")))
    config.attributes["engine"] = engine
    return config


def reading(engine: Engine) -> Connection:
    """A connection for reads: without a transaction, so it neither waits for a writer nor makes one wait."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def begin_within(engine: Engine, seconds: float) -> Iterator[Connection]:
    """A transaction for writing, which waits at most this long for other writers."""
    with engine.connect() as db:
        driver: Any = db.connection.dbapi_connection
        driver.execute(f"PRAGMA busy_timeout={max(0, int(seconds * 1000))}")
        try:
            with db.begin():
                yield db
        finally:
            driver.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; the "begin" listener does
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
