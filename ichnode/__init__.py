"""ichnode: a DICOM node that returns hematoma results for non-contrast head CT. Research use only."""

import os

__version__ = "0.1.0"

# read by OpenMP when torch is loaded, later than this: threads that spin while they wait take the processor from others
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
