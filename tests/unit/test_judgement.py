"""What people may say of results, and what follows from it."""

import pytest

from ichnode.domain.judgement import (
    REASON_WORDS,
    Agreement,
    BadOpinion,
    Judgement,
    NoteTitle,
    Opinion,
    RejectReason,
    Verdict,
    agreement,
    newest_of_each_job,
    read_opinion,
    title_of,
)

REJECTED = {"verdict": "rejected", "reason": "missed"}


def judgement(id_, job_id=1, verdict=Verdict.ACCEPTED, *, corrected_ml=None, predicted_ml=30.0, version="1"):
    reason = RejectReason.MISSED if verdict is Verdict.REJECTED else None
    return Judgement(
        id=id_,
        job_id=job_id,
        study_instance_uid="1.2",
        at=0.0,
        who="anna",
        opinion=Opinion(verdict=verdict, reason=reason, corrected_ml=corrected_ml),
        bundle="hematoma",
        bundle_version=version,
        weights_sha256="a",
        predicted_ml=predicted_ml,
        withdraws=False,
    )


def test_an_opinion_is_read_from_a_form():
    said = {"verdict": "rejected", "reason": "other", "comment": " motion,\r\ntwice ", "corrected_ml": " 12,5 "}
    expected = Opinion(verdict=Verdict.REJECTED, reason=RejectReason.OTHER, comment="motion,\ntwice", corrected_ml=12.5)
    assert read_opinion(said) == expected
    assert read_opinion({"verdict": "accepted", "corrected_ml": "0"}).corrected_ml == 0


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({}, "verdict"),
        ({"verdict": "<b>"}, "verdict"),
        ({"verdict": "rejected"}, "reason"),
        ({"verdict": "accepted", "reason": "missed"}, "reason"),
        (REJECTED | {"reason": "because"}, "reason"),
        (REJECTED | {"reason": "other"}, "comment"),
        (REJECTED | {"comment": "x" * 1001}, "comment"),
        (REJECTED | {"comment": "a\0b"}, "comment"),
        (REJECTED | {"comment": "a\x1b[31m"}, "comment"),
        (REJECTED | {"comment": "a\u202eb"}, "comment"),
        *((REJECTED | {"corrected_ml": ml}, "corrected_ml") for ml in ("nan", "inf", "-1", "500.1", "1e999", "x", "٣")),
        (REJECTED | {"corrected_ml": "1" * 5000}, "corrected_ml"),
    ],
)
def test_what_is_no_opinion_is_told_by_field(said, field):
    with pytest.raises(BadOpinion) as refused:
        read_opinion(said)
    assert list(refused.value.problems) == [field]


def test_every_reason_has_words_and_a_title():
    assert set(REASON_WORDS) == set(RejectReason)
    assert {title_of(reason) for reason in RejectReason} == set(NoteTitle)
    assert title_of(RejectReason.MISSED) is NoteTitle.SAFETY
    assert title_of(RejectReason.WRONG_OUTLINE) is NoteTitle.QUALITY


def test_the_newest_judgement_of_a_job_counts():
    first, other, second = judgement(1), judgement(2, job_id=2), judgement(3, verdict=Verdict.REJECTED)
    assert newest_of_each_job([second, first, other]) == [other, second]


def test_agreement_is_told_by_version_of_the_model():
    said = [
        judgement(1, 1, corrected_ml=28.0),
        judgement(2, 2, Verdict.REJECTED, corrected_ml=36.0),
        judgement(3, 3, Verdict.REJECTED),
        judgement(4, 3),
        judgement(5, 4, Verdict.REJECTED, version="2"),
    ]
    old, new = agreement(said)
    assert old == Agreement(
        bundle="hematoma",
        bundle_version="1",
        judged=3,
        accepted=2,
        corrected=2,
        mean_error_ml=-2.0,
        mean_absolute_error_ml=4.0,
    )
    assert (old.rate, new.rate, new.mean_error_ml) == (2 / 3, 0.0, None)
