"""Delivery that is proven: requests for storage commitment, and SOP classes that destinations refuse.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from ichnode.storage.dialect import Whole

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what delivering notes of both."""
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("transaction_uid", sa.Text(), nullable=True))
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("job_id", Whole, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("reported_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transaction_uid"),
    )
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_commitments_job_id"), ["job_id"], unique=False)

    op.create_table(
        "refused_classes",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("refused_at", sa.Float(), nullable=False),
        sa.Column("job_id", Whole, nullable=False),
        sa.Column("status", Whole, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sop_class_uid"),
    )


def downgrade() -> None:
    """Forget it."""
    op.drop_table("refused_classes")
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_commitments_job_id"))

    op.drop_table("commitments")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_column("transaction_uid")
