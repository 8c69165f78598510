"""Power loss, by what the disk was told in time (guarantee 9): the system calls of a node, as strace sees them.

A killed process does not show this: what it has written lives on in the kernel.
"""

import re
import subprocess
from contextlib import contextmanager

from tests.acceptance.peers import missing, program
from tests.hostile import pdus
from tests.hostile.data_sets import ct_image

STORED = 0x0000
CALLS = "write,pwrite64,rename,renameat,renameat2,fsync,fdatasync,sendto,sendmsg"
WHOLE_PAGES_BYTES = 8192  # of what is written, so much is shown


@contextmanager
def traced(pid, folder):
    """As long as the block lasts, the calls of each thread go to a file of its own, in order."""
    shown = ["--decode-fds=path,socket", f"--string-limit={WHOLE_PAGES_BYTES}", f"--trace={CALLS}"]
    output = ["--follow-forks", "--output-separately", f"--output={folder / 'thread'}"]
    command = [program("strace", "strace"), f"--attach={pid}", *shown, *output]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        attached = strace.stderr.readline()
        if "attached" not in attached:
            missing(f"leave to trace a process ({attached.strip()})", "run the tests as root, or with CAP_SYS_PTRACE")
        try:
            yield
        finally:
            strace.terminate()  # it lets go of the node


def in_order(calls, steps):
    """The steps in the order of the last call of each; without those that were not taken."""
    taken = {}
    for call in calls:
        for step in (name for name, pattern in steps.items() if re.match(pattern, call)):
            taken.pop(step, None)
            taken[step] = call
    return list(taken)


def test_file_folder_and_row_are_on_the_disk_before_an_instance_is_acknowledged(node, peer, tmp_path):
    image = ct_image()
    with traced(node.pid, tmp_path):
        assert peer.store(pdus.CT, image.uid, image.encoded()).outcome == STORED
    file, uid = node.file(image.uid), image.uid.decode()
    steps = {
        "file written": rf"write\(\d+<{file.with_suffix('.part')}>",
        "file published": rf'rename\w*\(.*"{file}"\) = 0$',
        "file synced": rf"fsync\(\d+<{file}>\) = 0$",
        "folder synced": rf"fsync\(\d+<{file.parent}>\) = 0$",
        "row written": rf"pwrite64\(\d+<\S+/ichnode\.db-wal>.*{uid}",
        "row synced": r"f(data)?sync\(\d+<\S+/ichnode\.db-wal>\) = 0$",
        "answered": rf"send\w+\(\d+<TCP:\S*:{node.dicom_port}->.*{uid}",
    }
    threads = [thread.read_text().splitlines() for thread in tmp_path.iterdir()]
    (association,) = [calls for calls in threads if "answered" in in_order(calls, steps)]
    assert in_order(association, steps) == list(steps)
