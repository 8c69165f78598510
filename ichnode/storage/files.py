"""Instance and result files: published whole or not at all, under random names that hold no received text.

No two rows share a file, so removing the file of a refused instance can never take away an accepted one. `publish`
and `keep` return only after the file, its name and the folder are on the disk; then its row may be written, and only
what has a row is ever read.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from threading import Lock

_PART = ".part"
_FILES_PER_FOLDER = 1000  # one folder at a time: a file costs less beside the one before it (ext4, a fifth)


class FileStore:
    """Files below one folder, two levels deep."""

    def __init__(self, folder: Path, *, reserve_bytes: int = 0) -> None:
        self._folder = folder.absolute()
        self._reserve_bytes = reserve_bytes
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        self._subfolder = self._folder
        self._room_in_subfolder = 0

    @property
    def folder(self) -> Path:
        """The folder that holds everything."""
        return self._folder

    def has_room(self) -> bool:
        """Whether more than the reserve is free: the configured one, or 5 % of the disk where that is less."""
        free, reserve = self.free_and_reserve()
        return free > reserve

    def begin(self) -> "Part":
        """A file to be written. Raises OSError."""
        return Part(self._folder_to_fill() / f"{uuid.uuid4().hex}.dcm")

    def free_and_reserve(self) -> tuple[int, int]:
        """Bytes that are free on its disk, and with how many it has no room any more."""
        usage = shutil.disk_usage(self._folder)
        return usage.free, min(self._reserve_bytes, usage.total // 20)

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
        """Remove what a killed process left half-written; how many files there were."""
        leftovers = list(self._folder.glob(f"*/*{_PART}"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)

    def _folder_to_fill(self) -> Path:
        """The subfolder for the next file; a new one, on the disk, where the last is full or of another process."""
        with self._lock:
            if not self._room_in_subfolder:
                subfolder = self._folder / uuid.uuid4().hex[:8]
                subfolder.mkdir(exist_ok=True)
                _sync_folder(self._folder)
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
        os.fsync(self._descriptor)
        self._close()
        _sync_folder(self._final.parent)
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
