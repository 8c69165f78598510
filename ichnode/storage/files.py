"""Instance and result files: published whole or not at all, under names that hold no received text.

A file is named by the SHA-256 of its bytes, so an identical resend names the same file and other bytes under the same
SOP Instance UID can never overwrite the first. `keep` returns only after the file, its new name and the folder are
on the disk.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_PART = ".part"


class FileStore:
    """Files below one folder, two levels deep."""

    def __init__(self, folder: Path, *, reserve_bytes: int = 0) -> None:
        self._folder = folder.absolute()
        self._reserve_bytes = reserve_bytes
        self._known_folders: set[Path] = set()

    @property
    def folder(self) -> Path:
        """The folder that holds everything."""
        return self._folder

    def has_room(self) -> bool:
        """Whether more than the reserve is free: the configured one, or 5 % of the disk where that is less."""
        usage = shutil.disk_usage(self._folder)
        return usage.free > min(self._reserve_bytes, usage.total // 20)

    def keep(self, parts: Iterable[bytes | memoryview], sha256: str) -> Path:
        """Write `parts` as one file named by `sha256`: temporary name, fsync, rename, fsync of the folder.

        Raises OSError and leaves nothing behind when the disk is full or fails.
        """
        folder = self._subfolder(sha256[:2])
        final = folder / f"{sha256}.dcm"
        temporary = folder / f"{sha256}.{os.urandom(6).hex()}{_PART}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
            try:
                for part in parts:
                    _write_all(descriptor, part)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(final)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(folder)
        return final

    def sweep(self) -> int:
        """Remove what a killed process left half-written; the number of files removed."""
        leftovers = list(self._folder.glob(f"*/*{_PART}"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)

    def used_bytes(self) -> int:
        """Bytes of all files below the folder."""
        return sum(file.stat().st_size for file in self._folder.glob("*/*") if file.is_file())

    def _subfolder(self, name: str) -> Path:
        folder = self._folder / name
        if folder not in self._known_folders:
            folder.mkdir(parents=True, exist_ok=True)
            _sync_folder(self._folder)
            self._known_folders.add(folder)
        return folder


def sha256_of(parts: Iterable[bytes | memoryview]) -> str:
    """The SHA-256 of the parts as one file, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
