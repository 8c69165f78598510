"""What can be read of a data set that does not parse exactly: for `[node] lenient = true`.

`header.scan` refuses such data sets because a reader would have to guess; here pydicom guesses.
"""

import struct
from io import BytesIO

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from ichnode.domain.study import HeaderValue
from ichnode.errors import MalformedDataset
from ichnode.imaging.header import inflate
from ichnode.imaging.keywords import KEPT, decode_value

_TAGS: list[BaseTag | int] = [Tag(tag_for_keyword(keyword) or 0) for keyword in KEPT]
_WHAT_PYDICOM_RAISES = (
    AttributeError,
    EOFError,
    InvalidDicomError,
    KeyError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def salvage(encoded: bytes, transfer_syntax_uid: str) -> dict[str, HeaderValue]:
    """The kept keywords that pydicom finds before the damage. Raises MalformedDataset when it finds nothing."""
    syntax = UID(transfer_syntax_uid)
    try:
        plain = inflate(encoded) if syntax.is_deflated else encoded
        found = read_dataset(BytesIO(plain), syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=_TAGS)
        values = {keyword: _value(found.get_item(tag), keyword) for keyword, tag in zip(KEPT, _TAGS, strict=True)}
        return {keyword: value for keyword, value in values.items() if value is not None}
    except _WHAT_PYDICOM_RAISES as problem:
        raise MalformedDataset(f"nothing can be read: {type(problem).__name__}") from None


def _value(element: object, keyword: str) -> HeaderValue | None:
    if not isinstance(element, RawDataElement) or not element.value:
        return None
    if element.VR in ("US", "SS"):
        order = "little" if element.is_little_endian else "big"
        return int.from_bytes(element.value[:2], order, signed=element.VR == "SS")  # type: ignore[arg-type]
    return decode_value(keyword, element.value)
