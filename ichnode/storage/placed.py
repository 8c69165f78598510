"""Placed turns: Procrastinate places each offered job on one node, by priority and one at a time for each lock.

An entry of its queue stands for no more than an offer. Whoever gets one claims the job in the ledger, or finds it gone;
the entry is deleted either way, and retries are left to the ledger. A sweep offers what is ready and has no entry, and
takes away the entries of workers that do not beat any more, whose locks would else hold up the next offer.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ProcrastinateException
from procrastinate.jobs import Status
from sqlalchemy import Engine

from ichnode.storage.dialect import with_limits
from ichnode.storage.nodes import BEAT_S, DEAD_AFTER_S
from ichnode.storage.work_queue import Offer

log = logging.getLogger(__name__)

_SWEEP_S = 2.0  # offers that nobody was woken for: what a killed node left, and deliveries whose time has come
_POLL_S = 5.0  # a worker is told of entries (LISTEN); this is the net below
_RESTS_S = (0.25, 0.5, 1.0, 2.0)  # before it connects again; PostgreSQL may be restarting
_PRUNED_AFTER_S = 3600.0  # rows of dead workers; a living one without its row would get no more turns
_TASK = "turn"
_ENTRIES = (
    "SELECT args->>'job_id' AS job_id, priority FROM procrastinate_jobs"
    " WHERE queue_name = %(queue)s AND status IN ('todo', 'doing')"
)
_RAISE = (  # a job was made STAT after it was offered
    "UPDATE procrastinate_jobs SET priority = %(priority)s"
    " WHERE queue_name = %(queue)s AND status = 'todo' AND args->>'job_id' = %(job_id)s"
)


def prepare(engine: Engine) -> None:
    """The tables of Procrastinate, once; by one node at a time."""
    with engine.begin() as db:
        if db.exec_driver_sql("SELECT to_regclass('procrastinate_jobs')").scalar() is None:
            driver: Any = db.connection.driver_connection
            driver.execute(App(connector=PsycopgConnector()).schema_manager.get_schema())


class PlacedTurns:
    """The turns of one queue: offers what is ready, and takes turns where this node has the role (`turn`).

    When PostgreSQL goes away its worker ends, and is started again here until PostgreSQL is back.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str,
        node: str,
        ready: Callable[[], Sequence[Offer]],
        turn: Callable[[int], bool] | None,
        may_judge: Callable[[], bool],
    ) -> None:
        """`may_judge`: whether workers that do not beat are dead, or PostgreSQL may have been away."""
        self.name = name
        self._conninfo = with_limits(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._node = node
        self._ready = ready
        self._turn = turn
        self._may_judge = may_judge
        self._stop = threading.Event()
        self._wake: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Connect, and begin."""
        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        self._thread.start()

    def wake(self) -> None:
        """Offer what is ready, now."""
        wake = self._wake
        if wake is not None:
            with suppress(RuntimeError):  # its loop has just ended; the next one begins with a sweep
                wake[0].call_soon_threadsafe(wake[1].set)

    def ask_to_stop(self) -> None:
        """Take no further turn; the current one is finished."""
        self._stop.set()
        self.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the current turn; whether it ended in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                asyncio.run(self._serve())
                failures = 0
            except Exception as problem:
                detail = f"{self.name}: {type(problem).__name__}: {problem}"
                log.warning("queue_lost", extra={"detail": detail})
                self._stop.wait(_RESTS_S[min(failures, len(_RESTS_S) - 1)])
                failures += 1

    async def _serve(self) -> None:
        """Until asked to stop, or until PostgreSQL goes away."""
        app = App(connector=PsycopgConnector(conninfo=self._conninfo, min_size=1, max_size=3, timeout=10))
        app.task(name=_TASK, queue=self.name)(self._take)
        async with app.open_async():
            self._wake = asyncio.get_running_loop(), asyncio.Event()
            tasks = [asyncio.create_task(self._offer(app, self._wake[1]))]
            if self._turn is not None:
                tasks.append(asyncio.create_task(self._work(app)))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._wake = None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _work(self, app: App) -> None:
        await app.run_worker_async(
            queues=[self.name],
            name=self._node,
            concurrency=1,
            delete_jobs="always",
            install_signal_handlers=False,
            fetch_job_polling_interval=_POLL_S,
            update_heartbeat_interval=BEAT_S,
            stalled_worker_timeout=_PRUNED_AFTER_S,
        )

    def _take(self, job_id: int) -> None:
        """In a thread of its own: the turn that this node was given."""
        assert self._turn is not None
        try:
            self._turn(job_id)
        except Exception:
            log.exception("turn_failed", extra={"detail": self.name, "job_id": job_id})

    async def _offer(self, app: App, wake: asyncio.Event) -> None:
        while not self._stop.is_set():
            wake.clear()
            if self._may_judge():
                await self._forget_the_dead(app)
            ready = await asyncio.to_thread(self._ready)
            rows = await app.connector.execute_query_all_async(_ENTRIES, queue=self.name) if ready else []
            offered = {int(row["job_id"]): int(row["priority"]) for row in rows}
            for offer in ready:
                if offer.job_id not in offered:
                    entry = app.configure_task(
                        _TASK,
                        queue=self.name,
                        lock=offer.lock,
                        queueing_lock=f"{self.name} {offer.job_id}",
                        priority=-offer.rank,
                    )
                    with suppress(AlreadyEnqueued):  # by another node, since
                        await entry.defer_async(job_id=offer.job_id)
                elif offered[offer.job_id] < -offer.rank:
                    raised = {"queue": self.name, "priority": -offer.rank, "job_id": str(offer.job_id)}
                    await app.connector.execute_query_async(_RAISE, **raised)
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), _SWEEP_S)

    async def _forget_the_dead(self, app: App) -> None:
        manager = app.job_manager
        for entry in await manager.get_stalled_jobs(queue=self.name, seconds_since_heartbeat=DEAD_AFTER_S):
            with suppress(ProcrastinateException):  # another node was faster
                await manager.finish_job(entry, Status.FAILED, delete_job=True)
