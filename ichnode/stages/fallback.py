"""Fallback: a destination that does not take a SOP class has the summary page in its place, and is not asked again.

There are PACS that refuse Segmentation or 3D SR. The summary page is a Secondary Capture that says the same to a
reader, and is sent anyway: where it arrives, a result of a refused class is `replaced`, and its job does not fail.
"""

import logging
from collections.abc import Callable

from ichnode.dicom.scu import Outcome
from ichnode.dicom.statuses import Verdict
from ichnode.storage.outbox import STAND_IN, Delivery, Outbox
from ichnode.storage.refused_classes import RefusedClass, RefusedClasses

log = logging.getLogger(__name__)


class Fallback:
    """Of one destination."""

    def __init__(
        self,
        destination: str,
        *,
        outbox: Outbox,
        refused: RefusedClasses,
        offer_again_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._destination = destination
        self._outbox = outbox
        self._refused = refused
        self._offer_again_s = offer_again_s
        self._clock = clock

    def known_to_refuse(self, delivery: Delivery) -> RefusedClass | None:
        """What was refused lately, so that this is replaced without being offered; None: offer it."""
        known = self._refused.at(self._destination).get(delivery.sop_class_uid)
        lately = known is not None and self._clock() < known.refused_at + self._offer_again_s
        return known if lately and self._outbox.stand_in(delivery) else None

    def replaces(self, delivery: Delivery, outcome: Outcome) -> bool:
        """Whether the summary page stands in for what was refused."""
        if not self._refuses_class(delivery, outcome) or not (stand_in := self._outbox.stand_in(delivery)):
            return False
        if stand_in.state != "pending":
            self._remember(delivery, outcome.status, outcome.detail)
        return True

    def taken(self, delivery: Delivery) -> None:
        """A class that is taken after all is no longer refused; the summary page proves that the others are.

        Not before: a destination that takes nothing at all is wrongly configured, and will soon take everything.
        """
        if delivery.sop_class_uid in self._refused.at(self._destination):
            self._refused.reset(self._destination, delivery.sop_class_uid)
        if delivery.role != STAND_IN:
            return
        for other in self._outbox.of_job(delivery.job_id):
            here = other.destination == self._destination and other.state == "replaced"
            if here and not self.known_to_refuse(other):
                self._remember(other, other.status, other.error or "")

    def _remember(self, delivery: Delivery, status: int | None, detail: str) -> None:
        extra = {"destination": self._destination, "job_id": delivery.job_id, "detail": detail}
        log.warning("sop_class_refused", extra=extra)
        self._refused.remember(
            RefusedClass(
                destination=self._destination,
                sop_class_uid=delivery.sop_class_uid,
                refused_at=self._clock(),
                job_id=delivery.job_id,
                status=status,
                detail=detail,
            )
        )

    def _refuses_class(self, delivery: Delivery, outcome: Outcome) -> bool:
        """A9xx and Cxxx are about the instance where others of its class were taken, else about the class."""
        if outcome.verdict is Verdict.UNSUPPORTED:
            return True
        about_data = outcome.status is not None and (outcome.status >> 8 == 0xA9 or outcome.status >> 12 == 0xC)
        if outcome.verdict is not Verdict.PERMANENT or not about_data:
            return False
        return not self._refused.ever_taken(self._destination, delivery.sop_class_uid)
