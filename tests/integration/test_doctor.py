"""`ichnode doctor` finds what is wrong with an installation, says what to do, and disturbs nobody."""

import json
import os
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import trustme
from pydicom.uid import Comprehensive3DSRStorage, CTImageStorage, SecondaryCaptureImageStorage, SegmentationStorage
from sqlalchemy import func, select
from typer.testing import CliRunner

from ichnode.cli import app
from ichnode.config import Settings
from ichnode.dicom.tls import TlsFiles, server_context
from ichnode.doctor import Level, examine
from ichnode.doctor.certificates import of_time
from ichnode.doctor.installation import check_bundles, check_clock, check_configuration, check_device, check_disk
from ichnode.doctor.network import (
    check_audit_collector,
    check_dicom_destination,
    check_dicom_port,
    check_web_destination,
    check_web_port,
)
from ichnode.inference.bundle import shipped_bundles
from ichnode.node import Node
from ichnode.storage.schema import associations, audit, open_engine
from tests.pacs import CommittingPacs, Pacs
from tests.stow_server import Answer, StowServer
from tests.syslog_collector import SyslogCollector, make_certificate

NOW = datetime(2026, 11, 27, tzinfo=UTC).timestamp()


def settings_for(tmp_path, **sections):
    """A configuration for the loopback address, with ports that the system chooses."""
    base = {"node": {"host": "127.0.0.1", "port": 0, "data_dir": tmp_path / "data"}, "web": {"port": 0}}
    return Settings.model_validate(
        {key: base.get(key, {}) | sections.get(key, {}) for key in base}
        | {key: value for key, value in sections.items() if key not in base}
    )


def destination(port, **more):
    return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, **more}


def of_destination(tmp_path, table, **sections):
    settings = settings_for(tmp_path, destinations=[table], **sections)
    return list(check_dicom_destination(settings, settings.destinations[0], now=NOW))


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_an_installation_with_its_pacs_has_nothing_to_fix(tmp_path):
    (tmp_path / "data").mkdir()
    with Pacs() as pacs:
        settings = settings_for(
            tmp_path, sources=[{"ae_title": "CT1"}], destinations=[destination(pacs.port)], node={"reserve_mb": 50}
        )
        found = list(examine(settings))
    assert {check.name: check.level for check in found if check.level is not Level.OK} == {}
    assert {"configuration", "port (DICOM)", "destination pacs", "disk", "database", "clock", "device"} <= {
        check.name for check in found
    }
    assert pacs.taken == []
    assert list((tmp_path / "data").iterdir()) == []  # the probe is gone


def test_the_running_node_is_recognised_and_notices_nothing(tmp_path, free_port):
    with socket.create_server(("127.0.0.1", 0)) as other:
        web_port = other.getsockname()[1]
    settings = settings_for(
        tmp_path, node={"port": free_port, "reserve_mb": 50}, web={"port": web_port}, sources=[{"ae_title": "CT1"}]
    )
    node = Node(settings)
    node.start()
    engine = open_engine(settings.database_url)
    rows = select(select(func.count()).select_from(audit).scalar_subquery(), func.count()).select_from(associations)
    try:
        with engine.connect() as db:
            before = db.execute(rows).one()
        dicom, web = check_dicom_port(settings), check_web_port(settings)
        with engine.connect() as db:
            assert db.execute(rows).one() == before
    finally:
        node.stop()
        engine.dispose()
    assert (dicom.level, web.level) == (Level.OK, Level.OK)
    assert "our node answers C-ECHO from CT1" in dicom.detail
    assert "the node is ready: listener" in web.detail


def test_a_port_that_somebody_else_has_is_a_failure_with_the_command_that_finds_him(tmp_path, taken_port):
    settings = settings_for(tmp_path, node={"port": taken_port}, web={"port": taken_port})
    checks = [check_web_port(settings), check_dicom_port(settings_for(tmp_path, node={"port": taken_port}))]
    for check in checks:
        assert check.level is Level.FAILURE
        assert f"ss -ltnp 'sport = :{taken_port}'" in check.fix


def test_a_free_port_is_all_right_and_stays_free(tmp_path, free_port):
    settings = settings_for(tmp_path, node={"port": free_port})
    assert check_dicom_port(settings).detail == f"127.0.0.1:{free_port} is free: no node runs on it"
    assert check_dicom_port(settings).level is Level.OK


def test_an_address_of_another_machine_cannot_be_listened_on(tmp_path, free_port):
    check = check_dicom_port(settings_for(tmp_path, node={"host": "192.0.2.1", "port": free_port}))
    assert (check.level, check.detail) == (Level.FAILURE, "Cannot assign requested address")
    assert "node.host" in check.fix


def test_a_destination_says_what_it_accepts(tmp_path):
    with Pacs() as pacs:
        (check,) = of_destination(tmp_path, destination(pacs.port))
    assert check.level is Level.OK
    assert check.detail.startswith(f"PACS@127.0.0.1:{pacs.port}: C-ECHO in ")
    assert check.detail.endswith("accepts Comprehensive 3D SR, Secondary Capture Image, Segmentation")


def test_a_destination_without_segmentation_has_the_summary_page_where_that_is_allowed(tmp_path):
    with CommittingPacs(takes=(SecondaryCaptureImageStorage, CTImageStorage), commits=False) as pacs:
        (stands_in,) = of_destination(tmp_path, destination(pacs.port))
        (fails,) = of_destination(tmp_path, destination(pacs.port, fallback=False))
        (uncommitted,) = of_destination(tmp_path, destination(pacs.port, commitment=True))
    assert stands_in.level is Level.WARNING
    assert "refuses Comprehensive 3D SR, Segmentation: the summary page stands in" in stands_in.detail
    assert "ichnode destinations reset pacs" in stands_in.fix
    assert (fails.level, uncommitted.level) == (Level.FAILURE, Level.FAILURE)
    assert "refuses storage commitment" in uncommitted.detail


def test_a_destination_that_takes_no_rejection_notes_is_told_where_a_rule_makes_some(tmp_path):
    rules = [{"name": "r", "withdraw_rejected": True}]
    takes = (SecondaryCaptureImageStorage, SegmentationStorage, Comprehensive3DSRStorage)
    with CommittingPacs(takes=takes, commits=False) as pacs:
        note, check = of_destination(tmp_path, destination(pacs.port), rules=rules)
    assert (note.level, check.level) == (Level.WARNING, Level.OK)
    assert note.detail == "it refuses them: nothing is withdrawn there"


def test_a_destination_that_takes_none_of_the_results_is_a_failure(tmp_path):
    with CommittingPacs(takes=(CTImageStorage,), commits=False) as pacs:
        (check,) = of_destination(tmp_path, destination(pacs.port))
    assert check.level is Level.FAILURE
    assert "does not accept Verification, accepts nothing" in check.detail


def test_a_destination_that_is_not_there_says_so(tmp_path, free_port):
    (check,) = of_destination(tmp_path, destination(free_port))
    assert check.level is Level.FAILURE
    assert check.detail.endswith(f"127.0.0.1:{free_port}: Connection refused")
    assert "firewalls" in check.fix


def test_a_destination_of_another_name_says_so(tmp_path):
    with Pacs(ae_title="ARCHIVE") as pacs:
        (check,) = of_destination(tmp_path, destination(pacs.port))
    assert check.level is Level.FAILURE
    assert check.fix == "ask how it is called there: PACS is not its AE title"


def test_a_destination_by_tls_shows_when_its_certificate_expires(start_receiving, tmp_path):
    authority = trustme.CA()
    files = _tls_files(tmp_path, authority, authority)
    port = start_receiving(tls=server_context(files), ae_title="PACS").port
    tls = {"certificate": files.certificate, "key": files.key, "trusted": files.trusted}
    accepts, certificate = of_destination(tmp_path, destination(port, tls=True), tls=tls)
    assert (accepts.level, certificate.name) == (Level.OK, "certificate of pacs")
    assert "by TLS: C-ECHO" in accepts.detail
    (plain,) = of_destination(tmp_path, destination(port))
    assert plain.level is Level.FAILURE
    strangers = _tls_files(tmp_path, trustme.CA(), trustme.CA())
    tls = {"certificate": strangers.certificate, "key": strangers.key, "trusted": strangers.trusted}
    (untrusted,) = of_destination(tmp_path, destination(port, tls=True), tls=tls)
    assert "TLS: its certificate is not trusted: " in untrusted.detail
    assert "tls.trusted" in untrusted.fix


def _tls_files(folder, signer, trusted):
    shown = signer.issue_cert("127.0.0.1")
    files = TlsFiles(certificate=folder / "shown.crt", key=folder / "shown.key", trusted=folder / "trusted.pem")
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in shown.cert_chain_pems))
    files.key.write_bytes(shown.private_key_pem.bytes())
    files.trusted.write_bytes(trusted.cert_pem.bytes())
    return files


@pytest.mark.parametrize(
    ("code", "level", "fix"),
    [
        (200, Level.OK, ""),
        (405, Level.OK, ""),
        (401, Level.FAILURE, "token_file"),
        (404, Level.FAILURE, "without /studies"),
        (302, Level.FAILURE, "where it leads"),
        (503, Level.FAILURE, "trouble of its own"),
    ],
)
def test_a_dicomweb_service_is_asked_for_its_options_and_nothing_is_stored(tmp_path, code, level, fix):
    with StowServer(Answer(code=code, headers={"Location": "http://elsewhere/"} if code == 302 else {})) as server:
        settings = settings_for(tmp_path, destinations=[{"name": "web", "url": server.url, "token": "secret"}])
        (check,) = check_web_destination(settings.destinations[0], now=NOW)
    assert check.level is level
    assert fix in check.fix
    assert server.requests[0]["path"] == "/dicom-web/studies"
    assert server.requests[0]["authorization"] == "Bearer secret"
    assert server.taken == []


def test_a_dicomweb_service_by_tls_needs_to_be_trusted_and_shows_when_its_certificate_expires(tmp_path):
    certificate, key = make_certificate(tmp_path)
    with StowServer(tls=(certificate, key)) as server:
        table = {"name": "web", "url": server.url}
        known, unknown = settings_for(
            tmp_path, destinations=[{**table, "ca": certificate}, {**table, "name": "b"}]
        ).destinations
        answers, expiry = check_web_destination(known, now=time.time())
        (untrusted,) = check_web_destination(unknown, now=time.time())
    assert (answers.level, expiry.level) == (Level.OK, Level.WARNING)  # it is good for two days
    assert "certificate verify failed" in untrusted.detail.lower()


def test_the_audit_collector_is_called_and_told_nothing(tmp_path, free_port):
    certificate, key = make_certificate(tmp_path)
    with SyslogCollector(certificate, key) as collector:
        audit_section = {"host": "127.0.0.1", "port": collector.port, "ca_file": certificate}
        (reached,) = check_audit_collector(settings_for(tmp_path, audit=audit_section))
        (untrusted,) = check_audit_collector(settings_for(tmp_path, audit=audit_section | {"ca_file": None}))
    (absent,) = check_audit_collector(settings_for(tmp_path, audit={"host": "127.0.0.1", "port": free_port}))
    assert (reached.level, collector.messages) == (Level.OK, [])
    assert untrusted.level is Level.FAILURE
    assert (absent.level, absent.detail) == (Level.FAILURE, "Connection refused")
    assert list(check_audit_collector(settings_for(tmp_path))) == []


@pytest.mark.parametrize(("days", "level"), [(-1, Level.FAILURE), (20, Level.WARNING), (22, Level.OK)])
def test_a_certificate_is_told_three_weeks_before_it_ends(days, level):
    at = NOW + timedelta(days=days).total_seconds()
    assert of_time("certificate", "x", at, NOW).level is level


def test_a_full_disk_is_a_failure_and_a_nearly_full_one_a_warning(tmp_path, monkeypatch):
    settings = settings_for(tmp_path)
    real = os.statvfs

    def with_free(bytes_free):
        def statvfs(path):
            disk = real(path)
            fields = ("f_blocks", "f_frsize", "f_files", "f_favail", "f_flag")
            return SimpleNamespace(
                **{name: getattr(disk, name) for name in fields} | {"f_blocks": 10**9},
                f_bavail=bytes_free // disk.f_frsize,
            )

        monkeypatch.setattr(os, "statvfs", statvfs)
        return check_disk(settings)

    full, nearly, room = with_free(400_000_000), with_free(900_000_000), with_free(9_000_000_000)
    assert (full.level, nearly.level) == (Level.FAILURE, Level.WARNING)
    assert "below the reserve" in full.detail
    assert "new associations are rejected" in nearly.detail
    assert (room.level, room.fix) == (Level.OK, "")
    assert room.detail.endswith(f"`ichnode serve` will make {settings.node.data_dir}")


def test_a_data_folder_that_cannot_be_made_is_a_failure(tmp_path):
    (tmp_path / "file").touch()
    for data_dir in (tmp_path / "file", tmp_path / "file" / "data"):
        check = check_disk(settings_for(tmp_path, node={"data_dir": data_dir}))
        assert check.level is Level.FAILURE
        assert check.detail.startswith(f"{data_dir}: ")
        assert check.detail.endswith("cannot make it: Not a directory")


def test_a_data_folder_on_a_disk_that_is_not_mounted_is_a_failure(tmp_path):
    (tmp_path / "data").symlink_to(tmp_path / "unmounted" / "ichnode")
    check = check_disk(settings_for(tmp_path, node={"data_dir": tmp_path / "data"}))
    assert check.level is Level.FAILURE
    assert check.detail.endswith("cannot make it: No such file or directory")


def test_a_disk_that_cannot_be_written_is_a_failure(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    check = check_disk(settings_for(tmp_path))
    assert check.level is Level.FAILURE
    assert "Input/output error" in check.detail
    assert list(tmp_path.iterdir()) == []


def test_a_clock_behind_the_database_or_in_another_century_is_a_failure():
    assert check_clock(now=NOW, newest_at=NOW - 7200).detail.endswith("newest row of the database 2 h before")
    behind = check_clock(now=NOW, newest_at=NOW + 3600)
    assert (behind.level, behind.fix) == (Level.FAILURE, "set the clock and keep it: timedatectl set-ntp true")
    assert "3600 s before the newest row" in behind.detail
    assert check_clock(now=0, newest_at=None).level is Level.FAILURE


def test_a_gpu_that_is_not_there_is_a_failure(tmp_path):
    assert check_device(settings_for(tmp_path, inference={"device": "cuda:7"})).level is Level.FAILURE
    assert check_device(settings_for(tmp_path, inference={"device": "cpu"})).detail.startswith("cpu: ")


def test_bundles_that_are_absent_altered_or_for_something_else_are_failures(tmp_path):
    shutil.copytree(shipped_bundles() / "hematoma-baseline", tmp_path / "bundles" / "hematoma-baseline")
    weights = tmp_path / "bundles" / "hematoma-baseline" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    rules = [{"name": "r", "run": ["hematoma", "expansion", "prognosis"]}]
    names = {"hematoma_bundle": "hematoma-baseline", "expansion_bundle": "none", "prognosis_bundle": "expansion"}
    inference = names | {"bundles_dir": tmp_path / "bundles"}
    altered, absent, other = check_bundles(settings_for(tmp_path, rules=rules, inference=inference))
    assert {check.level for check in (altered, absent, other)} == {Level.FAILURE}
    assert "was altered" in altered.detail
    assert "there is no bundle 'none'" in absent.detail
    assert "a bundle of the kind expansion" in other.detail


def test_a_configuration_without_sources_or_its_files_says_so(tmp_path):
    web = {"name": "web", "url": "https://h/dicom-web", "token_file": tmp_path / "token"}
    missing, sources = check_configuration(settings_for(tmp_path, destinations=[web]))
    assert (missing.level, sources.level) == (Level.FAILURE, Level.WARNING)
    assert "No such file" in missing.detail


def test_the_command_prints_a_line_for_each_check_and_fails_with_any_failure(tmp_path, free_port):
    file = tmp_path / "ichnode.toml"
    file.write_text(
        f'[node]\nport = 0\ndata_dir = "{tmp_path / "data"}"\n[web]\nport = 0\n[[destinations]]\nname = "pacs"\n'
        f'ae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port}\n'
    )
    said = CliRunner().invoke(app, ["doctor", "--config", str(file)])
    assert said.exit_code == 1
    lines = said.stdout.splitlines()
    failed = next(i for i, line in enumerate(lines) if line.startswith("failure  destination pacs: PACS@127.0.0.1"))
    assert lines[failed + 1].startswith("         fix: ")
    assert lines[-1].endswith(" 1 failures")
    as_json = CliRunner().invoke(app, ["doctor", "--config", str(file), "--json"])
    assert as_json.exit_code == 1
    assert [c["name"] for c in json.loads(as_json.stdout) if c["level"] == "failure"] == ["destination pacs"]


def test_a_configuration_that_is_wrong_is_one_failure_a_problem(tmp_path):
    file = tmp_path / "ichnode.toml"
    file.write_text('[node]\nport = "x"\ncolour = 1\n')
    found = json.loads(CliRunner().invoke(app, ["doctor", "--config", str(file), "--json"]).stdout)
    assert [(check["name"], check["level"]) for check in found] == [("configuration", "failure")] * 2
