"""A PostgreSQL cluster of the tests' own: in a temporary folder, on a free loopback port, ended with the block."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.acceptance.peers import free_port, missing

_BINARIES = Path("/usr/lib/postgresql")


class Cluster:
    """A running server; its databases are made from templates, so that each test has one of its own."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._bin = _newest_binaries()
        self._folder = folder
        self._data = folder / "data"
        self.port = free_port()
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "--pgdata", self._data, "--auth", "trust", "--username", "ichnode", "--no-sync")
        settings = {
            "port": self.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "fsync": "on" if durable else "off",
            "max_connections": 200,
        }
        self._run("bash", "-c", f"cat >> {self._data}/postgresql.conf <<< {_quoted(settings)}")
        self.start()

    def start(self) -> None:
        """Until it accepts connections."""
        log = self._folder / "server.log"
        self._run("pg_ctl", "start", "--wait", "--silent", "--pgdata", self._data, "--log", log)

    def stop(self) -> None:
        """At once, without waiting for its clients; what was committed is on the disk."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "immediate", "--pgdata", self._data)

    def database(self, template: str = "template1") -> str:
        """The name of a new database."""
        name = f"t{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Also while somebody is connected."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """As the configuration has it."""
        return f"postgresql+psycopg://ichnode@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """In the database that is always there."""
        where = f"host=127.0.0.1 port={self.port} user=ichnode dbname=postgres"
        with psycopg.connect(where, autocommit=True) as db:
            db.execute(statement)

    def _run(self, program: str, *arguments: str | Path) -> None:
        """PostgreSQL refuses to be run by root."""
        found = self._bin / program if (self._bin / program).exists() else Path(program)
        as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_postgres, found, *arguments]
        # without pipes, which the server would inherit and keep open
        with tempfile.TemporaryFile() as said:
            outcome = subprocess.run(command, stdout=said, stderr=said, cwd=self._folder, check=False, timeout=60)
            said.seek(0)
            assert outcome.returncode == 0, said.read().decode(errors="replace")


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A cluster; skipped, or failed under ICHNODE_REQUIRE_PEERS=1, where PostgreSQL is not installed.

    Not `durable`: without fsync, for tests that do not count on it.
    """
    reachable = os.environ.get("TMPDIR", "/tmp")  # by its own user; a folder of pytest's is root's alone
    folder = Path(tempfile.mkdtemp(prefix="ichnode-postgres-", dir=reachable))
    try:
        server = Cluster(folder, durable=durable)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _newest_binaries() -> Path:
    found = sorted(_BINARIES.glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    return found[-1].parent if found else missing("initdb", "apt-get install postgresql")


def _quoted(settings: dict[str, object]) -> str:
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    return '"' + lines + '"'
