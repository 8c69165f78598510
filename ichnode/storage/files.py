"""Instance and result files: published whole or not at all, under random names that hold no received text.

No two rows share a file, so removing the file of a refused instance can never take away an accepted one. `publish`
and `keep` return only after the file, its name and the folder are on the disk; then its row may be written, and only
what has a row is ever read.
"""

import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Lock

from ichnode.faults import point

_PART = ".part"
_HARD_SHARE = 20  # of the disk: a small one keeps less than the configured reserve free
_MIN_INODES, _SOFT_MIN_INODES = 1_000, 10_000  # a disk without inodes is full, however much is free
_FILES_PER_FOLDER = 1000  # one folder at a time: a file costs less beside the one before it (ext4, a fifth)


class FileStore:
    """Files below one folder, two levels deep.

    With less than `reserve_bytes` free (or 5 % of the disk where that is less) nothing is kept; with less than
    `soft_reserve_bytes` (or 10 %) no new association should begin.
    """

    def __init__(
        self, folder: Path, *, reserve_bytes: int = 0, soft_reserve_bytes: int = 0, owner: str | None = None
    ) -> None:
        """`owner`: the node that writes here, where others write beside it; it sweeps what is its own."""
        self._folder = folder.absolute()
        self._prefix = f"{owner}@" if owner else ""
        self._reserve_bytes = reserve_bytes
        self._soft_reserve_bytes = soft_reserve_bytes
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._subfolder = self._folder
        self._room_in_subfolder = 0

    @property
    def folder(self) -> Path:
        """The folder that holds everything."""
        return self._folder

    def has_room(self) -> bool:
        """Whether an instance may be kept now."""
        return not self.trouble()

    def trouble(self) -> str:
        """Why nothing can be kept now; "" when it can."""
        return self._lack(self._reserve_bytes, share=_HARD_SHARE, inodes=_MIN_INODES)

    @property
    def refuses_associations(self) -> bool:
        """Whether so little is free that whoever wants to send should come again later."""
        return bool(self._lack(self._soft_reserve_bytes, share=10, inodes=_SOFT_MIN_INODES)) or not self.has_room()

    def holds_files(self) -> bool:
        """Whether anything is kept."""
        return any(self._folder.glob("*/*.dcm"))

    def free_bytes(self) -> int:
        """What is free on its disk for processes without privileges."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def reserve_bytes(self) -> int:
        """With no more than this free nothing is kept."""
        disk = os.statvfs(self._folder)
        return min(self._reserve_bytes, int(disk.f_blocks * disk.f_frsize) // _HARD_SHARE)

    def _lack(self, reserve_bytes: int, *, share: int, inodes: int) -> str:
        """What the disk lacks; a file system without a fixed number of inodes says 0."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as problem:
            return problem.strerror or "cannot be read"
        if disk.f_flag & os.ST_RDONLY:
            return "read-only"
        if disk.f_bavail * disk.f_frsize <= min(reserve_bytes, disk.f_blocks * disk.f_frsize // share):
            return "below the reserve"
        if disk.f_files and disk.f_favail <= min(inodes, disk.f_files // share):
            return "out of inodes"
        return ""

    def begin(self) -> "Part":
        """A file to be written. Raises OSError."""
        name, subfolder = f"{uuid.uuid4().hex}.dcm", self._folder_to_fill()
        try:
            return Part(subfolder / name)
        except FileNotFoundError:  # somebody removed it
            return Part(self._folder_to_fill(gone=subfolder) / name)

    def keep(self, parts: Iterable[bytes | memoryview]) -> Path:
        """Publish `parts` as one file. Raises OSError and leaves nothing behind when the disk is full or fails."""
        part = self.begin()
        try:
            for content in parts:
                part.write(content)
            return part.publish()
        except OSError:
            part.discard()
            raise

    def sweep(self) -> int:
        """At start: remove what a killed process left half-written, and empty folders; how many files there were."""
        leftovers = list(self._folder.glob(f"{self._prefix}*/*{_PART}"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        for subfolder in self._folder.glob(f"{self._prefix}*"):
            if subfolder != self._subfolder:
                with suppress(OSError):  # not empty
                    subfolder.rmdir()
        return len(leftovers)

    def sweep_after(self, living: Collection[str], *, untouched_since: float) -> int:
        """Remove what nodes that are gone left half-written; how many files. Their names may never come again.

        Should a node only have been frozen, it cannot publish such a file when it wakes, and its sender is told so.
        """
        removed = 0
        for subfolder in self._folder.glob("*@*"):
            if subfolder.name.rpartition("@")[0] in living:
                continue
            for leftover in subfolder.glob(f"*{_PART}"):
                with suppress(OSError):  # another node was faster
                    if leftover.stat().st_mtime < untouched_since:
                        leftover.unlink()
                        removed += 1
            with suppress(OSError):  # not empty
                subfolder.rmdir()
        return removed

    def _folder_to_fill(self, *, gone: Path | None = None) -> Path:
        """The subfolder for the next file; a new one, on the disk, where the last is full or gone, or there is none."""
        with self._lock:
            if not self._room_in_subfolder or self._subfolder == gone:
                subfolder = self._folder / f"{self._prefix}{uuid.uuid4().hex[:8]}"
                subfolder.mkdir(exist_ok=True)
                sync_folder(self._folder)
                self._subfolder, self._room_in_subfolder = subfolder, _FILES_PER_FOLDER
            self._room_in_subfolder -= 1
            return self._subfolder


class Part:
    """A file that is being written, under a temporary name. Either `publish` or `discard` ends it."""

    def __init__(self, final: Path) -> None:
        self._final, self._temporary = final, final.with_suffix(_PART)
        self._descriptor: int | None = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)

    def write(self, content: bytes | memoryview) -> None:
        """Append. Raises OSError."""
        assert self._descriptor is not None
        while content:
            content = content[os.write(self._descriptor, content) :]

    @contextmanager
    def reading(self) -> Iterator[mmap]:
        """What was written so far, without being read into memory."""
        assert self._descriptor is not None
        with mmap(self._descriptor, 0, access=ACCESS_READ) as content:
            yield content

    def publish(self) -> Path:
        """Its path, once it is on the disk. Raises OSError; `discard` then cleans up.

        Renamed before fsync, so that one commit of the file system's journal holds all of it (half of the time).
        """
        assert self._descriptor is not None
        self._temporary.rename(self._final)
        point("file_renamed")
        os.fsync(self._descriptor)
        point("file_synced")
        self._close()
        sync_folder(self._final.parent)
        return self._final

    def discard(self) -> None:
        """Leave nothing, published or not. Never raises."""
        for leave in (self._close, self._temporary.unlink, self._final.unlink):
            with suppress(OSError):
                leave()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
