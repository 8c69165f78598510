"""Where slices lie by their headers, and that no header value is too large to be judged."""

import pytest

from ichnode.domain.geometry import is_gapless, stack_of

HUGE = 10**400


def header(number: int, **values: object) -> dict[str, object]:
    return {
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "ImagePositionPatient": (-120.0, -120.0, 5.0 * number),
        "SliceThickness": 5.0,
        "InstanceNumber": number,
    } | values


def headers(**of_the_first: object) -> list[dict[str, object]]:
    return [header(1, **of_the_first), *map(header, range(2, 31))]


def test_thirty_even_slices_are_a_gapless_head() -> None:
    assert is_gapless(headers())


@pytest.mark.parametrize(
    "values",
    [
        {"InstanceNumber": HUGE},
        {"ImagePositionPatient": (0, 0, HUGE)},
        {"ImagePositionPatient": (0, 10**300, 10**300), "ImageOrientationPatient": (10**300, 0, 0, 0, 10**300, 0)},
        {"ImagePositionPatient": (1e308, 1e308, -1e308), "SliceThickness": 1e308},
        {"ImageOrientationPatient": (HUGE,) * 6},
    ],
    ids=["number", "position", "large integers", "large reals", "orientation"],
)
def test_a_number_beyond_all_measure_makes_no_gapless_head(values: dict[str, object]) -> None:
    assert not is_gapless(headers(**values))


def test_a_thickness_that_no_float_holds_counts_as_none() -> None:
    stack = stack_of(headers(SliceThickness=HUGE))
    assert stack is not None
    assert stack.thickness_mm[:2] == (0, 5)


def test_a_position_that_no_float_holds_is_no_position() -> None:
    assert stack_of(headers(ImagePositionPatient=(0, 0, HUGE))) is None
