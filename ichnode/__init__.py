"""ichnode: a DICOM node that returns hematoma results for non-contrast head CT. Research use only."""

__version__ = "0.1.0"
