"""Logs are events without patient data, and received text cannot forge a line."""

import logging

import pytest

from ichnode.logs import EventFormatter, escape


def line(name="ichnode.x", message="instance_kept", exc_info=None, **extra):
    record = logging.LogRecord(name, logging.INFO, __file__, 1, message, (), exc_info)
    record.__dict__.update(extra)
    return EventFormatter().format(record)


def test_an_event_is_one_line_of_action_and_known_fields():
    assert line(job_id=3, detail="two words").endswith('INFO instance_kept job_id=3 detail="two words"')


@pytest.mark.parametrize("field", ["patient_name", "patient_id", "accession_number"])
def test_a_field_that_is_not_listed_is_never_written(field):
    assert "DOE" not in line(**{field: "DOE^JANE"})


def test_what_other_libraries_say_is_not_quoted():
    text = line(name="pydicom", message="Invalid value for VR PN: 'DOE^JANE'")
    assert "DOE" not in text
    assert "logger=pydicom" in text


def test_a_traceback_shows_places_and_no_values():
    try:
        raise ValueError("DOE^JANE")
    except ValueError as error:
        text = line(exc_info=(type(error), error, error.__traceback__))
    assert "error=ValueError" in text
    assert "test_logs.py" in text
    assert "DOE" not in text


@pytest.mark.parametrize(
    ("received", "written"),
    [("CT1", "CT1"), ("a\nb", "a\\x0ab"), ("\x1b[31m", "\\x1b[31m"), ("", '""'), ("a b", '"a b"')],
)
def test_control_characters_are_escaped(received, written):
    assert escape(received) == written


def test_what_was_received_cannot_forge_a_field():
    assert line(source='CT1" level=x').endswith(' source="CT1\\x22 level=x"')
