"""C-STOREs of instances that are not what they claim, or are odd but real.

What is wrong has a named status and leaves nothing (guarantees 12 to 16); what is odd but real is stored byte for byte
(guarantees 14 and 17).
"""

import struct
from pathlib import Path

import pytest

from tests.hostile import pdus
from tests.hostile.data_sets import (
    INSTANCE,
    ITEM,
    ITEM_END,
    PIXELS,
    SEQUENCE_END,
    SERIES,
    SOP_CLASS,
    STUDY,
    UNDEFINED,
    ct_image,
    deflate_bomb,
    deflated,
    element,
    nested,
    new_uid,
)
from tests.hostile.peer import ENDED

STORED, INVALID_UID, NO_ROOM, MISMATCH, MALFORMED, CONFLICT = 0x0000, 0x0117, 0xA700, 0xA900, 0xC000, 0xC001
ABSOLUTE = f"/tmp/ichnode-hostile-{new_uid()[-12:].decode()}"
FOUR_GB = 0xFFFFFFFE

UIDS = {
    "a path upwards": b"../../../escaped",
    "a path upwards behind a UID": b"1.2.3/../../../../escaped",
    "an absolute path": ABSOLUTE.encode(),
    "a Windows path": b"..\\..\\escaped",
    "a device": b"/dev/full",
    "two dots": b"..",
    "a NUL inside": b"1.2\0.3",
    "a NUL and a path": b"1.2.3\0/../../escaped",
    "a line feed": b"1.2.3\n4",
    "letters": b"abc",
    "a command": b"1.2;touch escaped;",
    "a shell's substitution": b"$(touch escaped)",
    "SQL": b"1.2'; DROP TABLE instances;--",
    "a leading zero": b"1.02.3",
    "an empty component": b"1..3",
    "a dot at the end": b"1.2.3.",
    "a dot at the start": b".1.2.3",
    "a minus": b"1.-2.3",
    "a space inside": b"1.2 .3",
    "a wildcard": b"1.2.*",
    "digits that are not ASCII": "1.2.٣".encode(),
    "bytes that are not ASCII": b"1.2.\xff\xfe",
}
UIDS_TOO_LONG = {
    "65 characters": b"1." + b"2" * 63,
    "300 characters": b"1." + b"2" * 298,
    "60,000 characters": b"1." + b"2" * 60_000,
    "none": b"",
}


def rows(table):
    return [pytest.param(*(value if isinstance(value, tuple) else (value,)), id=name) for name, value in table.items()]


@pytest.mark.parametrize("uid", rows(UIDS))
def test_an_instance_uid_that_is_none_is_named_so_and_never_becomes_a_path(peer, uid):
    assert peer.store(pdus.CT, uid, ct_image(uid).encoded()).outcome == INVALID_UID
    assert peer.in_step()
    assert not Path(ABSOLUTE).exists()


@pytest.mark.parametrize("uid", rows(UIDS_TOO_LONG))
def test_an_instance_uid_of_no_lawful_length_is_refused(peer, uid):
    assert peer.store(pdus.CT, uid, b"").outcome in {INVALID_UID, *ENDED}


def test_an_instance_uid_of_64_characters_is_stored(node, peer):
    uid = new_uid().ljust(64, b"7")
    image = ct_image(uid)
    assert peer.store(pdus.CT, uid, image.encoded()).outcome == STORED
    assert node.stored(uid) == image.encoded()


IMAGE = ct_image()
CAPTURE_CLASS = (b"UI", pdus.SECONDARY_CAPTURE)
DISAGREEMENTS = {
    "another class in the data set": (pdus.CT, {}, {SOP_CLASS: CAPTURE_CLASS}),
    "no class in the data set": (pdus.CT, {}, {SOP_CLASS: None}),
    "an empty class in the data set": (pdus.CT, {}, {SOP_CLASS: (b"UI", b"")}),
    "another class in the command": (pdus.CT, {0x0002: pdus.SECONDARY_CAPTURE}, {}),
    "another class in command and data set": (
        pdus.CT,
        {0x0002: pdus.SECONDARY_CAPTURE},
        {SOP_CLASS: CAPTURE_CLASS},
    ),
    "the context of another class": (pdus.CAPTURE, {}, {}),
    "another instance in the data set": (pdus.CT, {}, {INSTANCE: (b"UI", b"1.2.3.4.5")}),
    "no instance in the data set": (pdus.CT, {}, {INSTANCE: None}),
    "an empty instance in the data set": (pdus.CT, {}, {INSTANCE: (b"UI", b"")}),
    "no study": (pdus.CT, {}, {STUDY: None}),
    "an empty study": (pdus.CT, {}, {STUDY: (b"UI", b"")}),
    "a study that is a path": (pdus.CT, {}, {STUDY: (b"UI", b"../../escaped")}),
    "a study of 65 characters": (pdus.CT, {}, {STUDY: (b"UI", b"1." + b"2" * 63)}),
    "two studies": (pdus.CT, {}, {STUDY: (b"UI", b"1.2.3\\1.2.4")}),
    "no series": (pdus.CT, {}, {SERIES: None}),
    "an empty series": (pdus.CT, {}, {SERIES: (b"UI", b"")}),
    "a series with letters": (pdus.CT, {}, {SERIES: (b"UI", b"1.2.x")}),
    "an instance inside a sequence only": (
        pdus.CT,
        {},
        {
            INSTANCE: None,
            0x00081140: (
                b"SQ",
                ITEM + struct.pack("<L", 8 + 44) + element(INSTANCE, b"UI", IMAGE.uid.ljust(44, b"\0")),
            ),
        },
    ),
}


@pytest.mark.parametrize(("context_id", "command", "contents"), rows(DISAGREEMENTS))
def test_command_context_and_data_set_must_agree_and_name_study_and_series(peer, context_id, command, contents):
    assert peer.store(context_id, IMAGE.uid, IMAGE.but(contents).encoded(), changes=command).outcome == MISMATCH
    assert peer.in_step()


WHOLE, HEAD = IMAGE.encoded(), IMAGE.head
ENCAPSULATED = (
    HEAD
    + element(PIXELS, b"OB", b"", length=UNDEFINED)
    + b"".join((ITEM + bytes(4), ITEM + struct.pack("<L", 64) + bytes(64), SEQUENCE_END + bytes(4)))
)
EMPTY_ITEMS = (ITEM + bytes(4)) * 200_000
MALFORMED_DATA_SETS = {
    "one byte": (pdus.CT, b"\x08"),
    "a tag alone": (pdus.CT, WHOLE[:4]),
    "half a header": (pdus.CT, WHOLE[:7]),
    "a header without its value": (pdus.CT, WHOLE[:8]),
    "cut inside a text": (pdus.CT, WHOLE[:20]),
    "cut inside the pixels": (pdus.CT, WHOLE[:-100]),
    "without the last byte": (pdus.CT, WHOLE[:-1]),
    "with three bytes behind": (pdus.CT, WHOLE + b"abc"),
    "noise": (pdus.CT, bytes(range(255, 0, -1)) * 40),
    "text": (pdus.CT, b"this is no data set, is it? " * 10),
    "ones": (pdus.CT, b"\xff" * 1000),
    "big endian bytes": (pdus.CT, IMAGE.encoded(order=">")),
    "explicit labelled implicit": (pdus.CT_IMPLICIT, WHOLE),
    "implicit labelled explicit": (pdus.CT, IMAGE.encoded(explicit=False)),
    "native labelled RLE": (pdus.CT_RLE, WHOLE),
    "encapsulated labelled native": (pdus.CT, ENCAPSULATED),
    "native labelled deflated": (pdus.CT_DEFLATED, WHOLE),
    "deflated labelled native": (pdus.CT, deflated(WHOLE)),
    "deflated, cut": (pdus.CT_DEFLATED, deflated(WHOLE)[:-20]),
    "deflated, with more behind": (pdus.CT_DEFLATED, deflated(WHOLE) + b"more"),
    "deflated with zlib's header": (pdus.CT_DEFLATED, b"\x78\x9c" + deflated(WHOLE)),
    "deflated noise": (pdus.CT_DEFLATED, deflated(bytes(range(255, 0, -1)) * 40)),
    "a whole DICOM file": (pdus.CT, bytes(128) + b"DICM" + WHOLE),
    "file meta before it": (pdus.CT, element(0x00020010, b"UI", pdus.EXPLICIT) + WHOLE),
    "a command before it": (pdus.CT, struct.pack("<HHLH", 0, 0x0100, 2, 1) + WHOLE),
    "no VR there is": (pdus.CT, element(0x00080005, b"??", b"ISO_IR 100") + WHOLE),
    "an element of 4 GB": (pdus.CT, HEAD + element(PIXELS, b"OW", bytes(512), length=FOUR_GB)),
    "a text of 4 GB": (pdus.CT, HEAD + element(0x00204000, b"UT", b"", length=FOUR_GB)),
    "a sequence of 4 GB": (pdus.CT, HEAD + element(0x0040A730, b"SQ", b"", length=FOUR_GB)),
    "an item of 4 GB": (pdus.CT, HEAD + element(0x0040A730, b"SQ", ITEM + struct.pack("<L", FOUR_GB))),
    "a fragment of 4 GB": (pdus.CT_RLE, ENCAPSULATED[:-80] + ITEM + struct.pack("<L", FOUR_GB)),
    "a text of undefined length": (pdus.CT, HEAD + element(0x00204000, b"UT", b"", length=UNDEFINED)),
    "pixels of undefined length": (pdus.CT, HEAD + element(PIXELS, b"OW", bytes(512), length=UNDEFINED)),
    "a sequence that does not end": (pdus.CT, HEAD + element(0x0040A730, b"SQ", b"", length=UNDEFINED)),
    "an item that does not end": (
        pdus.CT,
        HEAD + element(0x0040A730, b"SQ", ITEM + struct.pack("<L", UNDEFINED), length=UNDEFINED),
    ),
    "an end of an item, and no item": (pdus.CT, HEAD + ITEM_END + bytes(4)),
    "an end of a sequence, and no sequence": (pdus.CT, HEAD + SEQUENCE_END + bytes(4)),
    "33 sequences in each other": (pdus.CT, HEAD + nested(33)),
    "10,000 sequences in each other": (pdus.CT, HEAD + nested(10_000)),
    "10,000 sequences that do not end": (pdus.CT, HEAD + nested(10_000)[: 20 * 10_000]),
    "200,000 empty items": (
        pdus.CT,
        HEAD + element(0x0040A730, b"SQ", b"", length=UNDEFINED) + EMPTY_ITEMS + SEQUENCE_END + bytes(4),
    ),
    "200,000 empty fragments": (pdus.CT_RLE, HEAD + element(PIXELS, b"OB", b"", length=UNDEFINED) + EMPTY_ITEMS),
    "250,000 elements": (pdus.CT, HEAD + element(0x00204000, b"LT", b"") * 250_000),
    "10,000 private sequences of unknown VR in each other": (
        pdus.CT,
        HEAD
        + (element(0x00091001, b"UN", b"", length=UNDEFINED) + ITEM + b"\xff" * 4)
        + struct.pack("<HHL", 9, 0x1001, UNDEFINED) * 10_000,
    ),
}


@pytest.mark.parametrize(("context_id", "data_set"), rows(MALFORMED_DATA_SETS))
def test_a_data_set_that_is_not_whole_under_its_syntax_cannot_be_understood(peer, context_id, data_set):
    assert peer.store(context_id, IMAGE.uid, data_set).outcome == MALFORMED
    assert peer.in_step()


def test_a_deflate_bomb_of_1_gib_is_refused_for_want_of_resources_and_costs_less_than_256_mb(node, peer):
    before_mb = node.forget_peak()
    assert peer.store(pdus.CT_DEFLATED, IMAGE.uid, deflate_bomb(1024)).outcome == NO_ROOM
    assert node.peak_rss_mb() - before_mb < 256
    assert peer.in_step()


TEXT, PRIVATE = 0x00204000, 0x00091001
ODD_BUT_REAL = {
    "nothing odd": {},
    "Japanese": {0x00080005: (b"CS", b"\\ISO 2022 IR 87"), 0x00100010: (b"PN", b"Yamada=\x1b$B;3ED\x1b(B")},
    "Chinese, GB18030": {0x00080005: (b"CS", b"GB18030"), 0x00100010: (b"PN", "王^小东".encode("gb18030"))},
    "Korean": {0x00080005: (b"CS", b"\\ISO 2022 IR 149"), 0x00100010: (b"PN", b"Hong=\x1b$)C\xfb\xf3")},
    "UTF-8": {0x00080005: (b"CS", b"ISO_IR 192"), 0x00100010: (b"PN", "Äneas^Rüdiger".encode())},
    "UTF-8 that is not declared": {0x00100010: (b"PN", "Äneas^Rüdiger".encode())},
    "UTF-8 that is none": {0x00080005: (b"CS", b"ISO_IR 192"), 0x00100010: (b"PN", b"\xff\xfe\xc3\x28")},
    "a character set that there is not": {0x00080005: (b"CS", b"KLINGON"), 0x00100010: (b"PN", b"\x80\x81")},
    "control characters in the name": {0x00100010: (b"PN", b"A\x1b[2J\r\nB\0C\x07")},
    "a private element of 5 MB": {0x00090010: (b"LO", b"ACME"), PRIVATE: (b"OB", bytes(5_000_000))},
    "a private element of unknown VR": {0x00090010: (b"LO", b"ACME"), PRIVATE: (b"UN", b"\1\2\3")},
    "a private element without creator": {PRIVATE: (b"LO", b"whose?")},
    "empty dates": {0x00080020: (b"DA", b""), 0x00080030: (b"TM", b""), 0x00100030: (b"DA", b"")},
    "dates of old": {0x00080020: (b"DA", b"2020.01.01"), 0x00080030: (b"TM", b"12:30:00")},
    "dates that there are not": {0x00080020: (b"DA", b"20200231"), 0x00080030: (b"TM", b"256199")},
    "numbers that are none": {0x00200013: (b"IS", b"one"), 0x00180050: (b"DS", b"NaN")},
    "numbers that are too long": {0x00200013: (b"IS", b"9" * 40), 0x00180050: (b"DS", b"5." + b"0" * 60)},
    "group lengths": {0x00080000: (b"UL", b"\0\0\0\0"), 0x00280000: (b"UL", b"\xff\xff\0\0")},
    "an empty sequence": {0x00081140: (b"SQ", b"")},
    "a sequence of an empty item": {0x00081140: (b"SQ", ITEM + bytes(4))},
    "trailing padding": {0xFFFCFFFC: (b"OB", bytes(1000))},
    "overlays and curves": {0x50000010: (b"US", 1), 0x60000010: (b"US", 16), 0x60003000: (b"OW", bytes(32))},
    "a text of 60,000 characters": {TEXT: (b"LT", b"long " * 12_000)},
    "no pixels": {PIXELS: None},
    "too few pixels": {PIXELS: (b"OW", bytes(10))},
    "too many pixels": {PIXELS: (b"OW", bytes(100_000))},
    "65535 x 65535": {0x00280010: (b"US", 0xFFFF), 0x00280011: (b"US", 0xFFFF)},
    "two thousand million frames": {0x00280008: (b"IS", b"2147483648")},
    "no rows, no columns, no bits": {0x00280010: None, 0x00280011: None, 0x00280100: None},
    "no modality": {0x00080060: None},
    "no patient": {0x00100010: None, 0x00100020: None},
    "two values where one belongs": {0x00080060: (b"CS", b"CT\\MR"), 0x00280010: (b"US", b"\x10\0\x10\0")},
    "another VR than the dictionary's": {0x00280010: (b"IS", b"16"), 0x00080060: (b"LO", b"CT")},
}


@pytest.mark.parametrize("explicit", [pytest.param(True, id="explicit"), pytest.param(False, id="implicit")])
@pytest.mark.parametrize("contents", rows(ODD_BUT_REAL))
def test_what_is_odd_but_real_is_stored_byte_for_byte(node, peer, contents, explicit):
    image = ct_image().but(contents)
    data_set = image.encoded(explicit=explicit)
    assert peer.store(pdus.CT if explicit else pdus.CT_IMPLICIT, image.uid, data_set).outcome == STORED
    assert node.stored(image.uid) == data_set
    assert peer.in_step()


ODDLY_ENCODED = {
    "trailing zeros": (pdus.CT, lambda image: image.encoded() + bytes(50)),
    "elements in no order": (
        pdus.CT,
        lambda image: b"".join(element(tag, *content) for tag, content in reversed(image.contents.items())),
    ),
    "an element twice": (pdus.CT, lambda image: element(0x00080008, b"CS", b"DERIVED ") + image.encoded()),
    "an odd length": (pdus.CT, lambda image: image.head + element(TEXT, b"LT", b"odd", length=3)[:-1]),
    "elements behind the pixels": (pdus.CT, lambda image: image.encoded() + element(0x00091002, b"LO", b"late")),
    "32 sequences in each other": (pdus.CT, lambda image: image.head + nested(32)),
    "unknown VR of undefined length": (
        pdus.CT,
        lambda image: (
            element(0x00080000, b"UL", bytes(4))
            + image.head
            + element(PRIVATE, b"UN", b"", length=UNDEFINED)
            + SEQUENCE_END
            + bytes(4)
        ),
    ),
    "1000 empty items": (pdus.CT, lambda image: image.head + element(0x0040A730, b"SQ", EMPTY_ITEMS[:8000])),
    "encapsulated pixels": (pdus.CT_RLE, lambda image: image.head + ENCAPSULATED[len(HEAD) :]),
    "deflated": (pdus.CT_DEFLATED, lambda image: deflated(image.encoded())),
    "deflated and padded": (pdus.CT_DEFLATED, lambda image: deflated(image.encoded()) + b"\0"),
}


@pytest.mark.parametrize(("context_id", "encode"), rows(ODDLY_ENCODED))
def test_what_is_oddly_but_lawfully_encoded_is_stored_byte_for_byte(node, peer, context_id, encode):
    image = ct_image()
    data_set = encode(image)
    assert peer.store(context_id, image.uid, data_set).outcome == STORED
    assert node.stored(image.uid) == data_set
    assert peer.in_step()


def test_the_same_bytes_again_are_a_success(node, peer):
    image = ct_image()
    assert [peer.store(pdus.CT, image.uid, image.encoded()).outcome for _ in range(3)] == [STORED] * 3
    assert node.stored(image.uid) == image.encoded()


@pytest.mark.parametrize(
    ("context_id", "encode"),
    [
        pytest.param(pdus.CT, lambda image: image.but({PIXELS: (b"OW", bytes(512))}).encoded(), id="other pixels"),
        pytest.param(pdus.CT, lambda image: image.but({STUDY: (b"UI", b"1.2.3.4")}).encoded(), id="another study"),
        pytest.param(pdus.CT, lambda image: image.encoded() + bytes(2), id="two zeros more"),
        pytest.param(pdus.CT_IMPLICIT, lambda image: image.encoded(explicit=False), id="another syntax"),
    ],
)
def test_other_bytes_under_a_known_uid_are_answered_with_failure_and_the_first_are_kept(node, peer, context_id, encode):
    image = ct_image()
    assert peer.store(pdus.CT, image.uid, image.encoded()).outcome == STORED
    refusal = peer.store(context_id, image.uid, encode(image))
    assert refusal.outcome == CONFLICT
    assert refusal.command[0x0902]
    assert node.stored(image.uid) == image.encoded()


def test_the_log_holds_no_patient_and_no_control_character(node, peer):
    image = ct_image().but({0x00100010: (b"PN", b"Secret^Patient"), STUDY: None})
    peer.store(pdus.CT, image.uid, image.encoded())
    peer.store(pdus.CT, b"1.2\x1b[2J\n3", image.encoded())
    log = node.log.read_text()
    assert "Secret" not in log
    assert "Hostile^Harry" not in log
    assert all(character >= " " or character == "\n" for character in log)
    assert not any(line.startswith("3") for line in log.splitlines())
