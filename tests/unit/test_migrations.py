"""A ledger that an older ichnode wrote is carried over whole."""

from alembic import command
from sqlalchemy import text

from ichnode.storage.dialect import new_engine
from ichnode.storage.schema import _migrations


def test_rows_of_the_first_form_are_there_in_the_newest_and_back(tmp_path):
    engine = new_engine(f"sqlite:///{tmp_path}/old.db")
    command.upgrade(_migrations(engine), "0001")
    with engine.begin() as db:
        db.execute(text("INSERT INTO associations VALUES (1, 'CT', 'x', 1.0, NULL, NULL)"))
        db.execute(text("INSERT INTO instances VALUES (7, '1.1', '1', '1', '1', '1', 'a', '/1', 3, '{}', 1, 1.0)"))
    for form in ("head", "0001", "head"):
        (command.upgrade if form == "head" else command.downgrade)(_migrations(engine), form)
        with engine.connect() as db:
            assert db.execute(text("SELECT id, file FROM instances")).one() == (7, "/1")
