"""Judgement: what a person says of the results of a job, and how often people agree with a model.

Judgements are only added. Of those of one job the newest counts; the earlier ones stay beside it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

NOTE_ROLE = "rejection_note"  # of the result that withdraws the others of its job
MOST_ML = 500.0  # no hematoma is larger
MOST_CHARACTERS = 1000


class Verdict(StrEnum):
    """What was said."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class NoteTitle(StrEnum):
    """The Document Title of a rejection note, by its code value of DCM (CID 7010; IHE RAD-66)."""

    QUALITY = "113001"
    SAFETY = "113037"


class RejectReason(StrEnum):
    """Why results are rejected. The value is stored and exported; the words are `REASON_WORDS`."""

    WRONG_OUTLINE = "wrong_outline"
    MISSED = "missed"
    FALSE_ALARM = "false_alarm"
    WRONG_TYPE = "wrong_type"
    WRONG_PREDICTION = "wrong_prediction"
    POOR_IMAGES = "poor_images"
    WRONG_PATIENT = "wrong_patient"
    OTHER = "other"


REASON_WORDS: Mapping[RejectReason, str] = {
    RejectReason.WRONG_OUTLINE: "outline or volume is wrong",
    RejectReason.MISSED: "hemorrhage was missed",
    RejectReason.FALSE_ALARM: "there is no hemorrhage where one is marked",
    RejectReason.WRONG_TYPE: "type of hemorrhage is wrong",
    RejectReason.WRONG_PREDICTION: "prediction is implausible",
    RejectReason.POOR_IMAGES: "images are not good enough to be analysed",
    RejectReason.WRONG_PATIENT: "images are of another patient",
    RejectReason.OTHER: "another reason, see the comment",
}
_ENDANGERS = frozenset({RejectReason.MISSED, RejectReason.FALSE_ALARM, RejectReason.WRONG_PATIENT})


def title_of(reason: RejectReason) -> NoteTitle:
    """Under which title a rejection withdraws: whether who believed the results could harm a patient, or not."""
    return NoteTitle.SAFETY if reason in _ENDANGERS else NoteTitle.QUALITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a person says; `reason` is there when it is a rejection, and only then."""

    verdict: Verdict
    reason: RejectReason | None = None
    comment: str = ""
    corrected_ml: float | None = None  # what the hematoma measures by hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An opinion on the results of one job, and the model that they are from."""

    id: int
    job_id: int
    study_instance_uid: str
    at: float  # seconds since the epoch
    who: str
    opinion: Opinion
    bundle: str
    bundle_version: str
    weights_sha256: str
    predicted_ml: float  # 0: no hematoma was found
    withdraws: bool  # it is the one by which the results are withdrawn from the destinations


class BadOpinion(ValueError):
    """What was said is not an opinion; `problems` by the field of the form."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in problems.items()))
        self.problems = problems


def read_opinion(said: Mapping[str, str]) -> Opinion:
    """The opinion in a form with the fields verdict, reason, comment and corrected_ml. Raises BadOpinion."""
    problems: dict[str, str] = {}
    verdict = said.get("verdict", "")
    if verdict not in set(Verdict):
        problems["verdict"] = "accept or reject"
    rejects, reason = verdict == Verdict.REJECTED, said.get("reason", "")
    if rejects and reason not in set(RejectReason):
        problems["reason"] = "say why it is rejected"
    elif verdict == Verdict.ACCEPTED and reason:
        problems["reason"] = "is that of a rejection: reject, or choose none"
    comment = said.get("comment", "").replace("\r\n", "\n").strip()
    if len(comment) > MOST_CHARACTERS:
        problems["comment"] = f"has {len(comment)} characters; {MOST_CHARACTERS} are the most"
    elif not all(character.isprintable() or character in "\n\t" for character in comment):
        problems["comment"] = "has characters that are no text"
    elif rejects and reason == RejectReason.OTHER and not comment:
        problems["comment"] = "say which other reason"
    try:
        corrected_ml = _read_ml(said.get("corrected_ml", "").strip())
    except ValueError:
        problems["corrected_ml"] = f"a number from 0 to {MOST_ML:g}, in mL"
    if problems:
        raise BadOpinion(problems)
    return Opinion(
        verdict=Verdict(verdict),
        reason=RejectReason(reason) if rejects else None,
        comment=comment,
        corrected_ml=corrected_ml,
    )


def _read_ml(text: str) -> float | None:
    if not text:
        return None
    if not text.isascii() or len(text) > 20:
        raise ValueError
    value = float(text.replace(",", ".", 1))
    if not (math.isfinite(value) and 0 <= value <= MOST_ML):
        raise ValueError
    return abs(value)  # -0 is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How people judged the results of one version of a model, each job by its newest judgement."""

    bundle: str
    bundle_version: str
    judged: int
    accepted: int
    corrected: int  # of the judged, those with a corrected volume
    mean_error_ml: float | None  # predicted minus corrected, of those; None without any
    mean_absolute_error_ml: float | None

    @property
    def rate(self) -> float:
        """The share that was accepted."""
        return self.accepted / self.judged


def newest_of_each_job(judgements: Iterable[Judgement]) -> list[Judgement]:
    """Those that count, in order of their ids."""
    newest = {judgement.job_id: judgement for judgement in sorted(judgements, key=lambda j: j.id)}
    return sorted(newest.values(), key=lambda j: j.id)


def agreement(judgements: Iterable[Judgement]) -> list[Agreement]:
    """One for each version of a model that was judged, by name and version."""
    by_model: dict[tuple[str, str], list[Judgement]] = {}
    for judgement in newest_of_each_job(judgements):
        by_model.setdefault((judgement.bundle, judgement.bundle_version), []).append(judgement)
    return [_agreement(*model, judged) for model, judged in sorted(by_model.items())]


def _agreement(bundle: str, version: str, judged: list[Judgement]) -> Agreement:
    errors = [j.predicted_ml - j.opinion.corrected_ml for j in judged if j.opinion.corrected_ml is not None]
    return Agreement(
        bundle=bundle,
        bundle_version=version,
        judged=len(judged),
        accepted=sum(j.opinion.verdict is Verdict.ACCEPTED for j in judged),
        corrected=len(errors),
        mean_error_ml=sum(errors) / len(errors) if errors else None,
        mean_absolute_error_ml=sum(map(abs, errors)) / len(errors) if errors else None,
    )
