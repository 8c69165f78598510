"""Series: simulated CTs one after the other, seed by seed, each at the first scan and, if wanted, at follow-up."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.simulate.acquire import SimulatedCT, acquire, protocol
from training.simulate.atlas import atlas_of
from training.simulate.cohort import patient_spec
from training.simulate.grafted import grafted_ct, real_head
from training.simulate.patient import simulate_head
from training.simulate.spec import PatientSpec
from training.simulate.styles import TRAINING, Style


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which patients to simulate, and how."""

    seeds: Sequence[int]
    kind: str | None = None  # one of population.KINDS; None: as drawn
    style: Style = TRAINING
    followup: bool = False
    slice_mm: float = 5.0
    background: Path | None = None  # a real head CT instead of the style's anatomy and scanner
    device: str = "cpu"


def simulated(order: Order) -> Iterator[SimulatedCT]:
    """The CTs, each patient's follow-up after the first.

    Raises DataError, RefusedSeries and OSError where a background is no head CT.
    """
    made = _maker(order)
    for seed in order.seeds:
        for followup in (False, True)[: 1 + order.followup]:
            yield made(patient_spec(seed, order.kind), followup=followup)


def _maker(order: Order) -> Callable[..., SimulatedCT]:
    if order.background is None:
        return partial(_scanned, order)
    return partial(grafted_ct, head=real_head(order.background, atlas_of(order.style)))


def _scanned(order: Order, spec: PatientSpec, *, followup: bool) -> SimulatedCT:
    style = order.style
    how, atlas = protocol(spec.seed, style, order.slice_mm), atlas_of(style, order.device)
    head = simulate_head(spec, how.grid, atlas, style, followup=followup, device=order.device)
    return acquire(head, how, style=style.name, followup=followup)
