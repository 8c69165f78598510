"""A structured report as lines of text: what stands in the object that was sent, with units and the meanings of codes.

Left out are identifiers, how the images of the Image Library were acquired, and what a parent has said already, such as
the model behind each of its measurements (PS3.3 C.17.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

_ABOUT_THE_PARENT = {"HAS CONCEPT MOD", "HAS PROPERTIES"}
_NOT_FOR_PEOPLE = {"UIDREF", "SCOORD", "SCOORD3D", "TCOORD"}
_SAME = {"ml": "mL", "1": "", "mm2": "mm²"}  # UCUM -> as it is usually printed

Said = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One content item."""

    depth: int  # 0: a child of the root
    name: str
    value: str  # "" for a container, which heads the lines below it
    code: str  # of the name, with its coding scheme


def report_lines(file: Path | str) -> list[ReportLine]:
    """The lines of a report. Raises OSError, and what pydicom raises over a damaged file."""
    return list(_lines(dcmread(file), 0, frozenset()))


def _lines(parent: Dataset, depth: int, said: Said) -> Iterator[ReportLine]:
    children = list(parent.get("ContentSequence", []))
    here = said | {(line.name, line.value) for line in map(_line, children) if line}
    for child in children:
        line = _line(child)
        if line is None or (line.value and (line.name, line.value) in said):
            continue
        remarks = [remark for remark in _remarks(child) if (remark.name, remark.value) not in here]
        here |= {(remark.name, remark.value) for remark in remarks if remark.name.startswith("Algorithm")}
        yield replace(line, depth=depth, value="; ".join(filter(None, (line.value, *map(_remark, remarks)))))
        if child.ValueType == "CONTAINER":
            yield from _lines(child, depth + 1, here)


def _remarks(item: Dataset) -> Iterator[ReportLine]:
    """What the children of a value say of it."""
    if item.ValueType not in ("CONTAINER", "IMAGE"):
        for child in item.get("ContentSequence", []):
            line = _line(child)
            if line and child.RelationshipType in _ABOUT_THE_PARENT:
                yield line


def _remark(line: ReportLine) -> str:
    return line.value if line.name in ("Derivation", "Comment") else f"{line.name}: {line.value}"


def _line(item: Dataset) -> ReportLine | None:
    """One content item without its children; None for what is not for people."""
    if item.ValueType in _NOT_FOR_PEOPLE:
        return None
    (name,) = item.get("ConceptNameCodeSequence") or [Dataset()]
    code = f"{name.get('CodeValue', '')}, {name.get('CodingSchemeDesignator', '')}"
    return ReportLine(depth=0, name=str(name.get("CodeMeaning", "")), value=_value(item), code=code)


def _value(item: Dataset) -> str:
    match item.ValueType:
        case "TEXT":
            return str(item.TextValue)
        case "CODE":
            return _meaning(item, "ConceptCodeSequence")
        case "NUM":
            return _number(item)
        case "IMAGE" | "COMPOSITE":
            return _reference(item.ReferencedSOPSequence[0])
        case "CONTAINER":
            return ""
        case _:
            return str(item.get({"DATE": "Date", "TIME": "Time", "PNAME": "PersonName"}.get(item.ValueType, ""), ""))


def _number(item: Dataset) -> str:
    """With its unit; where there is no value, why."""
    if not item.get("MeasuredValueSequence"):
        return f"no value: {_meaning(item, 'NumericValueQualifierCodeSequence')}"
    measured = item.MeasuredValueSequence[0]
    unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
    return f"{measured.NumericValue} {_SAME.get(unit, unit)}".strip()


def _reference(referenced: Dataset) -> str:
    """A result or a source image by the end of its UID, which is all that people can tell it by."""
    more = f", segment {referenced.ReferencedSegmentNumber}" if "ReferencedSegmentNumber" in referenced else ""
    more += f", frame {referenced.ReferencedFrameNumber}" if "ReferencedFrameNumber" in referenced else ""
    return f"{referenced.ReferencedSOPClassUID.name} …{referenced.ReferencedSOPInstanceUID[-12:]}{more}"


def _meaning(item: Dataset, keyword: str) -> str:
    codes = item.get(keyword) or [Dataset()]
    return str(codes[0].get("CodeMeaning", ""))
