"""Analyser: what the child process is built from, is asked and answers. Plain values.

Only the child loads torch and the networks: the node that receives stays small, and is sooner ready.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ichnode.domain.reasons import Reason
from ichnode.domain.study import Series
from ichnode.results.provenance import Result, ResultProfile, RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisRequest:
    """One series, and what stands in its results about the run."""

    series: Series
    run: tuple[str, ...]  # pipelines
    context: RunContext
    not_analysed: tuple[Reason, str] | None = None  # write only a report that says so
    report_refusal: bool = False  # a gate's refusal becomes a report instead of an error


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedObject:
    """One result as a DICOM file in memory."""

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    encoded: bytes

    @classmethod
    def of(cls, result: Result) -> "ComposedObject":
        """The result, encoded."""
        buffer = BytesIO()
        result.dataset.save_as(buffer, enforce_file_format=True)
        return cls(
            role=result.role,
            sop_class_uid=str(result.dataset.SOPClassUID),
            sop_instance_uid=str(result.dataset.SOPInstanceUID),
            series_instance_uid=str(result.dataset.SeriesInstanceUID),
            encoded=buffer.getvalue(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What came out of one series."""

    objects: tuple[ComposedObject, ...]
    findings: Mapping[str, Any] | None
    seconds: Mapping[str, float]  # by step: read, infer, compose
    model: str
    device: str
    refusal: tuple[str, str] | None = None  # reason and detail, when the one object is a report of it


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyserSettings:
    """What the child process is built from; plain values that travel to it."""

    bundles: Mapping[str, str]  # name by pipeline; hematoma is there
    bundles_dir: Path | None  # of bundles beside the shipped ones
    device: str
    profile: ResultProfile
    clinical: Path | None = None  # table of what is known of patients

    def __call__(self) -> Callable[[AnalysisRequest], Analysis]:
        """Load the models once; the function that analyses with them.

        Raises ConfigError for a bundle that cannot be used, InferenceError for a device that is not there.
        """
        from ichnode.stages.analysis import analyser

        return analyser(self)
