"""What was purged, and instance ids that never come again.

Revision ID: 0010
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from ichnode.storage.dialect import Whole

revision = "0010"
down_revision = "0002"


def upgrade() -> None:
    """Purges, what they removed, and the files that are still to be removed."""
    op.create_table(
        "purges",
        sa.Column("id", Whole, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("instances", Whole, nullable=False),
        sa.Column("results", Whole, nullable=False),
        sa.Column("instance_bytes", Whole, nullable=False),
        sa.Column("result_bytes", Whole, nullable=False),
        sa.Column("last_job_id", Whole, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_purges_study", "purges", ["study_instance_uid"])
    op.create_table(
        "purged_instances",
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("purge_id", Whole, nullable=False),
        sa.ForeignKeyConstraint(["purge_id"], ["purges.id"]),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    op.create_index("ix_purged_instances_study", "purged_instances", ["study_instance_uid"])
    op.create_table("discards", sa.Column("file", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("file"))
    op.add_column("results", sa.Column("size_bytes", Whole))
    op.add_column("results", sa.Column("purged_at", sa.Float()))
    # The ids order instances by receipt, and snapshots name them: rows that are gone must not free theirs. PostgreSQL
    # takes them from a sequence, which never goes back.
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("instances", recreate="always", table_kwargs={"sqlite_autoincrement": True}):
            pass


def downgrade() -> None:
    """As before; what was purged stays away."""
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("instances", recreate="always", table_kwargs={"sqlite_autoincrement": False}):
            pass
    with op.batch_alter_table("results") as results:
        results.drop_column("purged_at")
        results.drop_column("size_bytes")
    op.drop_table("discards")
    op.drop_table("purged_instances")
    op.drop_table("purges")
