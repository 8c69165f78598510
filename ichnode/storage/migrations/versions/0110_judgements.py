"""What people say of results, and which results are withdrawn.

Revision ID: 0110
Revises: 0100
"""

import sqlalchemy as sa
from alembic import op

from ichnode.storage.dialect import Whole

revision = "0110"
down_revision = "0100"

_ONLY_GROW = (
    "CREATE TRIGGER judgements_are_not_changed BEFORE UPDATE ON judgements"
    " BEGIN SELECT RAISE(ABORT, 'judgements are only added'); END",
    "CREATE TRIGGER judgements_are_not_deleted BEFORE DELETE ON judgements"
    " BEGIN SELECT RAISE(ABORT, 'judgements are only added'); END",
)
_ONLY_GROW_ON_POSTGRESQL = (
    "CREATE FUNCTION judgements_only_grow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " RAISE EXCEPTION 'judgements are only added' USING ERRCODE = 'integrity_constraint_violation'; END $$",
    "CREATE TRIGGER judgements_are_not_changed BEFORE UPDATE OR DELETE ON judgements"
    " FOR EACH ROW EXECUTE FUNCTION judgements_only_grow()",
    "CREATE TRIGGER judgements_are_not_emptied BEFORE TRUNCATE ON judgements EXECUTE FUNCTION judgements_only_grow()",
)


def upgrade() -> None:
    """Judgements are only added; a withdrawal is to do until a note names all that was taken."""
    op.create_table(
        "judgements",
        sa.Column("id", Whole, nullable=False),
        sa.Column("job_id", Whole, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("corrected_ml", sa.Float()),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("bundle_version", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.Text(), nullable=False),
        sa.Column("predicted_ml", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_judgements_job_id", "judgements", ["job_id"])
    op.create_table(
        "withdrawals",
        sa.Column("job_id", Whole, nullable=False),
        sa.Column("judgement_id", Whole, nullable=False),
        sa.Column("to_do", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.ForeignKeyConstraint(["judgement_id"], ["judgements.id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_withdrawals_to_do", "withdrawals", ["to_do"])
    op.add_column("deliveries", sa.Column("withdrawn_by", Whole))
    on_postgresql = op.get_bind().dialect.name != "sqlite"
    for statement in _ONLY_GROW_ON_POSTGRESQL if on_postgresql else _ONLY_GROW:
        op.execute(statement)


def downgrade() -> None:
    """Without judgements."""
    op.drop_column("deliveries", "withdrawn_by")
    for table in ("withdrawals", "judgements"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION judgements_only_grow")
