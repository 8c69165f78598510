"""What the analysing and delivering stages make of failures; the child process and the network are stand-ins."""

import errno

import pytest

from ichnode.domain.job import Job, JobState
from ichnode.errors import ConfigError, InferenceError, RefusedSeries, StaleClaim
from ichnode.metrics import Metrics
from ichnode.stages.analyse import AnalyseStage
from ichnode.stages.analyser import Analysis, ComposedObject
from ichnode.stages.loop import Loop
from ichnode.storage.files import FileStore

JOB = Job(
    id=1,
    study_instance_uid="1",
    series_instance_uid="1.1",
    state=JobState.ANALYSING,
    decision="analyse",
    reason="chosen",
    detail="",
    decision_reason="chosen",
    decision_detail="",
    rule="r",
    run=("hematoma",),
    send_to=("pacs",),
    priority="routine",
    report_ignored=False,
    evidence="quiet",
    snapshot_id=1,
    supersedes=None,
    attempts=1,
    created_at=0.0,
    updated_at=0.0,
)
ANALYSIS = Analysis(
    objects=(
        ComposedObject(
            role="summary_page",
            sop_class_uid="1.2",
            sop_instance_uid="1.3",
            series_instance_uid="1.4",
            encoded=b"DICM",
        ),
    ),
    findings={"hematoma": None},
    seconds={"read": 0.1, "infer": 0.2},
    model="m",
    device="cpu",
)


class RecordingLedger:
    """Notes what the stage says of the job."""

    def __init__(self, *, stale=False):
        self.said = []
        self._stale = stale

    def claim(self, *, at, job_id=None):
        return JOB

    def finish_analysis(self, job, files, **_):
        if self._stale:
            raise StaleClaim("superseded")
        self.said.append(("finished", [f.role for f in files]))
        return JobState.DELIVERING

    def refuse(self, job, *, reason, detail, at):
        self.said.append(("refused", reason))

    def fail_attempt(self, job, *, reason, detail, at):
        self.said.append(("failed", reason))
        return JobState.FAILED

    def give_back(self, job, *, detail, at):
        self.said.append(("given back", detail))

    def interrupt(self, job, *, reason, detail, at):
        self.said.append(("interrupted", reason))
        return JobState.READY

    def recover(self, *, at):
        self.said.append(("recovered", at))
        return 1


class StubWorker:
    """Answers, or raises, what the test wants."""

    def __init__(self, outcome):
        self._outcome = outcome

    def run(self, request, deadline_s):
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


@pytest.fixture
def make_stage(tmp_path, monkeypatch):
    def make_stage(outcome, *, stopping=False, stale=False, store=None, monotonic=lambda: 0.0):
        ledger = RecordingLedger(stale=stale)
        store = store or FileStore(tmp_path / "results")
        stage = AnalyseStage(
            worker=StubWorker(outcome),
            ledger=ledger,
            history=None,
            intake=None,
            store=store,
            metrics=Metrics(sources=[], count_jobs=dict),
            results_sha256="",
            deadline_s=1,
            clock=lambda: 0.0,
            stopping=lambda: stopping,
            wake=lambda: None,
            monotonic=monotonic,
        )
        monkeypatch.setattr(stage, "_request", lambda job: None)
        return stage, ledger

    return make_stage


@pytest.fixture
def take_turn(make_stage, tmp_path):
    def take_turn(outcome, **options):
        stage, ledger = make_stage(outcome, **options)
        worked = stage.turn()
        return ledger.said, worked, sorted(f for f in (tmp_path / "results").rglob("*") if f.is_file())

    return take_turn


def test_an_analysis_is_kept_before_the_job_moves_on(take_turn):
    said, worked, files = take_turn(ANALYSIS)
    assert (said, worked) == ([("finished", ["summary_page"])], True)
    assert [f.read_bytes() for f in files] == [b"DICM"]


@pytest.mark.parametrize("reason", ["deadline", "crash", "memory", "error", "bundle"])
def test_a_failing_child_fails_the_attempt_with_its_reason(take_turn, reason):
    assert take_turn(InferenceError(reason, "why"))[0] == [("failed", reason)]


def test_a_bundle_that_was_altered_since_the_start_fails_the_attempt(take_turn):
    said, worked, _ = take_turn(ConfigError(("inference.hematoma_bundle: altered",)))
    assert (said, worked) == ([("failed", "bundle")], True)


def test_a_child_killed_because_the_node_stops_costs_no_attempt_but_is_counted(take_turn):
    assert take_turn(InferenceError("crash", "SIGKILL"), stopping=True)[0] == [("interrupted", "crash")]


def test_a_refused_series_is_no_failure(take_turn):
    assert take_turn(RefusedSeries("no_brain", "0 mL"))[0] == [("refused", "no_brain")]


def test_a_job_left_by_an_error_that_nobody_foresaw_is_failed_at_the_next_turn(make_stage):
    stage, ledger = make_stage(LookupError("unforeseen"))
    with pytest.raises(LookupError):
        stage.turn()
    assert ledger.said == []
    ledger.claim = lambda **_: None
    assert stage.turn() is False
    assert ledger.said == [("failed", "error")]


def test_between_turns_what_an_error_left_claimed_goes_on(make_stage, caplog):
    stage, ledger = make_stage(LookupError("unforeseen"))
    with pytest.raises(LookupError):
        stage.turn()
    stage.settle()
    assert ledger.said == [("failed", "error"), ("recovered", 0.0)]
    assert [r.count for r in caplog.records if r.message == "recovered"] == [1]


def test_what_a_turn_is_working_on_is_left_alone(make_stage):
    stage, ledger = make_stage(ANALYSIS)
    claim, ledger.claim = ledger.claim, lambda **job: (stage.settle(), claim(**job))[1]
    assert stage.turn()
    assert [what for what, _ in ledger.said] == ["finished"]


def test_results_of_a_superseded_job_are_removed(take_turn):
    said, worked, files = take_turn(ANALYSIS, stale=True)
    assert (said, worked, files) == ([], True, [])


def test_a_full_disk_gives_the_job_back_and_waits(take_turn, tmp_path):
    class FullStore(FileStore):
        def keep(self, parts):
            raise OSError(28, "No space left on device")

    said, worked, files = take_turn(ANALYSIS, store=FullStore(tmp_path / "results"))
    assert (said, worked, files) == ([("given back", "no room for the results")], False, [])


TROUBLE = [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE]


@pytest.mark.parametrize("number", TROUBLE)
@pytest.mark.parametrize("of", ["the node", "its child"])
def test_a_disk_in_trouble_costs_no_attempt(take_turn, number, of):
    trouble = OSError(number, "") if of == "the node" else InferenceError("error", "", errno=number)
    said, worked, _ = take_turn(trouble)
    assert (said, worked) == ([("interrupted", "disk")], False)


def test_a_quota_that_is_used_up_gives_the_job_back_as_a_full_disk_does(take_turn):
    said, worked, _ = take_turn(InferenceError("error", "", errno=errno.EDQUOT))
    assert (said, worked) == ([("given back", "no room for the results")], False)


def test_an_error_of_the_child_that_does_not_pass_fails_the_attempt(take_turn):
    assert take_turn(InferenceError("error", "", errno=errno.ENOENT))[0] == [("failed", "error")]


def test_after_trouble_with_the_disk_the_stage_rests_longer_each_time_until_a_job_succeeds(make_stage):
    now, tried = [0.0], []
    stage, ledger = make_stage(ANALYSIS, monotonic=lambda: now[0])

    def outcome(request, deadline_s):
        tried.append(now[0])
        if len(tried) == 6:
            return ANALYSIS
        raise OSError(errno.EIO, "")

    stage._worker.run = outcome
    while len(tried) < 8:
        if not stage.turn():
            now[0] += 1.0
    assert tried == [0, 2, 6, 14, 30, 60, 60, 62]
    assert [what for what, _ in ledger.said] == ["interrupted"] * 5 + ["finished"] + ["interrupted"] * 2


def test_no_job_is_taken_while_there_is_no_room_for_results(take_turn, tmp_path):
    class NoRoom(FileStore):
        def has_room(self):
            return False

    assert take_turn(ANALYSIS, store=NoRoom(tmp_path / "results"))[:2] == ([], False)


def test_a_loop_survives_a_failing_turn_and_goes_on_when_woken():
    from threading import Event

    done, turns = Event(), []

    def turn():
        turns.append(len(turns))
        if len(turns) == 1:
            raise ValueError("once")
        done.set()
        return False

    loop = Loop("test", turn, idle_s=60)
    loop.start()
    for _ in range(500):
        loop.wake()
        if done.wait(0.01):
            break
    loop.ask_to_stop()
    assert loop.join(5)
    assert len(turns) >= 2
