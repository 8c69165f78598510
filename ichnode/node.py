"""Node: builds every part from the settings, starts them in order, watches them and stops them in reverse.

The composition root: nothing is built anywhere else, and nothing at import.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TypeGuard, TypeVar, get_args

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ichnode import __version__
from ichnode.config import DicomDestination, Inference, Role, Settings, WebDestination
from ichnode.dicom.admission import Rejection, TurnedAway
from ichnode.dicom.commitment import request_commitment
from ichnode.dicom.scp import StorageSCP
from ichnode.dicom.scu import send
from ichnode.dicom.statuses import DimseStatus, Verdict
from ichnode.dicom.stow import store
from ichnode.dicom.tls import expires_at, server_context, web_server_context
from ichnode.domain.audit import AuditEvent
from ichnode.domain.job import ON_THE_WAY
from ichnode.errors import ConfigError
from ichnode.inference.worker import Worker
from ichnode.metrics import Metrics
from ichnode.peers import (
    admitted_sources,
    audit_collector,
    call_destination,
    dicom_peer,
    expiry_of_certificates,
    stow_service,
    tls_files,
)
from ichnode.results.provenance import ResultProfile
from ichnode.results.provenance import Role as ResultRole
from ichnode.stages.analyse import AnalyseStage
from ichnode.stages.analyser import AnalyserSettings, Analysis, AnalysisRequest
from ichnode.stages.assemble import AssembleStage
from ichnode.stages.by_hand import ByHand
from ichnode.stages.commit import CommitmentReports, CommitStage
from ichnode.stages.deliver import DeliverStage, RetryPolicy, Send
from ichnode.stages.fallback import Fallback
from ichnode.stages.loop import Loop
from ichnode.stages.purge import PurgeStage, RetentionPolicy
from ichnode.stages.receive import ReceiveStage
from ichnode.stages.report_audit import AuditStage
from ichnode.stages.withdraw import WithdrawStage
from ichnode.storage.audit import AuditTrail
from ichnode.storage.commitments import Commitments
from ichnode.storage.dialect import database_file, is_shared
from ichnode.storage.files import FileStore
from ichnode.storage.history import History
from ichnode.storage.intake import Intake
from ichnode.storage.judgements import Judgements
from ichnode.storage.ledger import Ledger
from ichnode.storage.nodes import BEAT_S, Nodes
from ichnode.storage.outbox import Outbox
from ichnode.storage.overview import Overview
from ichnode.storage.refused_classes import RefusedClasses
from ichnode.storage.retention import Retention
from ichnode.storage.schema import open_engine
from ichnode.storage.soundness import LedgerDamaged, Soundness, look_for_damage
from ichnode.storage.studies import Studies
from ichnode.storage.withdrawals import Withdrawals
from ichnode.storage.work_queue import Offer, Turns
from ichnode.storage.worklist import WorkList
from ichnode.web.app import create_app
from ichnode.web.guard import Credentials
from ichnode.web.parts import WebParts
from ichnode.web.server import WebServer

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_Instead = TypeVar("_Instead")

POLL_S = 0.25  # how soon an idle loop notices what no wake-up told it, a quiet timer for instance
PURGE_POLL_S = 60.0
TIDY_S = 3600.0
UNTOUCHED_S = 600.0  # then nobody writes a half-written file of a node that does not beat any more
LOOK_FOR_DAMAGE_S = 3.0  # at start; a large database is then read in part, and `db check` reads all of it
FINISH_S = 15.0  # at stop, how long a running analysis may still take before it is parked
CLOSE_S = 4.0  # ... and how long everything else may then take; together less than the 30 s that are promised
WORKER_START_S = 120.0
MEMORY_LIMIT_BYTES = 8_192_000_000  # five models need 1.7 GB for 28 slices
GPU_DRIVER = Path("/dev/nvidiactl")


class Node:
    """One running ichnode. `start` returns once it listens; `wait` until `ask_to_stop`; then `stop`."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._stop = threading.Event()
        data_dir = settings.node.data_dir.absolute()
        with ExitStack() as failed:
            try:
                data_dir.mkdir(parents=True, exist_ok=True)
                self._name = settings.node_name if settings.shared else None
                self._lock = _lock(data_dir, self._name)
                failed.callback(os.close, self._lock)
                self._store, self._result_store = (
                    FileStore(folder, **settings.node.reserves, owner=self._name) for folder in settings.stores
                )
            except OSError as problem:
                raise ConfigError((f"node.data_dir: cannot write {data_dir}: {problem.strerror}",)) from None
            self._engine, self._soundness = _open_ledger(settings.database_url)
            failed.pop_all()
        self._roles = frozenset(settings.node.roles)
        self._nodes = Nodes(self._engine, name=self._name, roles=self._roles) if self._name else None
        self.ledger = Ledger(
            self._engine, node=self._name, routine_waits_at_most_s=settings.inference.routine_waits_at_most_s
        )
        self.history = History(self._engine)
        self.intake = Intake(self._engine, node=self._name)
        self.outbox = Outbox(self._engine, node=self._name, may_judge=self._may_judge)
        self.refused_classes, self.judgements = RefusedClasses(self._engine), Judgements(self._engine)
        self.metrics = Metrics(
            sources=[source.ae_title for source in settings.sources],
            count_jobs=lambda: _read(self.history.count_by_state, {}),
            refused_classes=lambda: [
                (refused.destination, refused.sop_class_uid) for refused in _read(self.refused_classes.all, ())
            ],
            count_judgements=lambda: _read(self.judgements.count, {}),
        )
        self._worker: Worker[AnalysisRequest, Analysis] = Worker(
            analyser_settings(settings),
            memory_limit_bytes=memory_limit_bytes(settings.inference),
            start_timeout_s=WORKER_START_S,
        )
        self._tls = tls_files(settings)
        delivery = settings.delivery
        self._retry = RetryPolicy(
            first_s=delivery.first_retry_s, cap_s=delivery.max_retry_s, max_attempts=delivery.max_attempts
        )
        self._delivering = [self._deliver_turns(destination) for destination in settings.destinations]
        self._commitments = Commitments(self._engine)
        self.commitment_reports = CommitmentReports(
            outbox=self.outbox,
            commitments=self._commitments,
            history=self.history,
            metrics=self.metrics,
            retry=self._retry,
            clock=clock,
        )
        commits = [d for d in settings.destinations if _commits(d)] if "deliver" in self._roles else []
        self._committing = [self._commit_loop(destination) for destination in commits]
        self._analysing = self._analyse_turns()
        self._assembling = self._assemble_loop()
        self._withdrawing = self._withdraw_loop()
        self._purging = self._purge_stage()
        self._purge_loop = self._one_for_all("purge", self._purge, idle_s=PURGE_POLL_S)
        self._tidy_loop = self._one_for_all("tidy", self._tidy, idle_s=TIDY_S)
        self.auditing = self._audit_stage()
        self._audit_loop = Loop("audit", self.auditing.turn, idle_s=POLL_S)
        self._beating = Loop("heartbeat", self._beat, idle_s=BEAT_S)
        self._scp = self._storage_scp() if "receive" in self._roles else None
        self._measure()
        self._web = WebServer(
            create_app(self._web_parts()),
            host=settings.web.host,
            port=settings.web.port,
            tls=web_server_context(self._tls) if self._tls and settings.web.tls else None,
        )

    def _web_parts(self) -> WebParts:
        """What the pages show, and what they may ask for."""
        settings, web = self._settings, self._settings.web
        by_hand = ByHand(
            studies=Studies(self._engine),
            intake=self.intake,
            history=self.history,
            rules=settings.decision_rules,
            results_sha256=settings.results_sha256,
        )
        return WebParts(
            ae_title=settings.node.ae_title,
            version=__version__,
            history=self.history,
            ledger=self.ledger,
            outbox=self.outbox,
            intake=self.intake,
            refused_classes=self.refused_classes,
            judgements=self.judgements,
            audit=AuditTrail(self._engine),
            work_list=WorkList(self._engine),
            overview=Overview(self._engine),
            store=self._store,
            destinations={destination.name: destination.where for destination in settings.destinations},
            sources=[source.ae_title for source in settings.sources],
            rules=settings.decision_rules,
            metrics=self.metrics,
            device=settings.inference.device,
            readiness=self.readiness,
            trace=by_hand.trace,
            plan=by_hand.plan,
            call=partial(call_destination, settings),
            certificates=partial(expiry_of_certificates, settings),
            clock=self._clock,
            wake=self._wake_up,
            stopping=self._stop.is_set,
            patients_shown=web.patient == "shown",
            credentials=Credentials.read(
                token_file=web.token_file, username=web.username, password_file=web.password_file
            ),
            tls=web.tls,
            viewer_url=web.viewer_url,
        )

    @property
    def ae_title(self) -> str:
        """As what it is called."""
        return self._settings.node.ae_title

    @property
    def dicom_port(self) -> int:
        """The port that the SCP listens on; 0 on a node that does not receive."""
        return self._scp.port if self._scp else 0

    @property
    def web_port(self) -> int:
        """The port of the HTTP endpoint."""
        return self._web.port

    def start(self) -> None:
        """Put right what a killed process left, then start the loops, and the listener last."""
        now = self._clock()
        if self._nodes:
            self._nodes.beat()
        started = {"configuration": self._settings.sha256, "version": __version__}
        self.auditing.tell(AuditEvent.APPLICATION_STARTED, started)
        self.intake.close_lost_associations(at=now)
        recovered = self.ledger.recover(at=now)
        swept = self._store.sweep() + self._result_store.sweep()
        self._purging.remove_discarded()
        if "deliver" in self._roles:
            self._give_up_on_unknown()
            for destination in self._settings.destinations:
                if not _commits(destination):
                    self.outbox.ask_no_more(destination.name, at=now)
        stored_bytes = self.intake.stored_bytes()
        self.metrics.store_bytes.set(stored_bytes)
        for source, at in self.history.last_heard():
            self.metrics.heard_from(source, at=at)
        if recovered or swept:
            log.info("recovered", extra={"count": recovered, "detail": f"{swept} half-written files removed"})
        if not stored_bytes and self._store.holds_files():
            detail = "instances holds files, but the database knows no instance: was it lost? see ichnode db check"
            log.warning("files_without_rows", extra={"detail": detail})
        if not self._settings.destinations:
            log.warning("no_destination", extra={"detail": "results stay in data_dir; configure [[destinations]]"})
        if "analyse" in self._roles:
            self._worker.start()
        for loop in self._loops:
            loop.start()
        self._web.start()
        if self._scp:
            self._scp.start()

    def wait(self) -> str | None:
        """Until someone asks to stop (None), or a part died (its name)."""
        while not self._stop.wait(0.5):
            dead = [name for name, alive in self._threads().items() if not alive]
            if dead:
                log.error("part_died", extra={"detail": ", ".join(dead)})
                return ", ".join(dead)
        return None

    def ask_to_stop(self) -> None:
        """Make `wait` return. Safe in a signal handler."""
        self._stop.set()

    def stop(self) -> None:
        """Refuse new associations, finish what runs or park it, and close. To be called once."""
        log.info("stopping")
        self._stop.set()
        if self._scp:
            self._scp.stop()
        for loop in self._loops:
            loop.ask_to_stop()
        if not self._analysing.join(FINISH_S):
            self._worker.kill()  # the analysis ends; its job goes back to ready
        until = time.monotonic() + CLOSE_S
        for loop in self._loops:
            loop.join(max(0.0, until - time.monotonic()))
        self._worker.stop()
        self._web.stop()
        self.auditing.finish(AuditEvent.APPLICATION_STOPPED)
        if self._nodes:
            with suppress(SQLAlchemyError):  # then it is taken for dead a little later
                self._nodes.leave()
        self._engine.dispose()
        os.close(self._lock)
        log.info("stopped")

    def readiness(self) -> Mapping[str, str]:
        """What is wrong with each part; "" where nothing is."""
        parts = {name: "" if alive else "not running" for name, alive in self._threads().items()}
        parts["disk"] = self._store.trouble()
        try:
            self.history.count_by_state()
            parts["database"] = self._soundness.trouble
        except SQLAlchemyError as problem:
            parts["database"] = self._soundness.trouble or type(problem).__name__
        return parts

    def refuses_associations(self) -> bool:
        """Whether whoever wants to send should come again later: the disk runs low, or the database is damaged."""
        return self._store.refuses_associations or bool(self._soundness.trouble)

    @property
    def _loops(self) -> tuple[Turns, ...]:
        return (
            *([self._beating, self._tidy_loop] if self._nodes else []),
            *self._delivering,
            *self._committing,
            self._withdrawing,
            self._analysing,
            *([self._assembling] if "receive" in self._roles else []),
            self._purge_loop,
            self._audit_loop,
        )

    def _threads(self) -> dict[str, bool]:
        return {
            **({"listener": self._scp.alive} if self._scp else {}),
            "web": self._web.alive,
            **{loop.name: loop.alive for loop in self._loops},
        }

    def _measure(self) -> None:
        """What the metrics read of the parts when they are asked for, and the label values that can be known now."""
        metrics = self.metrics
        metrics.associations_open.set_function(lambda: self._scp.open_associations if self._scp else 0)
        roles = {str(role): 1.0 for role in self._roles}
        metrics.register("ichnode_node_role", "What this node does", "role", lambda: roles)
        metrics.register("ichnode_nodes", "Living nodes that share the ledger", "role", self._count_nodes)
        metrics.disk_free_bytes.set_function(self._store.free_bytes)
        metrics.disk_reserve_bytes.set_function(self._store.reserve_bytes)
        metrics.register("ichnode_part_ready", "Whether a part is", "part", self._ready_parts)
        metrics.register("ichnode_job_waits_seconds", "The longest that a job waits now", "state", self._longest_waits)
        if self._tls:
            for name, file in (("certificate", self._tls.certificate), ("trusted", self._tls.trusted)):
                metrics.certificate_expiry.labels(name).set(expires_at(file))
        for why in TurnedAway:  # a counter that is there from the start is seen to grow when it first does
            metrics.associations_rejected.labels(why)
        for status in set(DimseStatus) - {DimseStatus.SUCCESS}:
            metrics.instances_refused.labels(f"0x{status:04X}")
        for destination in self._settings.destinations:
            for label in (*(verdict.value for verdict in Verdict), "dead"):
                metrics.deliveries.labels(destination.name, label)

    def _count_nodes(self) -> Mapping[str, float]:
        if self._nodes is None:
            return {str(role): 1.0 for role in self._roles}
        try:
            living = self._nodes.living()
        except SQLAlchemyError:
            return {}
        return {role: float(sum(role in node.roles for node in living)) for role in get_args(Role)}

    def _beat(self) -> bool:
        """Live, and take over what dead nodes had claimed."""
        assert self._nodes
        self._nodes.beat()
        if not self._nodes.may_judge():
            return False
        now = self._clock()
        self.intake.close_associations_of_dead_nodes(at=now)
        if taken := self.ledger.take_over(at=now):
            log.warning("taken_over", extra={"count": taken, "detail": "jobs of a node that died"})
            self._analysing.wake()
        return False

    def _purge(self) -> bool:
        """One turn; and a job that was planned for a destination of an earlier configuration does not wait for it."""
        if self._nodes is None:  # several may have configurations of different age
            self._give_up_on_unknown()
        return self._purging.turn()

    def _give_up_on_unknown(self) -> None:
        self.outbox.give_up_on_unknown([d.name for d in self._settings.destinations], at=self._clock())

    def _tidy(self) -> bool:
        """Remove what nodes left that do not come back under their names."""
        if self._nodes and self._nodes.may_judge():
            self._nodes.forget_the_gone()
            living = {node.name for node in self._nodes.living()}
            since = self._clock() - UNTOUCHED_S
            swept = sum(store.sweep_after(living, untouched_since=since) for store in (self._store, self._result_store))
            if swept:
                log.info("swept", extra={"count": swept, "detail": "half-written files of nodes that are gone"})
        return False

    def _may_judge(self) -> bool:
        """Whether nodes that do not beat are dead."""
        return self._nodes is None or self._nodes.may_judge()

    def _one_for_all(self, name: str, turn: Callable[[], bool], *, idle_s: float, role: str | None = None) -> Loop:
        """A loop whose turns one node alone takes, where several share the ledger."""
        nodes = self._nodes
        return Loop(name, turn if nodes is None else lambda: nodes.leads(role) and turn(), idle_s=idle_s)

    def _placed(self, name: str, role: str, turn: Callable[[int], bool], ready: Callable[[], Sequence[Offer]]) -> Turns:
        """Turns that Procrastinate places, here where this node has the role; anywhere else they are only offered."""
        from ichnode.storage.placed import PlacedTurns

        return PlacedTurns(
            name,
            url=self._settings.database_url,
            node=self._settings.node_name,
            ready=ready,
            turn=turn if role in self._roles else None,
            may_judge=self._may_judge,
        )

    def _ready_parts(self) -> Mapping[str, float]:
        return {part: float(not trouble) for part, trouble in self.readiness().items()}

    def _longest_waits(self) -> Mapping[str, float]:
        """Seconds, by the state that the job waits in; 0 where none does, nothing where the ledger cannot be read."""
        since, now = _read(self.history.longest_in_state, None), self._clock()
        if since is None:
            return {}
        return {state.value: max(0.0, now - since.get(state, now)) for state in ON_THE_WAY}

    def _turned_away(self, rejection: Rejection) -> None:
        self.metrics.associations_rejected.labels(rejection.why).inc()
        self.auditing.association_rejected(
            calling_ae_title=rejection.calling_ae_title,
            called_ae_title=rejection.called_ae_title,
            peer=rejection.peer,
            reason=rejection.reason,
        )

    def _wake_up(self) -> None:
        """A person changed what there is to do."""
        self._analysing.wake()
        self._wake_delivering()

    def _wake_delivering(self) -> None:
        for loop in self._delivering:
            loop.wake()

    def _deliver_turns(self, destination: DicomDestination | WebDestination) -> Turns:
        fallback = Fallback(
            destination.name,
            outbox=self.outbox,
            refused=self.refused_classes,
            offer_again_s=self._settings.delivery.offer_again_days * 86_400,
            clock=self._clock,
        )
        stage = DeliverStage(
            destination.name,
            send=self._send(destination),
            commits=_commits(destination),
            fallback=fallback if destination.fallback else None,
            outbox=self.outbox,
            history=self.history,
            metrics=self.metrics,
            retry=self._retry,
            clock=self._clock,
        )
        name = f"deliver {destination.name}"
        if self._nodes is None:
            return Loop(name, stage.turn, idle_s=POLL_S)
        longest_wait_s = self._settings.delivery.max_retry_s
        return self._placed(
            name,
            "deliver",
            stage.turn,
            lambda: self.outbox.due_jobs(destination.name, at=self._clock(), longest_wait_s=longest_wait_s),
        )

    def _commit_loop(self, destination: DicomDestination) -> Loop:
        stage = CommitStage(
            destination.name,
            request=partial(
                request_commitment,
                dicom_peer(self._settings, destination),
                calling_ae_title=self._settings.node.ae_title,
                wait_s=destination.commitment_wait_s,
            ),
            outbox=self.outbox,
            commitments=self._commitments,
            reports=self.commitment_reports,
            retry=self._retry,
            timeout_s=destination.commitment_timeout_s,
            clock=self._clock,
        )
        return self._one_for_all(f"commit {destination.name}", stage.turn, idle_s=POLL_S, role="deliver")

    def _withdraw_loop(self) -> Loop:
        stage = WithdrawStage(
            withdrawals=Withdrawals(self._engine),
            store=self._result_store,
            profile=result_profile(self._settings),
            clock=self._clock,
            wake=self._wake_delivering,
        )
        return self._one_for_all("withdraw", stage.turn, idle_s=POLL_S, role="deliver")

    def _send(self, destination: DicomDestination | WebDestination) -> Send:
        if isinstance(destination, DicomDestination):
            return partial(send, dicom_peer(self._settings, destination), calling_ae_title=self._settings.node.ae_title)
        return partial(store, stow_service(destination))

    def _analyse_turns(self) -> Turns:
        stage = AnalyseStage(
            worker=self._worker,
            ledger=self.ledger,
            history=self.history,
            intake=self.intake,
            store=self._result_store,
            metrics=self.metrics,
            results_sha256=self._settings.results_sha256,
            deadline_s=self._settings.inference.deadline_s,
            clock=self._clock,
            stopping=self._stop.is_set,
            wake=self._wake_delivering,
        )
        if self._nodes is None:
            return Loop("analyse", stage.turn, idle_s=POLL_S)

        def ready() -> list[Offer]:
            if "analyse" in self._roles:
                stage.settle()
            return self.ledger.ready()

        return self._placed("analyse", "analyse", stage.turn, ready)

    def _assemble_loop(self) -> Loop:
        stage = AssembleStage(
            intake=self.intake,
            ledger=self.ledger,
            metrics=self.metrics,
            rules=self._settings.decision_rules,
            results_sha256=self._settings.results_sha256,
            quiet_s=self._settings.completeness.quiet_s,
            max_wait_s=self._settings.completeness.max_wait_s,
            clock=self._clock,
            wake=self._analysing.wake,
        )
        return self._one_for_all("assemble", stage.turn, idle_s=POLL_S, role="receive")

    def _purge_stage(self) -> PurgeStage:
        retention = self._settings.retention
        return PurgeStage(
            RetentionPolicy(
                keep_s=None if retention.keep_days is None else retention.keep_days * 86400,
                free_bytes=None if retention.free_gb is None else int(retention.free_gb * 1e9),
                at_least_s=retention.at_least_hours * 3600,
            ),
            retention=Retention(self._engine),
            metrics=self.metrics,
            free_bytes=self._store.free_bytes,
            clock=self._clock,
        )

    def _audit_stage(self) -> AuditStage:
        return AuditStage(
            audit_collector(self._settings),
            trail=AuditTrail(self._engine),
            metrics=self.metrics,
            ae_title=self._settings.node.ae_title,
            clock=self._clock,
            sends=self._nodes.leads if self._nodes else lambda: True,
        )

    def _storage_scp(self) -> StorageSCP:
        receive = ReceiveStage(
            store=self._store,
            intake=self.intake,
            metrics=self.metrics,
            lenient=self._settings.node.lenient,
            clock=self._clock,
            wake=self._assembling.wake,
        )
        settings, node = self._settings, self._settings.node
        try:
            return StorageSCP(
                receive,
                ae_title=node.ae_title,
                host=node.host,
                port=node.port,
                max_associations=node.max_associations,
                max_associations_per_peer=node.max_associations_per_peer,
                most_bytes=node.max_object_mb * 1024**2,
                admitted=admitted_sources(settings),
                reported=self.commitment_reports.reported,
                turned_away=self._turned_away,
                refuses=self.refuses_associations,
                tls=server_context(self._tls, peer_certificate=settings.tls.peer_certificate) if self._tls else None,
            )
        except OSError as problem:
            reason = f"node.port: cannot listen on {node.host}:{node.port}: {os.strerror(problem.errno or 0)}"
            raise ConfigError((reason,)) from None


def _open_ledger(url: str) -> tuple[Engine, Soundness]:
    """The ledger in its newest form. Raises ConfigError when its file is damaged."""
    try:
        if not is_shared(url):
            look_for_damage(database_file(url), limit_s=LOOK_FOR_DAMAGE_S)
        engine = open_engine(url)
        if is_shared(url):
            from ichnode.storage.placed import prepare

            prepare(engine)
    except LedgerDamaged as problem:
        how = "restore a backup (docs/keeping.md); `ichnode db check` tells more"
        raise ConfigError((f"database.url: {url} cannot be used: it is damaged: {problem}; {how}",)) from None
    return engine, Soundness(engine)


def _read(read: Callable[[], _Found], otherwise: _Instead) -> _Found | _Instead:
    """For the metrics, which are told also when the ledger cannot be read."""
    try:
        return read()
    except SQLAlchemyError:
        return otherwise


def _commits(destination: DicomDestination | WebDestination) -> TypeGuard[DicomDestination]:
    return isinstance(destination, DicomDestination) and destination.commitment


def analyser_settings(settings: Settings) -> AnalyserSettings:
    """What the analysing process is built from."""
    inference = settings.inference
    return AnalyserSettings(
        bundles=settings.pipeline_bundles,
        bundles_dir=inference.bundles_dir,
        device=inference.device,
        clinical=settings.clinical.file,
        profile=result_profile(settings),
    )


def memory_limit_bytes(inference: Inference, gpu_driver: Path = GPU_DRIVER) -> int | None:
    """Of the analysing process. Without a word none beside a GPU: its driver reserves what it does not use."""
    if inference.memory_limit_mb is not None:
        return inference.memory_limit_mb * 1_000_000
    return None if inference.device != "cpu" and gpu_driver.exists() else MEMORY_LIMIT_BYTES


def result_profile(settings: Settings) -> ResultProfile:
    """Which objects are written, and how."""
    results = settings.results
    return ResultProfile(
        objects=frozenset(results.write),
        series_numbers={role.value: getattr(results, f"{role.value}_series_number") for role in ResultRole},
        followup_sop=results.followup_sop,
        followup_warning=results.followup_warning,
        sr_class=results.report_sop,
        device_serial_number=results.device_serial_number,
    )


def _lock(data_dir: Path, name: str | None) -> int:
    """Hold `data_dir` for this process: whoever held it before is dead, so its claims may be taken back.

    Where several nodes share it, that is so of the nodes of this name.
    """
    descriptor = os.open(data_dir / (f"lock-{name}" if name else "lock"), os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        other = f"another ichnode named {name}" if name else "another ichnode"
        raise ConfigError((f"node.data_dir: {other} runs on {data_dir}",)) from None
    return descriptor
