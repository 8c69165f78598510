"""Names of things on a DICOM network: AE titles and UIDs."""

import re
import uuid

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_NAMESPACE = uuid.UUID("6b0f6a53-52dc-5f3c-9c9e-1d1c3b5f0a77")


def clean_ae_title(received: str) -> str:
    """An AE title without the NUL bytes and spaces that devices pad it with; "" when nothing is left."""
    return received.split("\0", 1)[0].strip() if received.strip("\0 ") else ""


def is_ae_title(text: str) -> bool:
    r"""Whether `text` may stand in a configuration: 1-16 printable ASCII characters, no backslash (PS3.5 6.2, AE)."""
    return 1 <= len(text.strip()) <= 16 and len(text) <= 16 and all(" " <= c <= "~" and c != "\\" for c in text)


def is_uid(text: str) -> bool:
    """Whether `text` is a valid UID: at most 64 characters, numeric components without leading zeros (PS3.5 9.1)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def derived_uid(*parts: str) -> str:
    """The UID that these parts always give: 2.25.<uuid5> (PS3.5 B.2), so that repeated work names the same object."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}"


IMPLEMENTATION_CLASS_UID = derived_uid("implementation")  # ichnode's own, in associations and files (PS3.7 D.3.3.2)
