"""Style: one way of making heads and pictures of them. Training draws from `TRAINING`; the others are held out.

A network that learned one simulator by heart fails on the next one, and so on real scans. The held-out styles tell:
another anatomy source, another skull and scalp, another scanner and export.
"""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Ranges that patients and scanners are drawn from."""

    name: str
    anatomy: str = "icbm"  # icbm, or template: the 2 mm CT template in the test data
    skull_mm: Range = (4.0, 9.0)  # thickness of the vault
    scalp_mm: Range = (-2.0, 5.0)  # taken away from the atlas's scalp
    shape_mm: float = 3.5  # smooth differences from the atlas, deviation
    detail_mm: float = 1.2
    pitch_deg: float = 9.0  # nodding and gantry tilt
    operated: float = 0.12  # share of patients after surgery: craniectomy, drain, air
    scanner: str = "wide"  # wide, or picture: 8-bit windowed exports and single slices


TRAINING = Style(name="training")
HELD_OUT = (
    Style(name="template anatomy", anatomy="template"),
    Style(name="other skull", skull_mm=(9.0, 13.0), scalp_mm=(-9.0, -4.0), shape_mm=6.0, detail_mm=2.0, pitch_deg=16.0),
    Style(name="other scanner", scanner="picture"),
)
