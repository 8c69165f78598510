"""Memory, disk, ledger, descriptors: what may run out, and that nothing is lost when it does (guarantees 4 and 11)."""

import resource
import socket
import sqlite3
import subprocess
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from time import monotonic

import pytest

from tests.acceptance.peers import missing
from tests.hostile import commands, pdus
from tests.hostile.data_sets import PIXELS, UNDEFINED, ct_image, element, new_uid
from tests.hostile.node import SETTLE_S, eventually
from tests.hostile.peer import ENDED, Peer

STORED, NO_ROOM = 0x0000, 0xA700
MIB = 1 << 20
FEW_DESCRIPTORS = 64
FLOOD = 200


def endless(peer, size_mib):
    """A C-STORE whose data set has no end: `size_mib` of it, or less where the node ends that."""
    uid = new_uid()
    head = ct_image(uid).head + element(PIXELS, b"OB", b"", length=UNDEFINED)
    peer.send(pdus.message(pdus.CT_RLE, commands.store_rq(uid)) + pdus.data(pdus.value(pdus.CT_RLE, 0, head)))
    piece = pdus.data(pdus.value(pdus.CT_RLE, 0, bytes(1 << 16))) * 16
    with suppress(OSError):
        for _ in range(size_mib):
            peer.socket.sendall(piece)


def test_an_object_of_512_mib_that_never_ends_costs_no_memory_and_leaves_nothing(node, peer):
    before_mb = node.forget_peak()
    endless(peer, 512)
    peer.close()
    assert node.peak_rss_mb() - before_mb < 64


def test_an_object_of_100_mb_costs_no_memory_and_is_stored_byte_for_byte(node, peer):
    image = ct_image().but({PIXELS: (b"OW", b"\1\2" * 50_000_000)})
    data_set = image.encoded()
    before_mb = node.forget_peak()
    assert peer.store(pdus.CT, image.uid, data_set).outcome == STORED
    assert node.peak_rss_mb() - before_mb < 64
    assert node.stored(image.uid) == data_set


def test_20_objects_at_the_same_time_that_never_end_cost_no_memory_and_leave_nothing(node):
    before_mb = node.forget_peak()
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.dicom_port, address=f"127.6.0.{n + 1}")).associate() for n in range(20)]
        senders = [threading.Thread(target=endless, args=(peer, 16)) for peer in peers]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        node.assert_echoes()
    assert node.peak_rss_mb() - before_mb < 64 + 20  # and a PDU or two each
    node.assert_rested()


@contextmanager
def locked(node):
    """Another process writes to the ledger."""
    with closing(sqlite3.connect(node.folder / "data" / "ichnode.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_ledger_that_stays_locked_is_answered_out_of_resources_after_10_s_at_most_and_holds_up_no_echo(node, peer):
    image = ct_image()
    with locked(node):
        began = monotonic()
        peer.send(pdus.message(pdus.CT, commands.store_rq(image.uid), image.encoded()))
        node.assert_echoes()
        assert peer.answer().outcome == NO_ROOM
        assert monotonic() - began < 12
    assert peer.store(pdus.CT, image.uid, image.encoded()).outcome == STORED


def test_a_ledger_that_is_locked_for_2_s_only_delays_the_answer(node, peer):
    image = ct_image()
    with locked(node):
        peer.send(pdus.message(pdus.CT, commands.store_rq(image.uid), image.encoded()))
        assert peer.answer(within_s=2).kind == "silent"
    assert peer.answer().outcome == STORED


def test_a_disk_that_takes_no_byte_more_is_answered_out_of_resources_and_recovers_at_once(node, peer):
    image = ct_image().but({PIXELS: (b"OW", bytes(MIB))})
    node.limit(resource.RLIMIT_FSIZE, MIB // 2)
    try:
        assert peer.store(pdus.CT, image.uid, image.encoded()).outcome == NO_ROOM
        node.assert_echoes()
    finally:
        node.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    assert peer.store(pdus.CT, image.uid, image.encoded()).outcome == STORED


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A disk of 32 MiB."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        missing("a small disk", "run as root, so that a tmpfs can be mounted")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def cramped_node(small_disk, run_node):
    """A node on a small disk, which keeps a reserve of a twentieth of it."""
    with run_node(small_disk, reserve_mb=100) as node:
        yield node


@contextmanager
def only_free(folder, free_bytes):
    """Somebody else has filled the disk."""
    filler = folder / "filler"
    usage = subprocess.run(["stat", "-f", "-c", "%a %S", folder], capture_output=True, check=True, text=True)
    blocks, block_size = map(int, usage.stdout.split())
    with filler.open("wb") as file:
        file.write(bytes(blocks * block_size - free_bytes))
    yield
    filler.unlink()


@pytest.mark.parametrize(
    ("free_bytes", "image_bytes"),
    [
        pytest.param(MIB, 1000, id="less is free than the reserve"),
        pytest.param(3 * MIB, 4 * MIB, id="the object is longer than what is free"),
        pytest.param(0, 1000, id="nothing is free"),
    ],
)
def test_a_full_disk_is_answered_out_of_resources_leaves_nothing_and_recovers_at_once(
    cramped_node, small_disk, free_bytes, image_bytes
):
    image = ct_image().but({PIXELS: (b"OW", bytes(image_bytes))})
    with Peer(cramped_node.dicom_port) as peer:
        peer.associate()
        with only_free(small_disk, free_bytes):
            assert [peer.store(pdus.CT, image.uid, image.encoded()).outcome for _ in range(3)] == [NO_ROOM] * 3
            cramped_node.assert_echoes()
        assert peer.store(pdus.CT, image.uid, image.encoded()).outcome == STORED


def test_a_disk_that_fills_up_loses_nothing_that_was_acknowledged(cramped_node, small_disk):
    images = [ct_image().but({PIXELS: (b"OW", bytes(100_000))}) for _ in range(60)]
    with Peer(cramped_node.dicom_port) as peer, only_free(small_disk, 5 * MIB):
        peer.associate()
        outcomes = [peer.store(pdus.CT, image.uid, image.encoded()).outcome for image in images]
    assert set(outcomes) == {STORED, NO_ROOM}
    acknowledged = [image for image, outcome in zip(images, outcomes, strict=True) if outcome == STORED]
    assert all(cramped_node.stored(image.uid) == image.encoded() for image in acknowledged)


def test_a_flood_of_connections_with_few_descriptors_spins_no_cpu_and_is_recovered_from(node):
    node.limit(resource.RLIMIT_NOFILE, FEW_DESCRIPTORS)
    try:
        with ExitStack() as stack:
            for _ in range(FLOOD):
                knock = stack.enter_context(socket.socket())
                knock.setblocking(False)  # the queue of a node without descriptors may be full
                knock.connect_ex(("127.0.0.1", node.dicom_port))
            threading.Event().wait(1)  # until the descriptors have run out
            used = node.process.cpu_times()
            threading.Event().wait(4)
            spent = node.process.cpu_times()
        assert spent.user + spent.system - used.user - used.system < 0.5 * 4
        assert eventually(node.echoes, within_s=5)  # the battery holds its descriptors until now
    finally:
        node.limit(resource.RLIMIT_NOFILE, resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)[1])
    node.assert_rested()


def test_after_all_this_threads_and_descriptors_are_back_and_memory_has_not_grown_by_50_mb(node):
    node.assert_rested()
    assert eventually(lambda: node.usage().rss_mb - node.rested.rss_mb < 50, within_s=SETTLE_S)


def test_an_object_over_the_cap_is_refused_or_aborted_before_it_ends(strict_node):
    with Peer(strict_node.dicom_port) as peer:
        endless(peer.associate(), 64)
        assert peer.answer().outcome in {NO_ROOM, *ENDED}


def test_an_object_under_the_cap_is_stored(strict_node):
    image = ct_image().but({PIXELS: (b"OW", bytes(7 * MIB))})
    with Peer(strict_node.dicom_port) as peer:
        assert peer.associate().store(pdus.CT, image.uid, image.encoded()).outcome == STORED
