"""Was contrast medium given? What a header says of it: the volume or the agent, else the series' description.

Or before, at a thrombectomy, which may leave some: what any description or the protocol says.

Words are those that scanners and technologists of several languages write. What is denied ("PRE CONTRAST", "ohne KM")
is taken out of a series' description before it is searched, so a "no" elsewhere in it denies nothing.
"""

import re
from collections.abc import Mapping

from ichnode.domain.study import HeaderValue

_NO = (
    r"\b(?:without|no|non|not|un|pre|before|prior to|ohne|vor|sans|avant|sin|sem|senza|zonder|utan|uden|uten|bez)"
    r"|\bw/?o|\bs/"
)
_MEDIUM = r"contrast\w*|kontrast\w*|enhanc\w*|inject\w*|(?:c|cm|con|km|mdc)\b"
_DENIED = re.compile(rf"(?:{_NO})[\s./-]*(?:i\.?v\b)?[\s./-]*(?:{_MEDIUM})", re.I)
_SAID = re.compile(
    r"contrast|kontrast|\benhanc|\binject|\b(?:cect|km|mdc)\b|\bc\s?\+|\+\s?c\b|\biv\s?\+|\bw(?:ith)?[\s/]*con\b"
    r"|post.?(?:c|con|gad)\b|angio|\bct[apv]\b|\bcow\b|perfusion|venogra"
    r"|\bven(?:ous|ös|osa|euse)|\barteri(?:al|ell)|\bdelayed\b",
    re.I,
)
_NO_AGENT = re.compile(
    r"(?:no|none|n|n/?a|nil|kein\w*|sans|not|without|ohne|sin|w/?o)\b.*|non[- ]?contrast.*|[-.]+"
    r"|0+(?:\.0*)?\s*(?:ml|cc)?",
    re.I,
)
_TREATED = (
    r"(?:th?rombe[ck]t|embole[ck]t|th?rombo-?aspir|r[ei][ck]anali[sz]|endovas[ck]\w*[\s_./-]*t[hr]"
    r"|(?:trai?t|tratt?am)\w*[\s_./-]*endovas[ck]|(?<![a-z])evt(?![a-z.]))"
)
_AFTERWARDS = (
    r"(?<![a-z])(?:post|(?:after|nach|na|efter|etter|apr[eè]s|dopo|despu[eé]s|tras|ap[oó]s|po|s/p|[0-9]+\s?h)(?![a-z]))"
)
_CONTROL = r"(?<![a-z])(?:control|contr[oô]l|kontrol|follow|suivi|verlauf|[0-9]+\s?h(?![a-z]))"
_AFTER_THROMBECTOMY = re.compile(rf"{_AFTERWARDS}[^,;]{{0,24}}?{_TREATED}|{_TREATED}[^,;]{{0,24}}?{_CONTROL}", re.I)

DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription")


def has_contrast(header: Mapping[str, HeaderValue]) -> bool:
    """Whether a series was made with contrast medium, by the header of one instance."""
    volume_ml = header.get("ContrastBolusVolume")
    if isinstance(volume_ml, int | float) and volume_ml > 0:
        return True
    agent = str(header.get("ContrastBolusAgent", "")).strip()
    if agent and not _NO_AGENT.fullmatch(agent):
        return True
    return bool(_SAID.search(_DENIED.sub(" ", str(header.get("SeriesDescription", "")))))


def is_after_thrombectomy(header: Mapping[str, HeaderValue]) -> bool:
    """Whether a description or the protocol says so ("post thrombectomy", "EVT, 24 h control"), of one instance.

    One that is only mentioned may be to come.
    """
    return any(_AFTER_THROMBECTOMY.search(str(header.get(keyword, ""))) for keyword in DESCRIPTIONS)
