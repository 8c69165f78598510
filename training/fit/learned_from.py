"""Learned from: the own patients that a training sees. With others it would learn from those that it is tested on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFrom:
    """A manifest, or all but one of its folds: plain values, which stand in the checkpoint."""

    manifest: str  # SHA-256 of the file
    folds: int | None = None
    fold: int | None = None  # that is not learned from

    @classmethod
    def of(cls, manifest: Path, folds: int | None = None, fold: int | None = None) -> Self:
        """What the command line names. Raises OSError."""
        digest = sha256(manifest.read_bytes()).hexdigest()
        return cls(manifest=digest, folds=folds, fold=fold if folds else None)

    def unlike(self, stored: Mapping[str, Any]) -> str:
        """What is another there, and here; nothing where all is the same."""
        here = asdict(self)
        return ", ".join(f"{name} {stored[name]}, not {here[name]}" for name in here if stored[name] != here[name])
