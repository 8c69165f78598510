"""The tables of the ledger, and the engine that opens them safely.

Times are seconds since the epoch, UTC. Nothing here knows the domain: the files beside it turn rows into
domain objects.
The tables are created and changed by the Alembic migrations beside this file; this metadata is what they lead to.
"""

from importlib.resources import files

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
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from ichnode.storage.dialect import Whole, Words, database_file, is_shared, new_engine

metadata = MetaData()
# Of a delivery. Literal, or no index is found for it.
WENT_WRONG = text("error IS NOT NULL AND state NOT IN ('replaced', 'cancelled')")

associations = Table(
    "associations",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("calling_ae_title", Words, nullable=False),
    Column("peer", Words, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("ending", Words),  # released, aborted, lost; NULL while open
    Column("node", Words),  # that it is with, where several share the ledger
)

instances = Table(
    "instances",
    metadata,
    Column("id", Whole, primary_key=True),  # order of receipt
    Column("sop_instance_uid", Words, nullable=False, unique=True),
    Column("sop_class_uid", Words, nullable=False),
    Column("series_instance_uid", Words, nullable=False),
    Column("study_instance_uid", Words, nullable=False),
    Column("transfer_syntax_uid", Words, nullable=False),
    Column("sha256", Words, nullable=False),
    Column("file", Words, nullable=False),
    Column("size_bytes", Whole, nullable=False),
    Column("header", JSON, nullable=False),  # imaging.keywords.KEPT
    Column("association_id", ForeignKey("associations.id"), nullable=False),
    Column("received_at", Float, nullable=False),
    Index("ix_instances_study", "study_instance_uid", "id"),
    Index("ix_instances_association", "association_id"),
    sqlite_autoincrement=True,  # the ids of purged rows never come again: snapshots name them
)

# of an instance's file, file meta and data set; NULL where the row does not say where the data set begins
FILE_BYTES = instances.c.size_bytes + instances.c.header["DataSetOffset"].as_integer()

conflicts = Table(  # same SOP Instance UID, other bytes: kept aside, never used
    "conflicts",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("sop_instance_uid", Words, nullable=False),
    Column("sha256", Words, nullable=False),
    Column("file", Words, nullable=False),
    Column("association_id", ForeignKey("associations.id"), nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sop_instance_uid", "sha256"),
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Words, primary_key=True),
    Column("first_received_at", Float, nullable=False),  # of the instances since the last snapshot
    Column("last_received_at", Float, nullable=False),
    Column("last_instance_id", Whole, nullable=False),
    Column("waiting", Boolean, nullable=False),  # instances arrived that no snapshot has
    Index("ix_studies_waiting", "waiting"),
    Index("ix_studies_last_instance", "last_instance_id"),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("study_instance_uid", Words, nullable=False, index=True),
    Column("last_instance_id", Whole, nullable=False),  # the snapshot holds the study's instances up to this one
    Column("evidence", Words, nullable=False),
    Column("taken_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("snapshot_id", ForeignKey("snapshots.id"), nullable=False),
    Column("study_instance_uid", Words, nullable=False),
    Column("series_instance_uid", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("decision", Words, nullable=False),
    Column("reason", Words, nullable=False),  # of the decision
    Column("detail", Words, nullable=False),
    Column("outcome", Words),  # what became of it, where that is not plain success: a refusal or a failure
    Column("outcome_detail", Words),
    Column("rule", Words),
    Column("run", JSON, nullable=False),
    Column("send_to", JSON, nullable=False),
    Column("priority", Words, nullable=False),
    Column("priority_rank", Whole, nullable=False),  # 0 stat, 1 routine
    Column("report_ignored", Boolean, nullable=False),
    Column("input_sha256", Words, nullable=False),  # instances, rule and result settings: same input, same job
    Column("supersedes", ForeignKey("jobs.id")),
    Column("attempts", Whole, nullable=False),  # counted before the work starts
    Column("interruptions", Whole, nullable=False),  # attempts that ended with the node, or by its disk
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("findings", JSON),
    Column("seconds", JSON),  # how long reading, inference and composing took
    Column("claimed_by", Words),  # the node that works on it, where several share the ledger
    Column("claim", Whole, nullable=False, server_default="0"),  # grows with each; an older one counts no more
    Index("ix_jobs_state", "state", "priority_rank", "id"),
    Index("ix_jobs_series", "study_instance_uid", "series_instance_uid"),
)

events = Table(
    "events",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("from_state", Words),
    Column("to_state", Words, nullable=False),
    Column("detail", Words, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("role", Words, nullable=False),
    Column("sop_instance_uid", Words, nullable=False),
    Column("sop_class_uid", Words, nullable=False),
    Column("series_instance_uid", Words, nullable=False),
    Column("file", Words, nullable=False),
    Column("size_bytes", Whole),  # NULL: from before it was noted
    Column("purged_at", Float),  # the file is gone since then
    UniqueConstraint("job_id", "sop_instance_uid"),
)

deliveries = Table(  # the outbox: one row for each result and destination
    "deliveries",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("result_id", ForeignKey("results.id"), nullable=False),
    Column("destination", Words, nullable=False),
    Column("state", Words, nullable=False),  # outbox.Delivery
    Column("attempts", Whole, nullable=False),
    Column("next_attempt_at", Float, nullable=False),  # in state sent: when commitment is to be asked for
    Column("transaction_uid", Words),  # in which commitment was last asked for
    Column("status", Whole),  # of the last C-STORE response
    Column("error", Words),
    Column("delivered_at", Float),
    Column("claimed_by", Words),  # as in jobs
    Column("claim", Whole, nullable=False, server_default="0"),
    Column("withdrawn_by", Whole),  # the result that is the rejection note which names it
    UniqueConstraint("result_id", "destination"),
    Index("ix_deliveries_due", "destination", "state", "next_attempt_at"),
    Index("ix_deliveries_delivered", "destination", "delivered_at"),
    Index("ix_deliveries_wrong", "destination", "id", sqlite_where=WENT_WRONG, postgresql_where=WENT_WRONG),
)

judgements = Table(  # rows are only appended; triggers forbid the rest
    "judgements",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("who", Words, nullable=False),
    Column("verdict", Words, nullable=False),  # domain.judgement.Verdict
    Column("reason", Words),  # of a rejection
    Column("comment", Words, nullable=False),
    Column("corrected_ml", Float),
    Column("bundle", Words, nullable=False),
    Column("bundle_version", Words, nullable=False),
    Column("weights_sha256", Words, nullable=False),
    Column("predicted_ml", Float, nullable=False),
)

withdrawals = Table(  # jobs whose results are withdrawn from the destinations
    "withdrawals",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("judgement_id", ForeignKey("judgements.id"), nullable=False),  # that began it
    Column("to_do", Boolean, nullable=False),  # there may be something that was taken and no note names
    Index("ix_withdrawals_to_do", "to_do"),
)

nodes = Table(  # that share the ledger
    "nodes",
    metadata,
    Column("name", Words, primary_key=True),
    Column("roles", Words, nullable=False),
    Column("beat_at", Float, nullable=False),  # of the clock of the database
)

purges = Table(
    "purges",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("study_instance_uid", Words, nullable=False),
    Column("at", Float, nullable=False),
    Column("reason", Words, nullable=False),  # age, space
    Column("instances", Whole, nullable=False),
    Column("results", Whole, nullable=False),
    Column("instance_bytes", Whole, nullable=False),
    Column("result_bytes", Whole, nullable=False),
    Column("last_job_id", Whole, nullable=False),  # it took what the study's jobs up to this one read and made
    Index("ix_purges_study", "study_instance_uid"),
)

purged_instances = Table(  # without headers: nothing about a patient stays
    "purged_instances",
    metadata,
    Column("sop_instance_uid", Words, primary_key=True),
    Column("series_instance_uid", Words, nullable=False),
    Column("study_instance_uid", Words, nullable=False),
    Column("purge_id", ForeignKey("purges.id"), nullable=False),
    Index("ix_purged_instances_study", "study_instance_uid"),
)

discards = Table("discards", metadata, Column("file", Words, primary_key=True))  # files that are to be removed

audit = Table(  # rows are only appended; triggers forbid the rest
    "audit",
    metadata,
    Column("sequence", Whole, primary_key=True),
    Column("at", Float, nullable=False),
    Column("event", Words, nullable=False),
    Column("who", Words, nullable=False),
    Column("what", JSON, nullable=False),
    Column("outcome", Words, nullable=False),
    Column("previous_sha256", Words, nullable=False),
    Column("sha256", Words, nullable=False),
    Index("ix_audit_event", "event", "sequence"),
)

audit_head = Table(  # one row: where the trail ends
    "audit_head",
    metadata,
    Column("id", Whole, primary_key=True),
    Column("sequence", Whole, nullable=False),
    Column("sha256", Words, nullable=False),
)

audit_positions = Table(  # the last row that each collector got
    "audit_positions",
    metadata,
    Column("collector", Words, primary_key=True),
    Column("sequence", Whole, nullable=False),
)

commitments = Table(  # every request for storage commitment, so that a report of any age is understood
    "commitments",
    metadata,
    Column("transaction_uid", Words, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("destination", Words, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("reported_at", Float),
)

refused_classes = Table(  # SOP classes that a destination does not take
    "refused_classes",
    metadata,
    Column("destination", Words, primary_key=True),
    Column("sop_class_uid", Words, primary_key=True),
    Column("refused_at", Float, nullable=False),
    Column("job_id", Whole, nullable=False),  # no foreign key: this outlives the job
    Column("status", Whole),  # of the C-STORE response
    Column("detail", Words, nullable=False),
)


def open_engine(url: str) -> Engine:
    """An engine whose commits survive a power cut, with the tables migrated to the newest form."""
    if not is_shared(url):
        database_file(url).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = new_engine(url)
    command.upgrade(_migrations(engine), "head")  # by one node at a time: it is a transaction for writing
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


def _migrations(engine: Engine | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("ichnode.storage").joinpath("migrations")))
    config.attributes["engine"] = engine
    return config
