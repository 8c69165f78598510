"""DCMTK's sender, receiver and SR reader, and dicom3tools' validator: peers that share no code with ichnode."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.peers import answers_echo, child, free_port, program, run


@contextmanager
def storescp(folder: Path, ae_title: str = "STORESCP") -> Iterator[int]:
    """A storage SCP that accepts every SOP class and writes each instance into `folder`; gives its loopback port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    options = ("--aetitle", ae_title, "--promiscuous", "--accept-all", "--fork", "--output-directory", str(folder))
    command = [program("storescp", "dcmtk"), *options, str(port)]
    log = folder.with_name(f"{folder.name}.log")
    with child(command, log=log, ready=lambda: answers_echo(port, ae_title, "HARNESS")):
        yield port


def storescu(
    host: str, port: int, files: Sequence[Path], called: str, calling: str, *options: str, timeout_s: float = 300
) -> None:
    """C-STORE `files` over one association. AssertionError with DCMTK's own words where an instance is not stored."""
    command = [program("storescu", "dcmtk"), "-aet", calling, "-aec", called, "--required", *options, host, str(port)]
    done = run([*command, *files], timeout_s=timeout_s)
    assert done.returncode == 0, done.stdout


def dciodvfy(file: Path) -> list[str]:
    """The lines that start with `Error`: where an instance breaks its IOD. Its exit status does not tell (2022)."""
    printed = run([program("dciodvfy", "dicom3tools"), "-new", file]).stdout
    return [line for line in printed.splitlines() if line.startswith("Error")]


def dsrdump(file: Path) -> str:
    """A structured report as text. AssertionError where DCMTK cannot read it as one."""
    done = run([program("dsrdump", "dcmtk"), file])
    assert done.returncode == 0, done.stdout
    return done.stdout
