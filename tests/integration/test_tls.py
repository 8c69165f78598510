"""Associations over TLS: certificates on both sides, and nobody waits for a peer that hangs in its handshake."""

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import pytest
import trustme
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

import ichnode
from ichnode.dicom.checkpoint import place_checkpoint
from ichnode.dicom.scu import Outgoing, Peer, send
from ichnode.dicom.statuses import Verdict
from ichnode.dicom.tls import TlsFiles, client_context, server_context, trusting, web_server_context
from ichnode.errors import ConfigError, DeliveryError
from ichnode.phantom import REGULAR, head_ct
from tests.hostile import commands, pdus


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def make_files(authority, tmp_path_factory):
    """Files of a party whose certificate `signer` signed, and who trusts the authority."""

    def make(signer=authority):
        folder = tmp_path_factory.mktemp("tls")
        shown = signer.issue_cert("127.0.0.1")
        files = TlsFiles(certificate=folder / "shown.crt", key=folder / "shown.key", trusted=folder / "trusted.pem")
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in shown.cert_chain_pems))
        files.key.write_bytes(shown.private_key_pem.bytes())
        files.trusted.write_bytes(authority.cert_pem.bytes())
        return files

    return make


@pytest.fixture(scope="module")
def ct(tmp_path_factory):
    """One CT instance in a file."""
    dataset = head_ct(hematoma_ml=0, geometry=replace(REGULAR, rows=16, columns=16)).datasets[0]
    file = tmp_path_factory.mktemp("ct") / "ct.dcm"
    dataset.save_as(file, enforce_file_format=True)
    return Outgoing(sop_class_uid=dataset.SOPClassUID, sop_instance_uid=dataset.SOPInstanceUID, file=str(file))


@pytest.fixture
def port(start_receiving, make_files):
    return start_receiving(tls=server_context(make_files())).port


def to(port, tls):
    return Peer(ae_title="ICHNODE", host="127.0.0.1", port=port, connect_timeout_s=5, tls=tls)


def test_an_instance_travels_between_parties_that_trust_each_other(port, make_files, ct):
    ((outcome,),) = send(to(port, client_context(make_files())), [ct], calling_ae_title="SCANNER")
    assert outcome.verdict is Verdict.DELIVERED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_allowed_versions_are_spoken(port, make_files, ct, version):
    context = client_context(make_files())
    context.minimum_version = context.maximum_version = version
    ((outcome,),) = send(to(port, context), [ct], calling_ae_title="SCANNER")
    assert outcome.verdict is Verdict.DELIVERED


def without_certificate(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def connection_ends(port, context):
    """Whether the peer ends a TLS connection that this context begins; in TLS 1.3 the first read tells."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                return secure.recv(1) == b""
        except (ssl.SSLError, ConnectionResetError):
            return True


def why_refused(caplog):
    """The reason in the one line of the log; the peer can learn of it before the line is written."""
    for _ in range(200):
        if lines := [r for r in caplog.records if r.message == "association_rejected"]:
            (line,) = lines
            return line.reason
        Event().wait(0.02)
    raise AssertionError("nothing was logged")


def test_a_peer_without_a_certificate_is_turned_away_in_one_plain_sentence(port, authority, caplog):
    assert connection_ends(port, without_certificate(authority))
    assert why_refused(caplog) == "shows no certificate, which this port requires"


def test_a_certificate_of_another_authority_is_not_trusted(port, make_files):
    assert connection_ends(port, client_context(make_files(signer=trustme.CA())))


def test_a_version_that_bcp_195_forbids_is_refused(port, make_files, caplog):
    context = client_context(make_files())
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert connection_ends(port, context)


def test_senders_need_no_certificate_where_none_is_asked_for(start_receiving, make_files, authority):
    port = start_receiving(tls=server_context(make_files(), peer_certificate=False)).port
    ae = AE("SCANNER")
    association = ae.associate(
        "127.0.0.1",
        port,
        contexts=[build_context("1.2.840.10008.1.1")],
        ae_title="ICHNODE",
        tls_args=(without_certificate(authority), "127.0.0.1"),
        evt_handlers=[(evt.EVT_CONN_OPEN, place_checkpoint)],
    )
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_a_plain_sender_on_the_tls_port_leaves_one_plain_sentence(port, caplog):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
        peer.sendall(b"\x01\0\0\0\0\xcd" + bytes(205))
        with suppress(ConnectionResetError):
            while peer.recv(1024):
                pass
    assert why_refused(caplog).startswith("does not speak TLS 1.2 or 1.3, which this port requires")


def test_a_tls_sender_on_the_plain_port_leaves_one_plain_sentence(receiving, make_files, caplog):
    assert connection_ends(receiving.port, client_context(make_files()))
    assert why_refused(caplog) == "speaks TLS, which is not configured here"


def test_peers_that_hang_in_their_handshake_delay_nobody_and_are_let_go(port, make_files, ct, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.door.HANDSHAKE_S", 1)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(20)]
    ((outcome,),) = send(to(port, client_context(make_files())), [ct], calling_ae_title="SCANNER")
    assert outcome.verdict is Verdict.DELIVERED
    for peer in silent:
        assert peer.recv(1) == b""
        peer.close()


def test_a_handshake_gives_a_silent_peer_no_more_time(port, make_files, monkeypatch):
    monkeypatch.setattr("ichnode.dicom.door.ARRIVAL_S", 4)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        began = monotonic()
        sleep(3)
        context = client_context(make_files())
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as silent, suppress(ssl.SSLEOFError):
            assert silent.recv(1) == b""
        assert monotonic() - began < 6, "counted anew from the handshake it would be seven seconds"


@pytest.mark.parametrize("secure", [True, False], ids=["TLS", "plain"])
def test_a_peer_that_does_not_read_its_answers_is_let_go(start_receiving, make_files, monkeypatch, secure):
    monkeypatch.setattr("ichnode.dicom.pdu.SEND_S", 1)
    port = start_receiving(tls=server_context(make_files()) if secure else None).port
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(10)
        plain.connect(("127.0.0.1", port))
        peer = client_context(make_files()).wrap_socket(plain, server_hostname="127.0.0.1") if secure else plain
        peer.sendall(pdus.associate_rq())
        assert peer.recv(1) == b"\2"
        echoes = pdus.message(pdus.ECHO, commands.echo_rq()) * 1000
        with pytest.raises((ConnectionError, ssl.SSLError)):
            peer.sendall(echoes * 200)


def test_a_destination_whose_certificate_is_for_another_host_gets_nothing(port, make_files, ct):
    peer = replace(to(port, client_context(make_files())), host="localhost")
    with pytest.raises(DeliveryError):
        list(send(peer, [ct], calling_ae_title="SCANNER"))
    unchecked = replace(peer, tls=client_context(make_files(), check_host_name=False))
    ((outcome,),) = send(unchecked, [ct], calling_ae_title="SCANNER")
    assert outcome.verdict is Verdict.DELIVERED


@pytest.mark.parametrize("broken", ["certificate", "key", "trusted"])
def test_a_file_that_cannot_be_used_is_named(make_files, broken, tmp_path):
    files = replace(make_files(), **{broken: tmp_path / "missing.pem"})
    with pytest.raises(ConfigError, match=f"tls.*{broken}"):
        server_context(files)


def test_what_is_negotiated_is_forward_secret_and_authenticated(make_files):
    names = {cipher["name"] for cipher in server_context(make_files()).get_ciphers()}
    assert all("GCM" in name or "CHACHA20" in name for name in names)
    assert all(name.startswith(("ECDHE", "TLS_")) for name in names)


@pytest.mark.parametrize("make", [server_context, client_context, web_server_context, lambda f: trusting(f.trusted)])
def test_every_context_encrypts_with_authentication_and_forgets_its_keys(make_files, make):
    context = make(make_files())
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert all(cipher["aead"] for cipher in context.get_ciphers())
    assert all("DHE" in c["name"] or c["protocol"] == "TLSv1.3" for c in context.get_ciphers())


def test_contexts_are_made_in_one_place():
    root = Path(ichnode.__file__).parent
    making = re.compile(r"SSLContext\(|create_default_context")
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if making.search(file.read_text())}
    assert found == {"dicom/tls.py", "web/health.py"}  # health asks its own machine, and checks no certificate


def test_an_encrypted_key_for_the_collector_is_an_error_and_no_question(authority, tmp_path):
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    shown = authority.issue_cert("127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(shown.cert_chain_pems[0].bytes())
    key = load_pem_private_key(shown.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "key.pem").write_bytes(locked)
    with pytest.raises(OSError, match="the key is encrypted"):
        trusting(None, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")
