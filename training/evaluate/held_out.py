"""Held-out cases: heads that no training run sees, in styles that none sees either, on slices as the daemon reads them.

`simulated` is the training style with new seeds, and so are its normals, without hemorrhage; the others are another
anatomy, another skull, another scanner, hematomas in the real GE head of the test data, and that head as it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichnode.domain.identity import derived_uid
from ichnode.imaging.resample import CanonicalGrid, canonical_grid_for, to_canonical
from ichnode.imaging.volume import AcquisitionGrid, FloatArray, Volume
from training.evaluate.cases import EvaluationCase
from training.simulate.atlas import atlas_of
from training.simulate.background import as_acquired, background_of, graft, read_background
from training.simulate.cohort import EVALUATION_SEEDS, patient_spec
from training.simulate.draw import Draw
from training.simulate.patient import simulate_head
from training.simulate.planes import few, fine, seen_by
from training.simulate.scanner import Scanned
from training.simulate.spec import PatientSpec
from training.simulate.styles import HELD_OUT, TRAINING, Style
from training.simulate.template import TEST_DATA, has_anatomy_of, is_here

GE_HEAD = TEST_DATA / "ge_head_nct"
SIMULATED: dict[str, Style] = {"simulated": TRAINING} | {style.name: style for style in HELD_OUT}
NORMALS = "simulated normals"
GRAFTS, GE_NORMAL = "GE grafts", "GE normal"
STYLES = (*SIMULATED, NORMALS, GRAFTS, GE_NORMAL)

_HEAD_MM, _FIELD_MM = 165.0, 224.0  # height and width of what is scanned
_GAPS_MM, _GAP_WEIGHTS = (2.5, 3.0, 4.0, 5.0, 6.0, 7.0), (1, 1, 1, 5, 1, 1)
_FEW = 0.4  # share of pictures that are single or few slices
_GRAFTED = ("iph", "iph", "sdh", "iph", "edh", "iph", "ivh", "iph", "sah", "iph")
_LEAST_ML = {"iph": 5.0, "sdh": 8.0, "edh": 5.0, "ivh": 3.0, "sah": 5.0}
Variant = Callable[[Volume], Volume]
Labels = NDArray[np.uint8]


def is_at_hand(style_name: str) -> bool:
    """Whether the test data that a style needs are here."""
    if style_name in SIMULATED:
        return has_anatomy_of(SIMULATED[style_name])
    needed = {GRAFTS: GE_HEAD.is_dir() and is_here(), GE_NORMAL: GE_HEAD.is_dir()}
    return needed.get(style_name, True)


def cases(style_name: str, n: int, seed: int) -> Iterator[EvaluationCase]:
    """`n` cases of one of STYLES (GE_NORMAL has no more than its variants); the same ones for the same seed.

    Names end in the seed of `cohort.patient_spec`; who has the same one in several styles is one patient. Raises
    FileNotFoundError where the test data are needed and absent.
    """
    if style_name == GE_NORMAL:
        yield from _normals(n)
        return
    patients = _grafts if style_name == GRAFTS else _patients
    for spec, volume, labels in patients(style_name, n, EVALUATION_SEEDS + seed * 100_000):
        yield EvaluationCase(
            name=f"{style_name}/{spec.kind}/{spec.seed}",
            patient=f"{spec.kind}/{spec.seed}",
            style=style_name,
            simulated=True,
            volume=volume,
            labels=labels,
        )


def _patients(style_name: str, n: int, first: int) -> Iterator[tuple[PatientSpec, Volume, Labels]]:
    style, kind = (TRAINING, "normal") if style_name == NORMALS else (SIMULATED[style_name], None)
    atlas = atlas_of(style)
    for spec in (patient_spec(first + index, kind) for index in range(n)):
        draw = Draw(seed=spec.seed + 1_000_000)
        grid = _scanned_box(draw)
        head = simulate_head(spec, fine(grid), atlas, style)
        seen = seen_by(style, head.hu, head.occupancy, draw, grid.spacing_mm[-1])
        if style.scanner == "picture" and draw.chance("few slices", _FEW):
            seen = few(seen, draw)
        yield spec, *_on_slices(seen, grid)


def _scanned_box(draw: Draw) -> CanonicalGrid:
    gap, pixel = draw.choice("gap", _GAPS_MM, _GAP_WEIGHTS), draw.uniform("pixel", 0.9, 1.15)
    slices, pixels = round(_HEAD_MM / gap), round(_FIELD_MM / pixel)
    corner = -(pixels - 1) / 2 * pixel
    return CanonicalGrid(
        shape=(slices, pixels, pixels),
        spacing_mm=(gap, pixel, pixel),
        origin_lps=(corner, corner, -(slices - 1) / 2 * gap),
    )


def _on_slices(seen: Scanned, grid: CanonicalGrid) -> tuple[Volume, Labels]:
    return straight(seen.hu.numpy(), grid), seen.labels.numpy()


def straight(hu: FloatArray, grid: CanonicalGrid) -> Volume:
    """Canonical planes (z, y, x) as axial slices; fewer planes than `grid` has start at its origin."""
    gap, *pixel = grid.spacing_mm
    x, y, z = grid.origin_lps
    acquisition = AcquisitionGrid(
        rows=hu.shape[1],
        columns=hu.shape[2],
        positions_lps=np.array([(x, y, z + gap * index) for index in range(len(hu))]),
        row_direction_lps=np.array([1.0, 0.0, 0.0]),
        column_direction_lps=np.array([0.0, 1.0, 0.0]),
        pixel_spacing_mm=(pixel[0], pixel[1]),
        slice_thickness_mm=np.full(len(hu), gap),
        sop_instance_uids=tuple(derived_uid("held out", str(index)) for index in range(len(hu))),
        frame_numbers=(1,) * len(hu),
    )
    return Volume(hu=np.ascontiguousarray(hu, np.float32), grid=acquisition)


def _grafts(_: str, n: int, first: int) -> Iterator[tuple[PatientSpec, Volume, Labels]]:
    volume = _ge_head()
    background = background_of(volume, atlas_of(SIMULATED["template anatomy"]))
    for index in range(n):
        spec = _worth_grafting(_GRAFTED[index % len(_GRAFTED)], first + 1000 * index)
        yield spec, *as_acquired(graft(spec, background), background, volume)


def _worth_grafting(kind: str, first: int) -> PatientSpec:
    """The first patient of a kind, from a seed on, with enough blood of that kind."""
    for seed in count(first):
        spec = patient_spec(seed, kind)
        if sum(one.volume_ml for one in spec.lesions if one.type == kind.upper()) >= _LEAST_ML[kind]:
            return spec
    raise AssertionError("seeds do not end")


def _ge_head() -> Volume:
    if not GE_HEAD.is_dir():
        raise FileNotFoundError(f"{GE_HEAD}: the test data are not here")
    return read_background(GE_HEAD)


def _normals(n: int) -> Iterator[EvaluationCase]:
    volume = _ge_head()
    for name, variant in list(VARIANTS.items())[:n]:
        shown = variant(volume)
        yield EvaluationCase(
            name=f"{GE_NORMAL}/{name}",
            patient="GE head",
            style=GE_NORMAL,
            simulated=False,
            volume=shown,
            labels=np.zeros(shown.grid.shape, np.uint8),
        )


def _in_slices_of_5_mm(volume: Volume) -> Volume:
    grid = canonical_grid_for(volume.grid, (5.0, 0.5, 0.5))
    return straight(to_canonical(volume, grid), grid)


def _noisier(sd_hu: float) -> Variant:
    def noisier(volume: Volume) -> Volume:
        grain = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(volume.hu.shape), (0, 0.7, 0.7))
        noise = (grain * sd_hu / grain.std()).astype(np.float32)
        return replace(volume, hu=volume.hu + noise * (volume.hu > -1000))

    return noisier


def _mirrored(volume: Volume) -> Volume:
    return replace(volume, hu=np.ascontiguousarray(volume.hu[:, :, ::-1]))


VARIANTS: dict[str, Variant] = {
    "native": lambda volume: volume,
    "5 mm": _in_slices_of_5_mm,
    "noise 3 HU": _noisier(3.0),
    "noise 6 HU": _noisier(6.0),
    "mirrored": _mirrored,
}
