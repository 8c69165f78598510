"""Structured logs: one line an event, and the one place that knows what may be written.

A record's message is a fixed snake_case action; facts travel in `extra`. Only the fields in `FIELDS` are written: UIDs,
AE titles, states, counts. Patient names and IDs have no field, so no level of logging shows them. Received text is
escaped. Records of other libraries are written from ERROR on and by logger name only, because their messages may
quote data sets.
"""

import logging
import sys
import time
import traceback

FIELDS = (
    "association_id",
    "source",
    "called_ae_title",
    "peer",
    "destination",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "job_id",
    "state",
    "reason",
    "rule",
    "status",
    "count",
    "seconds",
    "detail",
)


class EventFormatter(logging.Formatter):
    """`2026-01-31T03:00:00Z INFO action key=value ...`, a traceback of file and line below it."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, plus the traceback without its values."""
        own = record.name.startswith("ichnode")
        action = record.getMessage() if own else f"library_error logger={record.name}"
        fields = [f"{name}={escape(getattr(record, name))}" for name in FIELDS if hasattr(record, name)]
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ")
        line = " ".join([stamp, record.levelname, action, *fields])
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            frames = [f"  {f.filename}:{f.lineno} in {f.name}" for f in traceback.extract_tb(error.__traceback__)]
            line = "\n".join([f"{line} error={type(error).__name__}", *frames])
        return line


def escape(value: object) -> str:
    """Text that stays on its line, and within quotes where it has spaces; control characters are shown."""
    text = "".join(c if c.isprintable() and c != '"' else f"\\x{ord(c):02x}" for c in str(value)[:500])
    return f'"{text}"' if " " in text or not text else text


def set_up(level: int = logging.INFO) -> None:
    """Log events to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter())
    logging.basicConfig(level=logging.ERROR, handlers=[handler], force=True)
    logging.captureWarnings(True)  # they quote what was received: not written, as what other libraries log
    logging.getLogger("ichnode").setLevel(level)
    for library in ("pydicom", "pynetdicom"):  # they quote what they read; ichnode tells of refusals itself
        logging.getLogger(library).setLevel(logging.CRITICAL)
