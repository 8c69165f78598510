"""The audit trail: a table that only grows.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_ONLY_GROWS = (
    "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit"
    " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
    "CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit"
    " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
    "CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit"
    " WHEN NEW.sequence <> (SELECT sequence FROM audit_head) + 1"
    " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
    "CREATE TRIGGER audit_head_is_not_replaced BEFORE INSERT ON audit_head"
    " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
    "CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head WHEN NEW.sequence <> OLD.sequence + 1"
    " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
    "CREATE TRIGGER audit_head_is_not_deleted BEFORE DELETE ON audit_head"
    " BEGIN SELECT RAISE(ABORT, 'the audit trail only grows'); END",
)


def upgrade() -> None:
    """The trail, where it ends, and how far each collector has it."""
    op.create_table(
        "audit",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("what", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("previous_sha256", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "sha256": "0" * 64}])
    op.create_table(
        "audit_positions",
        sa.Column("collector", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("collector"),
    )
    op.create_index("ix_instances_association", "instances", ["association_id"])
    for trigger in _ONLY_GROWS:
        op.execute(trigger)


def downgrade() -> None:
    """Without a trail."""
    op.drop_index("ix_instances_association", "instances")
    for table in ("audit_positions", "audit_head", "audit"):
        op.drop_table(table)
