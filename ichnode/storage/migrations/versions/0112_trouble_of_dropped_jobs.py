"""A delivery that a person cancelled is no trouble of its destination any more.

Revision ID: 0112
Revises: 0111
"""

import sqlalchemy as sa
from alembic import op

revision = "0112"
down_revision = "0111"

_NAME, _TABLE, _COLUMNS = "ix_deliveries_wrong", "deliveries", ["destination", "id"]
_BEFORE = sa.text("error IS NOT NULL AND state <> 'replaced'")
_NOW = sa.text("error IS NOT NULL AND state NOT IN ('replaced', 'cancelled')")


def upgrade() -> None:
    """The index has the new condition."""
    _make_anew(_NOW)


def downgrade() -> None:
    """The one before."""
    _make_anew(_BEFORE)


def _make_anew(which: sa.TextClause) -> None:
    op.drop_index(_NAME, _TABLE)
    op.create_index(_NAME, _TABLE, _COLUMNS, sqlite_where=which, postgresql_where=which)
