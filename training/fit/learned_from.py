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
    alike_in: str | None = None  # the folds; was not stored when they were drawn otherwise

    @classmethod
    def of(cls, manifest: Path, folds: int | None = None, fold: int | None = None, alike_in: str | None = None) -> Self:
        """What the command line names. Raises OSError."""
        digest = sha256(manifest.read_bytes()).hexdigest()
        return cls(manifest=digest, folds=folds, fold=fold, alike_in=alike_in) if folds else cls(manifest=digest)

    def unlike(self, stored: Mapping[str, Any]) -> str:
        """What is another there, and here; nothing where all is the same."""
        here = asdict(self)
        there = {name: stored.get(name) for name in here}
        return ", ".join(f"{name} {there[name]}, not {here[name]}" for name in here if there[name] != here[name])
