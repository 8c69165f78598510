"""Slice: one frame of one stored instance, with the header values that hold for it.

A value that is missing or of another kind refuses the series, by the name of the slice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ichnode.domain.reasons import Reason
from ichnode.domain.study import HeaderValue, Instance
from ichnode.errors import RefusedSeries
from ichnode.imaging.header import NATIVE

MAX_COORDINATE_MM = 1e5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One CT image, or one frame of Enhanced CT. `header`: the instance's values, over them those of this frame."""

    instance: Instance
    frame_number: int  # from 1
    header: Mapping[str, HeaderValue]

    @property
    def name(self) -> str:
        """What a refusal calls it."""
        return f"frame {self.frame_number} of instance {self.instance.sop_instance_uid}"

    @property
    def is_native(self) -> bool:
        """Whether the pixels lie in the file as they are, neither deflated nor compressed."""
        return self.instance.transfer_syntax_uid in NATIVE

    @property
    def shape(self) -> tuple[int, int]:
        """(row, column). Raises RefusedSeries."""
        return self.whole("Rows"), self.whole("Columns")

    @property
    def pixel_bytes(self) -> int:
        """1 or 2, once the gate has passed. Raises RefusedSeries."""
        return self.whole("BitsAllocated") // 8

    def whole(self, keyword: str) -> int:
        """A whole number about the pixels. Raises RefusedSeries."""
        value = self.header.get(keyword)
        if not isinstance(value, int):
            raise RefusedSeries(Reason.BAD_PIXELS, f"{keyword} is {value!r} in {self.name}")
        return value

    def numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        """Exactly `count` coordinates or cosines. Raises RefusedSeries."""
        value = self.header.get(keyword)
        if not isinstance(value, tuple) or len(value) != count:
            raise RefusedSeries(Reason.BAD_GEOMETRY, f"{keyword} is {value!r} in {self.name}")
        numbers = tuple(map(float, value))
        if max(map(abs, numbers)) > MAX_COORDINATE_MM:
            raise RefusedSeries(Reason.BAD_GEOMETRY, f"{keyword} is {value!r} in {self.name}")
        return numbers


def byte_place(header: Mapping[str, HeaderValue], keyword: str) -> int:
    """An offset or length in bytes that the scan of a data set noted. Raises RefusedSeries where it found none."""
    value = header.get(keyword)
    if not isinstance(value, int):
        raise RefusedSeries(Reason.BAD_PIXELS, f"there is no {keyword}: no pixel data")
    return value
