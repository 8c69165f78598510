"""Indexes for what the work list and the health page ask, so that neither reads whole tables.

Revision ID: 0111
Revises: 0110
"""

import sqlalchemy as sa
from alembic import op

revision = "0111"
down_revision = "0110"

_INDEXES = (
    ("ix_studies_last_instance", "studies", ["last_instance_id"]),
    ("ix_audit_event", "audit", ["event", "sequence"]),
    ("ix_deliveries_delivered", "deliveries", ["destination", "delivered_at"]),
)
_WRONG = sa.text("error IS NOT NULL AND state <> 'replaced'")


def upgrade() -> None:
    """Nothing but indexes."""
    for name, table, columns in _INDEXES:
        op.create_index(name, table, columns)
    op.create_index(
        "ix_deliveries_wrong", "deliveries", ["destination", "id"], sqlite_where=_WRONG, postgresql_where=_WRONG
    )


def downgrade() -> None:
    """Without them."""
    op.drop_index("ix_deliveries_wrong", "deliveries")
    for name, table, _ in _INDEXES:
        op.drop_index(name, table)
