"""The audit trail: a table that only grows.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

from ichnode.storage.dialect import Whole

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

_REFUSES = "RAISE EXCEPTION 'the audit trail only grows' USING ERRCODE = 'integrity_constraint_violation'"
_ONLY_GROWS_ON_POSTGRESQL = (  # a trigger calls a function, which alone may look at other rows
    f"CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_REFUSES}; END $$",
    "CREATE FUNCTION audit_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" IF NEW.sequence <> (SELECT sequence FROM audit_head) + 1 THEN {_REFUSES}; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER audit_is_not_changed BEFORE UPDATE OR DELETE ON audit"
    " FOR EACH ROW EXECUTE FUNCTION audit_only_grows()",
    "CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_only_grows()",
    "CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_goes_on()",
    "CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head"
    " FOR EACH ROW WHEN (NEW.sequence <> OLD.sequence + 1) EXECUTE FUNCTION audit_only_grows()",
    "CREATE TRIGGER audit_head_is_not_replaced BEFORE INSERT OR DELETE ON audit_head"
    " FOR EACH ROW EXECUTE FUNCTION audit_only_grows()",
)


def upgrade() -> None:
    """The trail, where it ends, and how far each collector has it."""
    op.create_table(
        "audit",
        sa.Column("sequence", Whole, nullable=False),
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
        sa.Column("id", Whole, nullable=False),
        sa.Column("sequence", Whole, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "sha256": "0" * 64}])
    op.create_table(
        "audit_positions",
        sa.Column("collector", sa.Text(), nullable=False),
        sa.Column("sequence", Whole, nullable=False),
        sa.PrimaryKeyConstraint("collector"),
    )
    op.create_index("ix_instances_association", "instances", ["association_id"])
    on_postgresql = op.get_bind().dialect.name != "sqlite"
    for statement in _ONLY_GROWS_ON_POSTGRESQL if on_postgresql else _ONLY_GROWS:
        op.execute(statement)


def downgrade() -> None:
    """Without a trail."""
    op.drop_index("ix_instances_association", "instances")
    for table in ("audit_positions", "audit_head", "audit"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_only_grows, audit_goes_on")
