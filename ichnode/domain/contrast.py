"""Was contrast medium given? What a header says of it: the volume or the agent, else the series' description.

Or before, at a thrombectomy, which leaves some in the brain: what any description or the protocol says.

Words are those that scanners and technologists of several languages write. What is denied ("PRE CONTRAST", "ohne KM")
is taken out of a description before it is searched, so a "no" elsewhere in it denies nothing.
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
_THROMBECTOMY = re.compile(r"th?rombe[ck]t|recanali[sz]|\bevt\b|endovascular", re.I)
_TOLD_IN = ("StudyDescription", "SeriesDescription", "ProtocolName")


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
    """Whether a description or the protocol mentions one, by the header of one instance."""
    return any(_THROMBECTOMY.search(str(header.get(keyword, ""))) for keyword in _TOLD_IN)
