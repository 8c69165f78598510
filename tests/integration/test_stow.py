"""Sending by STOW-RS over real sockets, and what the delivering stage notes of it."""

import shutil
import socket
import subprocess
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import update

from ichnode.dicom import stow
from ichnode.dicom.statuses import Verdict
from ichnode.dicom.stow import StowService, store
from ichnode.domain.job import JobState
from ichnode.domain.judgement import Opinion, RejectReason
from ichnode.domain.judgement import Verdict as Judged
from ichnode.errors import DeliveryError
from ichnode.storage.judgements import Judgements
from ichnode.storage.schema import jobs
from ichnode.storage.withdrawals import Withdrawals
from tests.delivery_factory import NOW, Delivering
from tests.stow_server import Answer, StowServer

DELIVERED, TRANSIENT, PERMANENT = Verdict.DELIVERED, Verdict.TRANSIENT, Verdict.PERMANENT


def service_at(server, **options):
    return StowService(**{"url": server.url, "connect_timeout_s": 2, "response_timeout_s": 5} | options)


def outcomes_of(server, objects, **options):
    return [*chain.from_iterable(store(service_at(server, **options), objects))]


def verdicts(server, objects, **options):
    return [outcome.verdict for outcome in outcomes_of(server, objects, **options)]


def test_files_arrive_as_they_are_in_one_request(objects):
    with StowServer() as server:
        outcomes = outcomes_of(server, objects)
    assert [o.verdict for o in outcomes] == [DELIVERED] * 3
    assert outcomes[0].detail == "HTTP 200 OK"
    assert server.parts == [Path(o.file).read_bytes() for o in objects]
    (request,) = server.requests
    assert request["path"] == "/dicom-web/studies"
    assert request["accept"] == "application/dicom+json"
    assert "authorization" not in request
    assert "transfer-encoding" not in request


def test_many_large_files_travel_in_several_requests(objects, monkeypatch):
    monkeypatch.setattr(stow, "REQUEST_BYTES", Path(objects[0].file).stat().st_size + 10)
    with StowServer() as server:
        assert verdicts(server, objects) == [DELIVERED] * 3
    assert len(server.requests) == 3
    assert server.taken == [o.sop_instance_uid for o in objects]


def test_a_file_that_cannot_be_read_is_refused_for_good_and_the_others_are_sent(objects):
    Path(objects[1].file).write_bytes(b"<html>" * 100)
    with StowServer() as server:
        outcomes = outcomes_of(server, objects)
    assert [o.verdict for o in outcomes] == [DELIVERED, PERMANENT, DELIVERED]
    assert outcomes[1].detail == "result file cannot be read: no DICOM file"
    assert server.taken == [objects[0].sop_instance_uid, objects[2].sop_instance_uid]


@pytest.mark.parametrize("code", [200, 202, 409])
def test_each_instance_has_the_verdict_of_the_reason_in_the_response(objects, code):
    with StowServer(Answer(code)) as server:
        server.refused = {objects[0].sop_instance_uid: 0xA700, objects[2].sop_instance_uid: 0xC000}
        outcomes = outcomes_of(server, objects)
    assert [(o.verdict, o.status) for o in outcomes] == [(TRANSIENT, 0xA700), (DELIVERED, 0), (PERMANENT, 0xC000)]


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, None, DELIVERED),
        (200, b"<NativeDicomModel/>", DELIVERED),
        (200, [], DELIVERED),
        (200, {"00081199": "nonsense"}, DELIVERED),
        (202, None, TRANSIENT),
        (409, None, PERMANENT),
        (400, None, PERMANENT),
        (403, None, PERMANENT),
        (404, b"no such page", PERMANENT),
        (415, None, PERMANENT),
        (401, None, TRANSIENT),
        (408, None, TRANSIENT),
        (413, None, TRANSIENT),
        (429, None, TRANSIENT),
        (500, None, TRANSIENT),
        (503, b"overloaded", TRANSIENT),
    ],
)
def test_without_a_list_the_status_code_speaks_for_all(objects, code, body, expected):
    with StowServer(Answer(code, body)) as server:
        assert verdicts(server, objects) == [expected] * 3


def test_an_instance_that_a_list_does_not_mention_is_not_delivered(objects):
    only = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [objects[0].sop_instance_uid]}}]}}
    with StowServer(Answer(200, only)) as server:
        assert verdicts(server, objects) == [DELIVERED, TRANSIENT, TRANSIENT]


def test_an_error_that_lists_instances_is_still_an_error(objects):
    with StowServer(Answer(503)) as server:
        assert verdicts(server, objects) == [TRANSIENT] * 3


def test_a_redirect_is_not_followed(objects):
    with StowServer() as elsewhere, StowServer(Answer(307, None, {"Location": elsewhere.url})) as server:
        outcomes = outcomes_of(server, objects, token="secret")
        assert elsewhere.requests == []
    assert outcomes[0].verdict is PERMANENT
    assert outcomes[0].detail == "HTTP 307 redirects to 127.0.0.1, which is not followed"


def test_a_token_file_is_read_anew_for_each_request(objects, tmp_path):
    token = tmp_path / "token"
    with StowServer() as server:
        for content in ("first\n", "second\n"):
            token.write_text(content)
            verdicts(server, objects, token_file=token)
    assert [r["authorization"] for r in server.requests] == ["Bearer first", "Bearer second"]


def test_name_and_password_are_sent_as_basic_authentication(objects, tmp_path):
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    with StowServer() as server:
        verdicts(server, objects, username="ichnode", password_file=password)
    assert server.requests[0]["authorization"] == "Basic aWNobm9kZTpvcGVuIHNlc2FtZQ=="


def test_a_missing_token_file_is_worth_another_attempt_and_nothing_is_sent_without_it(objects, tmp_path):
    with StowServer() as server, pytest.raises(DeliveryError, match="cannot be read") as problem:
        verdicts(server, objects, token_file=tmp_path / "none")
    assert not problem.value.permanent
    assert server.requests == []


@pytest.mark.parametrize("key", ["token_file", "password_file"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b" \n"], ids=["no text", "empty"])
def test_a_file_without_a_secret_is_worth_another_attempt_and_nothing_is_sent_without_it(
    objects, tmp_path, key, content
):
    (tmp_path / "file").write_bytes(content)
    with StowServer() as server, pytest.raises(DeliveryError, match="file holds no secret") as problem:
        verdicts(server, objects, username="ichnode", **{key: tmp_path / "file"})
    assert not problem.value.permanent
    assert server.requests == []


def test_blanks_around_a_password_are_no_part_of_it(objects, tmp_path):
    (tmp_path / "password").write_text(" open sesame \r\n")
    with StowServer() as server:
        verdicts(server, objects, username="ichnode", password_file=tmp_path / "password")
    assert server.requests[0]["authorization"] == "Basic aWNobm9kZTpvcGVuIHNlc2FtZQ=="


def test_secrets_are_not_shown():
    assert "secret" not in repr(StowService(url="https://h", token="secret"))


def test_a_server_that_never_answers_is_given_up_after_the_time_limit(objects):
    with StowServer(stalls=True) as server, pytest.raises(DeliveryError, match="ReadTimeout") as problem:
        verdicts(server, objects, response_timeout_s=0.3)
    assert not problem.value.permanent


def test_a_server_that_does_not_read_is_given_up_after_the_time_limit(objects, tmp_path):
    (tmp_path / "large.dcm").write_bytes(bytes(128) + b"DICM" + bytes(30_000_000))
    large = replace(objects[0], file=str(tmp_path / "large.dcm"))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        service = StowService(url=f"http://127.0.0.1:{deaf.getsockname()[1]}", response_timeout_s=0.5)
        with pytest.raises(DeliveryError, match="Timeout"):
            list(store(service, [large]))


def test_an_answer_without_an_end_is_given_up(objects, monkeypatch):
    monkeypatch.setattr(stow, "_RESPONSE_BYTES", 100)
    with StowServer(Answer(200, b"x" * 10_000)) as server, pytest.raises(DeliveryError, match="without an end"):
        verdicts(server, objects)


def test_a_server_that_is_not_there_is_worth_another_attempt(objects):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        service = StowService(url=f"http://127.0.0.1:{unused.getsockname()[1]}", connect_timeout_s=1)
        with pytest.raises(DeliveryError, match="ConnectError") as problem:
            list(store(service, objects))
    assert not problem.value.permanent


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Certificate and key of 127.0.0.1, signed by itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_a_server_is_trusted_by_its_configured_ca_alone(objects, certificate):
    with StowServer(tls=certificate) as server:
        assert verdicts(server, objects, ca=certificate[0]) == [DELIVERED] * 3
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            verdicts(server, objects)


def test_what_a_server_refuses_fails_its_delivery_and_what_it_cannot_take_now_is_tried_later(engine, objects):
    with StowServer() as server:
        delivering = Delivering(engine, objects, sender=partial(store, service_at(server)))
        server.refused = {objects[1].sop_instance_uid: 0xA700, objects[2].sop_instance_uid: 0xA900}
        assert delivering.stage.turn()
        assert delivering.deliveries() == [("delivered", 1), ("pending", 1), ("refused", 1)]
        server.refused = {}
        delivering.now += 8
        assert delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 1), ("delivered", 2), ("refused", 1)]
    assert delivering.job_state() is JobState.FAILED


def test_what_one_request_took_while_it_was_rejected_is_delivered_and_named_by_the_note(engine, objects):
    def reject_meanwhile():
        with engine.begin() as db:
            db.execute(update(jobs).values(findings={"model": {"name": "m", "version": "1"}, "hematoma": None}))
        opinion = Opinion(verdict=Judged.REJECTED, reason=RejectReason.FALSE_ALARM)
        Judgements(engine).record(delivering.job_id, opinion, who="reader", at=NOW, withdraw=True)

    with StowServer() as server:
        server.meanwhile = reject_meanwhile
        delivering = Delivering(engine, objects, sender=partial(store, service_at(server)))
        delivering.stage.turn()
    assert delivering.deliveries() == [("delivered", 1)] * 3
    (taken,) = Withdrawals(engine).next().taken
    assert [result.sop_instance_uid for result in taken.results] == server.taken
