"""A small disk of its own, to fill, to make read-only and to empty again. Needs the right to mount."""

import os
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs."""

    def __init__(self, folder: Path, options: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("this user may not mount")

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Until at most `leave_bytes` are free."""
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            while (free := self.free_bytes - leave_bytes) > 0:
                try:
                    filler.write(bytes(min(free, 1 << 20)))
                except OSError:
                    break

    def use_up_inodes(self) -> None:
        (self.folder / "inodes").mkdir()
        for number in range(10**6):
            try:
                (self.folder / "inodes" / str(number)).touch()
            except OSError:
                return

    def clear(self) -> None:
        """Room again."""
        (self.folder / "filler").unlink(missing_ok=True)
        for file in (self.folder / "inodes").glob("*"):
            file.unlink()

    def make(self, how: str) -> None:
        """ "ro" or "rw"."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.folder], check=True)

    @property
    def free_bytes(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.folder], check=False)
