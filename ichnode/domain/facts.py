"""SeriesFacts: what ichnode computes about a series for the rules to match on, beside its DICOM tags.

Every computed name can stand in a rule's `match`; `COMPUTED` lists them. They come from header values alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ichnode.domain.contrast import DESCRIPTIONS, has_contrast
from ichnode.domain.geometry import stack_of
from ichnode.domain.sop_classes import ANALYSABLE
from ichnode.domain.study import Series

RESULT_DESCRIPTION_PREFIX = "AI RESEARCH"
RESULT_MODEL_NAME = "ichnode"

_HEAD = re.compile(
    r"head|brain|skull|cereb|crani|kopf|sch(ae|ä|a)del|hirn|cr(a|â)ne|t(e|ê)te|cabeza|cr(a|á)neo|enc(e|é)ph|neuro|stroke|\bich\b",
    re.I,
)
_OTHER_BODY_PART = re.compile(
    r"chest|thorax|abdom|pelvi|spine|neck|lung|heart|cardiac|liver|extrem|knee|foot|hand|sinus", re.I
)
_DERIVED = re.compile(r"iodine|\b(mip|minip|vnc)\b|virtual.?non", re.I)  # though ImageType says ORIGINAL
_LOCALIZER = re.compile(r"localizer|scout|topogram|surview|scanogram", re.I)
_BONE_WORDS = re.compile(r"bone|knochen|\bos\b|osseu|petrous|temporal|\bHR\b", re.I)
_BONE_WINDOW_WIDTH = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """One series in a snapshot, as the rules see it. Lengths in mm, angles in degrees."""

    series_instance_uid: str
    series_number: int
    sop_class_analysable: bool
    own_results: bool
    localizer: bool
    derived: bool
    one_patient: bool
    purged: int = 0  # instances that retention removed and that did not come again
    slice_count: int
    thickness: float  # median SliceThickness; 0 when unknown
    spacing: float  # median distance between slice planes; 0 when unknown
    coverage: float  # along the slice normal; 0 when unknown
    tilt: float  # gantry tilt as the positions show it
    kernel_class: str  # "soft", "bone" or "unknown"
    contrast: bool
    head: bool
    tags: Mapping[str, Any] = field(repr=False)  # keyword -> value of the first instance, for the tags that rules name


COMPUTED = frozenset(
    {
        "own_results",
        "localizer",
        "derived",
        "slice_count",
        "thickness",
        "spacing",
        "coverage",
        "tilt",
        "kernel_class",
        "contrast",
        "head",
    }
)


def facts_of(series: Series, tags: Mapping[str, Any], *, one_patient: bool) -> SeriesFacts:
    """The facts about `series`; `tags` holds the values of the tags that the rules name.

    `one_patient` says whether the whole study is of one patient.
    """
    first = series.instances[0].header
    headers = [instance.header for instance in series.instances]
    frames = sum(n if isinstance(n := h.get("NumberOfFrames"), int) and n > 0 else 1 for h in headers)
    stack = stack_of(headers)
    thicknesses = [t for h in headers if isinstance(t := h.get("SliceThickness"), int | float)]
    series_number = first.get("SeriesNumber")
    return SeriesFacts(
        series_instance_uid=series.series_instance_uid,
        series_number=series_number if isinstance(series_number, int) else 0,
        sop_class_analysable=all(i.sop_class_uid in ANALYSABLE for i in series.instances),
        own_results=any(_is_own_result(h) for h in headers),
        localizer=any("LOCALIZER" in _words(h, "ImageType") for h in headers)
        or bool(_LOCALIZER.search(_text(first, "SeriesDescription"))),
        derived=any(_words(h, "ImageType")[:1] == ("DERIVED",) for h in headers)
        or bool(_DERIVED.search(_text(first, "SeriesDescription"))),
        one_patient=one_patient,
        purged=series.purged,
        slice_count=frames,
        thickness=float(median(thicknesses)) if thicknesses else 0.0,
        spacing=stack.spacing_mm if stack else 0.0,
        coverage=stack.coverage_mm if stack else 0.0,
        tilt=stack.tilt_deg if stack else 0.0,
        kernel_class=kernel_class(first),
        contrast=has_contrast(first),
        head=_is_head(first),
        tags=tags,
    )


def kernel_class(header: Mapping[str, Any]) -> str:
    """ "soft", "bone" or "unknown" from ConvolutionKernel, else from the description, else from the display window."""
    kernel = (_words(header, "ConvolutionKernel") or ("",))[0].upper()
    siemens = re.match(r"[A-Z][A-Z]?(\d\d)[A-Z]*$", kernel)  # H31s, J40s, Hr64h: the number is the sharpness
    toshiba = re.match(r"FC(\d\d)", kernel)  # FC30-39 bone, FC50-59 lung, FC80-89 high resolution
    if toshiba:
        return "bone" if toshiba[1][0] in "358" else "soft"
    if siemens:
        return "bone" if int(siemens[1]) >= 60 else "soft"
    if re.search(r"BONE|EDGE|ULTRA|LUNG|SHARP|^Y[A-E]|^[DEL]$", kernel):  # GE names, Philips letters
        return "bone"
    if re.search(r"STD|STAND|SOFT|BRAIN|DETAIL|SMOOTH|HEAD|^[SU]?[ABC]$", kernel):
        return "soft"
    if _BONE_WORDS.search(_text(header, "SeriesDescription")):
        return "bone"
    width = header.get("WindowWidth")
    width = width[0] if isinstance(width, tuple) and width else width
    return "bone" if isinstance(width, int | float) and width >= _BONE_WINDOW_WIDTH else "unknown"


def _is_own_result(header: Mapping[str, Any]) -> bool:
    return (
        _text(header, "ManufacturerModelName") == RESULT_MODEL_NAME
        or _text(header, "SeriesDescription").startswith(RESULT_DESCRIPTION_PREFIX)
        or _text(header, "SyntheticData") == "YES"
        or "AI_PREDICTED" in _words(header, "ImageType")
    )


def _is_head(header: Mapping[str, Any]) -> bool:
    """By BodyPartExamined, else by the descriptions, else yes: the image gate looks at the pixels."""
    part = _text(header, "BodyPartExamined")
    if _HEAD.search(part):
        return True
    if _OTHER_BODY_PART.search(part):
        return False
    described = " ".join(_text(header, k) for k in DESCRIPTIONS)
    return bool(_HEAD.search(described)) or not _OTHER_BODY_PART.search(described)


def _text(header: Mapping[str, Any], keyword: str) -> str:
    value = header.get(keyword, "")
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _words(header: Mapping[str, Any], keyword: str) -> tuple[str, ...]:
    value = header.get(keyword, ())
    return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)
