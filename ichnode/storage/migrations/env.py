"""How Alembic reaches the ledger: over the engine that `schema.open_engine` hands it."""

from alembic import context

from ichnode.storage.schema import metadata

with context.config.attributes["engine"].begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()
