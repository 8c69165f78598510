"""`ichnode serve` as a process of its own, as a PACS administrator runs it."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import httpx
from sqlalchemy import text

from ichnode.domain.job import ON_THE_WAY, JobState
from ichnode.storage.dialect import new_engine, reading
from tests.acceptance.peers import free_port

_ENDED = {s.value for s in JobState} - set(ON_THE_WAY)
_pause = threading.Event()


class Serve:
    """One data folder and one configuration; the process may be killed and started again, and ends with the block."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.dicom_port, self.web_port = free_port(), free_port()
        self.folder = folder
        self.log = folder / "serve.log"
        self.config = folder / "ichnode.toml"
        self.config.write_text("")
        node = {"host": "127.0.0.1", "port": self.dicom_port, "data_dir": str(folder / "data"), "reserve_mb": 0}
        self.sections = {"node": node, "web": {"port": self.web_port}, "destinations": [], **sections}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self.kill()

    def add_destination(self, **destination: Any) -> None:
        """Before the start: one more place to send results to."""
        self.sections["destinations"].append(destination)

    def start(self, *, fault: str = "") -> str:
        """Start it and wait until it listens; the line that it then prints. `fault` is a point of `ichnode.faults`."""
        self.launch(fault=fault)
        assert self._process
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        assert line, self.log.read_text()
        return line

    def launch(self, *, fault: str = "") -> None:
        """Start it, and do not wait."""
        environment = {
            f"ICHNODE_{section}__{key}".upper(): _toml(value)
            for section, content in self.sections.items()
            for key, value in (content.items() if isinstance(content, dict) else enumerate(content))
        }
        if fault:
            environment |= {"ICHNODE_FAULT": fault, "ICHNODE_TESTING": "1"}
        command = [Path(sys.executable).with_name("ichnode"), "serve", "--config", self.config]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=log, text=True
            )

    @property
    def ledger_url(self) -> str:
        """Of its database: SQLite in its data folder, unless the section `database` says otherwise."""
        return self.sections.get("database", {}).get("url") or f"sqlite:///{self.folder}/data/ichnode.db"

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of its database, read past the node."""
        engine = new_engine(self.ledger_url)
        try:
            with reading(engine) as db:
                return [tuple(row) for row in db.execute(text(query))]
        finally:
            engine.dispose()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_for_its_death(self, *, timeout_s: float = 180) -> int:
        """The exit code, once it has ended by itself; negative is a signal."""
        assert self._process
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Any other signal."""
        assert self._process
        self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Whether nothing is wrong with any of its parts."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.web_port}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """SIGTERM, and the exit code; 30 s are allowed."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def get(self, path: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.web_port}{path}", trust_env=False, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def wait_for_jobs(self, count: int, *, timeout_s: float = 120) -> list[dict[str, Any]]:
        """The jobs, once there are `count` and all have ended."""
        jobs: list[dict[str, Any]] = []
        for _ in range(int(timeout_s / 0.1)):
            jobs = self.get("/api/jobs")
            if len(jobs) >= count and all(job["state"] in _ENDED for job in jobs):
                return jobs
            _pause.wait(0.1)
        raise AssertionError(f"{[(job['state'], job['reason']) for job in jobs]}\n{self.log.read_text()[-3000:]}")


def _toml(value: Any) -> str:
    """A value as the environment carries it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
