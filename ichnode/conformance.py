"""The DICOM conformance statement (PS3.2) of a configuration: what the code negotiates and answers.

UIDs, syntaxes, statuses, limits and titles come from the code and the settings; the sentences stand in the template
`conformance.md.jinja`.
"""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from ichnode import __version__
from ichnode.config import DicomDestination, Settings
from ichnode.dicom import admission, association, command, door, pdu, scp, stow
from ichnode.dicom.contexts import ANALYSED, accepted_contexts
from ichnode.dicom.negotiation import IMPLEMENTATION_VERSION_NAME
from ichnode.dicom.statuses import DimseStatus, EventReportStatus
from ichnode.domain.identity import IMPLEMENTATION_CLASS_UID
from ichnode.results.provenance import SERIES_DESCRIPTIONS, Role
from ichnode.results.sop_classes import sop_classes_of


def statement(settings: Settings) -> str:
    """Markdown."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    template = environment.from_string(files("ichnode").joinpath("conformance.md.jinja").read_text("utf-8"))
    return template.render(
        version=__version__,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        settings=settings,
        dicom_destinations=[d for d in settings.destinations if isinstance(d, DicomDestination)],
        web_destinations=[d for d in settings.destinations if not isinstance(d, DicomDestination)],
        accepted=_accepted(),
        syntaxes={_letter(number): _named(uids) for number, uids in enumerate(_syntax_sets())},
        sent=_sent(settings),
        verification=_named([str(Verification)])[0],
        commitment=_named([str(StorageCommitmentPushModel)])[0],
        explicit=_named([ExplicitVRLittleEndian])[0],
        store={status.name: f"0x{status:04X}" for status in DimseStatus},
        report={status.name: f"0x{status:04X}" for status in EventReportStatus},
        admission=admission,
        association=association,
        command=command,
        door=door,
        pdu=pdu,
        scp=scp,
        stow=stow,
    )


def _accepted() -> list[dict[str, Any]]:
    """The SOP classes of the SCP, each with the letter of its set of transfer syntaxes."""
    sets = _syntax_sets()
    return [
        {
            "name": UID(context.abstract_syntax or "").name,
            "uid": context.abstract_syntax,
            "syntaxes": _letter(sets.index(tuple(context.transfer_syntax or ()))),
            "analysed": context.abstract_syntax in ANALYSED,
        }
        for context in accepted_contexts()
    ]


def _syntax_sets() -> list[tuple[str, ...]]:
    """The different sets of transfer syntaxes, in the order in which they first occur."""
    return list(dict.fromkeys(tuple(context.transfer_syntax or ()) for context in accepted_contexts()))


def _sent(settings: Settings) -> list[dict[str, Any]]:
    """The SOP classes that destinations are offered, each with the series that hold them."""
    classes = {"report_sop": settings.results.report_sop, "followup_sop": settings.results.followup_sop}
    series: dict[str, list[str]] = {}
    for role in settings.sent_roles:
        (sop_class,) = sop_classes_of([role], **classes)
        series.setdefault(sop_class, []).append(SERIES_DESCRIPTIONS[Role(role)])
    return [{"name": UID(uid).name, "uid": uid, "series": descriptions} for uid, descriptions in series.items()]


def _named(uids: Iterable[str]) -> Sequence[dict[str, str]]:
    return [{"name": UID(uid).name, "uid": str(uid)} for uid in uids]


def _letter(number: int) -> str:
    return "ABCDEFGH"[number]
