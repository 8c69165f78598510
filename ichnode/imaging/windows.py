"""HU windows: what a range of HU is shown as. Widths and levels in HU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ichnode.imaging.volume import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A display window, as WindowWidth and WindowCenter (PS3.3 C.11.2.1.2)."""

    width: float
    level: float


# Common reading preset for head CT: Radiopaedia, "Windowing (CT)", https://radiopaedia.org/articles/windowing-ct
BRAIN = Window(width=80, level=40)
# The same: "subdural" W 130 to 300, L 50 to 100, their middle here; it parts thin blood along the skull from bone
BLOOD = Window(width=215, level=75)
BONE = Window(width=2800, level=600)  # the same: "temporal bones"


def apply(hu: FloatArray, window: Window) -> NDArray[np.uint8]:
    """Gray values 0-255 of HU of any shape: linear inside the window, clipped outside (LINEAR_EXACT, C.11.2.1.3.2)."""
    low_hu = window.level - window.width / 2
    gray = (hu - np.float32(low_hu)) * np.float32(255 / window.width)
    return np.asarray(np.clip(np.rint(gray), 0, 255), dtype=np.uint8)
