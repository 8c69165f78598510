"""What of a job can be shown: the slices of its source series, and the results that lie on them.

The headers of the series are read from the ledger and gated as the analysis does it; of results, only what is asked for
is opened, for the first picture must not wait for the rest.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from time import monotonic

import numpy as np

from ichnode.domain.findings import Caveat
from ichnode.domain.job import Job
from ichnode.domain.reasons import EXPLAINED, Reason
from ichnode.domain.study import Series
from ichnode.errors import RefusedSeries
from ichnode.imaging.data_set import PYDICOM_ERRORS
from ichnode.imaging.series_gate import gated_slices
from ichnode.imaging.series_reader import read_volume
from ichnode.imaging.slices import Slice
from ichnode.imaging.volume import AcquisitionGrid, FloatArray
from ichnode.results.colours import SEGMENT_RGB, Rgb
from ichnode.results.provenance import Role
from ichnode.results.read_back import ReadSegment, index_of_picture, places, read_segments
from ichnode.storage.history import History, ResultFile
from ichnode.storage.intake import Intake
from ichnode.web.slices import slice_hu

log = logging.getLogger(__name__)

SALIENCY = tuple(role for role in Role if role.endswith("_saliency"))
_ALTERS_HU = {Caveat.EIGHT_BIT, Caveat.LOST_OFFSET}
_MOST_KEPT = 8  # jobs: readers go back and forth between a few
_AGAIN_S = 2.0  # after which files that could not be read are read again


class Shown:
    """One job. `slices` are sorted as those of `grid`; without any, `why_not` says why.

    There are none of a job without findings: what no child process has decoded is not decoded first in this one.
    """

    def __init__(self, job: Job, series: Series | None, results: list[ResultFile]) -> None:
        self.job, self.results = job, results
        self._series = series
        self.unreadable: set[str] = set()  # roles of which a file could not be read, and "source"
        self.read_at = monotonic()
        self.slices: list[Slice] = []
        self.grid: AcquisitionGrid | None = None
        self.first: Slice | None = None  # whose header tells of patient and series, also where no picture is shown
        self.why_not = "" if series else "The images of this series are no longer on this node."
        try:
            if series:
                self.slices, self.grid = gated_slices(series)
        except RefusedSeries as refusal:
            self.why_not = f"The series {EXPLAINED[Reason(refusal.reason)]} ({refusal.detail})."
        except OSError as problem:
            self.why_not = f"The images cannot be read: {problem.strerror}."
            self.unreadable.add("source")
        if self.slices:
            self.first = self.slices[0]
            if not job.findings:
                self.slices, self.grid = [], None
                self.why_not = "Pictures are shown once the series has been analysed."

    def files(self, role: str) -> list[ResultFile]:
        """The results of a role that are on the disk."""
        return [result for result in self._of(role) if Path(result.file).is_file()]

    def key_index(self) -> int:
        """The slice with the largest hematoma; the middle one where there is none."""
        hematoma = (self.job.findings or {}).get("hematoma") or {}
        largest = hematoma.get("largest_slice_uid")
        own = [i for i, one in enumerate(self.slices) if one.instance.sop_instance_uid == largest]
        if len(own) > 1:  # the frames of one instance: its segments know which
            segment, _, _ = self.segments.get(f"{Role.SEGMENTATION}-1", (None, None, None))
            return max(own, key=segment.area) if segment else len(self.slices) // 2
        return own[0] if own else len(self.slices) // 2

    def hu(self, index: int) -> FloatArray:
        """HU of a source slice (row, column), as the analysis saw them. Raises RefusedSeries and OSError."""
        if _ALTERS_HU & set((self.job.findings or {}).get("caveats", ())):
            return np.asarray(self._estimated_hu[index])
        return slice_hu(self.slices[index])

    @cached_property
    def _estimated_hu(self) -> FloatArray:
        """(slice, row, column) of a series whose values are no HU: only all of it tells what they are."""
        assert self._series
        return read_volume(self._series).hu

    @cached_property
    def segments(self) -> Mapping[str, tuple[ReadSegment, Rgb, str]]:
        """Each segment of the Segmentation objects, with its colour and file, by a name like segmentation-1."""
        found = {}
        for role, colours in SEGMENT_RGB.items():
            for result in self._of(role):
                for segment in self._read_segments(result):
                    colour = colours[(segment.number - 1) % len(colours)]
                    found[f"{role}-{segment.number}"] = segment, colour, result.file
        return found

    @cached_property
    def pictures(self) -> Mapping[str, Mapping[int, str]]:
        """The file that lies on each source slice, of the predicted series and of each kind of saliency."""
        index_of = places(self.grid) if self.grid else {}
        found: dict[str, dict[int, str]] = {}
        for role in (Role.PREDICTED_SERIES, *SALIENCY):
            for result in self._of(role):
                index = self._index_of_picture(result, index_of)
                if index is not None:
                    found.setdefault(role, {})[index] = result.file
        return found

    def _of(self, role: str) -> list[ResultFile]:
        return [result for result in self.results if result.role == role]

    def _read_segments(self, result: ResultFile) -> list[ReadSegment]:
        try:
            return read_segments(Path(result.file), places(self.grid)) if self.grid else []
        except (OSError, *PYDICOM_ERRORS) as problem:
            self._cannot_be_read(result, problem)
            return []

    def _index_of_picture(self, result: ResultFile, index_of: Mapping[tuple[str, int], int]) -> int | None:
        try:
            return index_of_picture(Path(result.file), index_of)
        except (OSError, *PYDICOM_ERRORS) as problem:
            self._cannot_be_read(result, problem)
            return None

    def _cannot_be_read(self, result: ResultFile, problem: Exception) -> None:
        if result.role not in self.unreadable:  # told once, for a series has many files
            log.warning("result_unreadable", extra={"job_id": self.job.id, "detail": f"{result.role}: {problem}"})
        self.unreadable.add(result.role)


class Shelf:
    """The jobs that were looked at last."""

    def __init__(self, history: History, intake: Intake) -> None:
        self._history, self._intake = history, intake
        self._kept: OrderedDict[tuple[int, float], Shown] = OrderedDict()
        self._lock = Lock()

    def shown(self, job: Job) -> Shown:
        """What of a job can be shown; read again when the job has moved on, and soon where something was unreadable."""
        key = job.id, job.updated_at
        with self._lock:
            kept = self._kept.get(key)
            if kept and not (kept.unreadable and monotonic() - kept.read_at >= _AGAIN_S):
                self._kept.move_to_end(key)
                return kept
        shown = Shown(job, self._series(job), self._history.results(job.id))
        with self._lock:
            self._kept[key] = shown
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return shown

    def _series(self, job: Job) -> Series | None:
        snapshot = self._intake.snapshot(job.study_instance_uid, last_instance_id=self._history.snapshot_end(job))
        return next((s for s in snapshot.series if s.series_instance_uid == job.series_instance_uid), None)
