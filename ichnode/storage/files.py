"""Instance and result files: published whole or not at all, under random names that hold no received text.

No two rows share a file, so removing the file of a refused instance can never take away an accepted one. `keep`
returns only after the file, its new name and the folder are on the disk.
"""

import os
import shutil
import uuid
from collections.abc import Iterable
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
        usage = shutil.disk_usage(self._folder)
        return usage.free > min(self._reserve_bytes, usage.total // 20)

    def free_bytes(self) -> int:
        """What is free on its disk for processes without privileges."""
        return shutil.disk_usage(self._folder).free

    def keep(self, parts: Iterable[bytes | memoryview]) -> Path:
        """Write `parts` as one file: temporary name, fsync, rename, fsync of the folder.

        Raises OSError and leaves nothing behind when the disk is full or fails.
        """
        folder = self._folder_to_fill()
        final = folder / f"{uuid.uuid4().hex}.dcm"
        temporary = final.with_suffix(_PART)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
            try:
                _write_all(descriptor, parts)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(final)
            sync_folder(folder)
        except OSError:
            temporary.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
            raise
        return final

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
                sync_folder(self._folder)
                self._subfolder, self._room_in_subfolder = subfolder, _FILES_PER_FOLDER
            self._room_in_subfolder -= 1
            return self._subfolder


def _write_all(descriptor: int, parts: Iterable[bytes | memoryview]) -> None:
    rest = [memoryview(part) for part in parts]
    while rest:
        written = os.writev(descriptor, rest)
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][written:]


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
