"""HU windows: what a range of HU is shown as. Widths and levels in HU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ichnode.imaging.volume import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A display window, as WindowWidth and WindowCenter (PS3.3 C.11.2.1.2)."""

    name: str
    width: float
    level: float

    @property
    def low_hu(self) -> float:
        """Black at and below."""
        return self.level - self.width / 2

    @property
    def high_hu(self) -> float:
        """White at and above."""
        return self.level + self.width / 2


# Common reading presets for head CT: Radiopaedia, "Windowing (CT)", https://radiopaedia.org/articles/windowing-ct
BRAIN = Window(name="Brain", width=80, level=40)
SUBDURAL = Window(name="Subdural", width=200, level=75)  # there: width 130-300, level 50-100
STROKE = Window(name="Stroke", width=40, level=40)
BONE = Window(name="Bone", width=2800, level=600)


def apply(hu: FloatArray, window: Window) -> NDArray[np.uint8]:
    """Gray values 0-255 of HU of any shape: linear inside the window, clipped outside (LINEAR_EXACT, C.11.2.1.3.2)."""
    gray = (hu - np.float32(window.low_hu)) * np.float32(255 / window.width)
    return np.asarray(np.clip(np.rint(gray), 0, 255), dtype=np.uint8)
