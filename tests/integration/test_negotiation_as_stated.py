"""What is negotiated is what the conformance statement says: every storage SOP class and syntax is proposed."""

import re
from pathlib import Path

import pytest
from pydicom.uid import AllTransferSyntaxes, CTImageStorage
from pynetdicom import AE, build_role
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import _STORAGE_CLASSES, StorageCommitmentPushModel, Verification

from ichnode.dicom.negotiation import IMPLEMENTATION_VERSION_NAME
from ichnode.domain.identity import IMPLEMENTATION_CLASS_UID

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text("utf-8")
MOST_CONTEXTS = 128  # in one association
NO_SUCH_CLASS, NO_SUCH_SYNTAX = 3, 4
SETS = {
    letter: tuple(re.findall(r"1\.2\.840[\d.]+", line))
    for letter, line in re.findall(r"^\| ([A-H]) \| (.+)$", TEXT, re.MULTILINE)
}
STATED = {uid: SETS[letter] for uid, letter in re.findall(r"^\| [^|]+ \| ([\d.]+) \| ([A-H]) \|", TEXT, re.MULTILINE)}
CLASSES = [str(Verification), *map(str, _STORAGE_CLASSES.values())]


def results(port, proposals):
    """(class, syntax or syntaxes) -> (result, accepted syntax), in as many associations as that takes."""
    found = {}
    for first in range(0, len(proposals), MOST_CONTEXTS):
        some = proposals[first : first + MOST_CONTEXTS]
        ae = AE("SCANNER")
        contexts = [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in some]
        association = ae.associate("127.0.0.1", port, contexts=contexts, ae_title="ICHNODE")
        answers = {c.context_id: c for c in (*association.accepted_contexts, *association.rejected_contexts)}
        for number, proposal in enumerate(some):
            answer = answers[2 * number + 1]
            found[proposal] = (answer.result, str(answer.transfer_syntax[0]) if answer.result == 0 else None)
        association.release() if association.is_established else association.abort()
    return found


@pytest.fixture
def port(start_receiving):
    return start_receiving().port


def test_the_statement_is_read():
    assert len(STATED) == 16
    assert len(CLASSES) > 150


def test_a_sop_class_is_accepted_if_it_is_stated(port):
    every = tuple(map(str, AllTransferSyntaxes))
    found = results(port, [(sop_class, every) for sop_class in CLASSES])
    accepted = {sop_class for (sop_class, _), (result, _) in found.items() if result == 0}
    assert accepted == STATED.keys()
    assert {result for result, _ in found.values()} == {0, NO_SUCH_CLASS}


def test_a_transfer_syntax_is_accepted_if_it_is_stated_for_the_class(port):
    proposals = [(sop_class, (str(syntax),)) for sop_class in STATED for syntax in AllTransferSyntaxes]
    for (sop_class, (syntax,)), (result, _) in results(port, proposals).items():
        assert result == (0 if syntax in STATED[sop_class] else NO_SUCH_SYNTAX), (sop_class, syntax)


def test_of_several_the_one_that_is_stated_first_is_taken(port):
    stated = SETS["B"]
    found = results(port, [(CTImageStorage, stated[first:][::-1]) for first in range(len(stated))])
    assert [syntax for _, syntax in found.values()] == list(stated)


def test_who_answers_is_as_stated(port):
    association = AE("SCANNER").associate("127.0.0.1", port, contexts=[build_context(Verification)], ae_title="ICHNODE")
    answer = association.acceptor
    told = str(answer.implementation_class_uid), answer.implementation_version_name
    association.release()
    assert told == (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
    assert all(f"| {said} |" in TEXT for said in told)
    assert "| longest PDU | 128 KiB" in TEXT
    assert answer.maximum_length == 128 * 1024


def test_reports_on_commitment_are_taken_by_who_proposes_the_role(port):
    def accepted(*, scp_role):
        context = build_context(StorageCommitmentPushModel)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if scp_role else []
        association = AE("PACS").associate("127.0.0.1", port, contexts=[context], ae_title="ICHNODE", ext_neg=roles)
        as_scp = [c.as_scp for c in association.accepted_contexts]
        association.release() if association.is_established else association.abort()
        return as_scp

    assert accepted(scp_role=True) == [True]
    assert accepted(scp_role=False) != [True]
