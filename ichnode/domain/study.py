"""Instance, series and study as received, and when a study counts as complete, on which evidence.

The end of an association proves nothing by itself (PS3.4 B.4): a study counts as complete

- at once when the declared number of instances of the study is here (NumberOfStudyRelatedInstances);
- after `SETTLE_S` when every association that carried it was released, and either each series has its declared number
  (NumberOfSeriesRelatedInstances, ImagesInAcquisition) or every CT series is gapless;
- after `quiet_s` without a new instance, unless a declared number of the study or series is still missing;
- after `max_wait_s` in any event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from ichnode.domain.geometry import is_gapless
from ichnode.domain.sop_classes import ANALYSABLE

HeaderValue = str | int | float | tuple[str, ...] | tuple[int, ...] | tuple[float, ...]

SETTLE_S = 2.0  # a released sender that goes on in a new association does so within this time
MIN_INSTANCES_PER_ASSOCIATION = 2  # a sender with one association an instance tells nothing by releasing it


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One stored SOP instance. Its bytes lie undecoded in `file`."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    file: str  # absolute path; no part of it is received text
    header: Mapping[str, HeaderValue]  # the keywords of imaging.keywords.KEPT, decoded at receipt
    association_id: int = 0  # 0: read from disk, no association
    received_at: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All instances of one series in a snapshot, in order of receipt."""

    series_instance_uid: str
    study_instance_uid: str
    instances: tuple[Instance, ...]
    purged: int = 0  # instances that retention removed and that did not come again

    def values(self, keyword: str) -> set[HeaderValue]:
        """The different values of `keyword` among the instances that have it."""
        return {i.header[keyword] for i in self.instances if keyword in i.header}


@dataclass(frozen=True, kw_only=True)
class StudySnapshot:
    """An immutable study as of an instant."""

    study_instance_uid: str
    series: tuple[Series, ...]

    @cached_property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance of the study."""
        return tuple(instance for series in self.series for instance in series.instances)

    @property
    def one_patient(self) -> bool:
        """Whether no two instances name different patients."""
        return len({value for series in self.series for value in series.values("PatientID")}) <= 1


class Evidence(StrEnum):
    """How we know that all instances are here; stands on the snapshot row."""

    EXPECTED_COUNT = "expected_count"
    GAPLESS_GEOMETRY = "gapless_geometry"
    QUIET = "quiet"
    MAX_WAIT = "max_wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What is known about how a study arrived, beside its instances."""

    first_received_at: float
    last_received_at: float
    unreleased: bool  # an association that carried the study is open, was aborted or was lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Wholeness:
    """What the instances of a snapshot tell of whether they are all, at any time."""

    study_met: bool = False  # the declared number of the study is here
    every_series_met: bool = False  # says nothing of a series that has not begun to arrive
    some_missing: bool = False
    gapless: bool


def wholeness(snapshot: StudySnapshot) -> Wholeness:
    """ImagesInAcquisition proves presence when met but not absence when unmet: scanners fill it unreliably."""
    gapless = _is_gapless(snapshot)
    study = _largest(snapshot.instances, "NumberOfStudyRelatedInstances")
    if study:
        whole = len(snapshot.instances) >= study
        return Wholeness(study_met=whole, some_missing=not whole, gapless=gapless)
    met, missing = [], False
    for series in snapshot.series:
        in_series = _largest(series.instances, "NumberOfSeriesRelatedInstances")
        in_acquisition = _largest(series.instances, "ImagesInAcquisition")
        one_acquisition = len(series.values("AcquisitionNumber")) <= 1
        count = len(series.instances)
        missing = missing or 0 < count < in_series
        met.append(count >= in_series > 0 or (one_acquisition and count >= in_acquisition > 1))
    return Wholeness(every_series_met=bool(met) and all(met), some_missing=missing, gapless=gapless)


def evidence_of_completeness(
    told: Wholeness, arrival: Arrival, *, now: float, quiet_s: float, max_wait_s: float
) -> Evidence | None:
    """Why the study counts as complete at `now` (seconds, of the arrival's clock), or None while it does not."""
    quiet_for = now - arrival.last_received_at
    settled = quiet_for >= min(SETTLE_S, quiet_s) and not arrival.unreleased
    if told.study_met or (told.every_series_met and settled):
        return Evidence.EXPECTED_COUNT
    if now - arrival.first_received_at >= max_wait_s:
        return Evidence.MAX_WAIT
    if told.some_missing:
        return None
    if settled and told.gapless:
        return Evidence.GAPLESS_GEOMETRY
    return Evidence.QUIET if quiet_for >= quiet_s else None


def _largest(instances: tuple[Instance, ...], keyword: str) -> int:
    """The largest whole number that any instance gives for `keyword`; 0 when none does."""
    values = (instance.header.get(keyword) for instance in instances)
    return max((v for v in values if isinstance(v, int)), default=0)


def _is_gapless(snapshot: StudySnapshot) -> bool:
    per_association: dict[int, int] = {}
    for instance in snapshot.instances:
        per_association[instance.association_id] = per_association.get(instance.association_id, 0) + 1
    if min(per_association.values(), default=0) < MIN_INSTANCES_PER_ASSOCIATION:
        return False
    image_series = [s for s in snapshot.series if s.instances[0].sop_class_uid in ANALYSABLE and not _is_localizer(s)]
    return bool(image_series) and all(is_gapless([i.header for i in s.instances]) for s in image_series)


def _is_localizer(series: Series) -> bool:
    image_type = series.instances[0].header.get("ImageType", ())
    return isinstance(image_type, tuple) and "LOCALIZER" in image_type
