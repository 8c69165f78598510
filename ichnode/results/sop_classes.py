"""Which SOP classes the result objects of a configuration have: what a destination must accept."""

from collections.abc import Collection

from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage, SegmentationStorage

from ichnode.results.predicted_series import FOLLOWUP_SOP_CLASSES
from ichnode.results.provenance import Role
from ichnode.results.structured_report import SOP_CLASSES

_SEGMENTATIONS = {Role.SEGMENTATION, Role.PREDICTED_SEGMENTATION}
_REPORTS = {Role.MEASUREMENT_REPORT, Role.OUTLINE_REPORT, Role.PREDICTION_REPORT}


def sop_classes_of(roles: Collection[str], *, report_sop: str, followup_sop: str) -> list[str]:
    """The SOP Class UIDs of objects with `roles`, each once."""

    def sop_class(role: Role) -> str:
        if role in _SEGMENTATIONS:
            return str(SegmentationStorage)
        if role in _REPORTS:
            return str(SOP_CLASSES[report_sop])
        if role is Role.REJECTION_NOTE:
            return str(KeyObjectSelectionDocumentStorage)
        return str(
            FOLLOWUP_SOP_CLASSES[followup_sop] if role is Role.PREDICTED_SERIES else SecondaryCaptureImageStorage
        )

    return list(dict.fromkeys(sop_class(Role(role)) for role in roles))
