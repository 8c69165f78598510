"""All five models of one study in one pass, beside a pass for each: seconds, and memory at its highest.

The weights are random: time does not depend on them. A child process measures, so that its memory is its own.
"""

import multiprocessing
import resource
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch

from ichnode.config import load_settings
from ichnode.node import analyser_settings
from ichnode.phantom import REGULAR, head_ct
from ichnode.results.provenance import RunContext
from ichnode.stages.analyser import AnalysisRequest
from tests.benchmarks.table import ICHNODE, Row, alternated, ratios
from tests.bundle_factory import NETWORKS, forecaster_bundle
from tests.series_factory import stored_series

TITLE = "All five models of one study: read, segmented, forecast and explained; results composed"
ONE_BY_ONE = "a pass for each model"
PIPELINES = ("expansion", "prognosis", "volume_survival", "followup")


def measure(*, size: int = 512, rounds: int = 3, shape: tuple[int, int, int] = (32, 112, 96)) -> list[Row]:
    """On the CPU, and on a GPU where there is one."""
    rows = list[Row]()
    for device, goal_s in (("cpu", 12), *([("cuda:0", 1)] if torch.cuda.is_available() else [])):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
            ours, theirs, peak_gb = child.submit(_measured, device, size, rounds, shape).result()
        setting = f"{device}, {torch.get_num_threads()} threads, {len(REGULAR.offsets_mm)} slices of {size}"
        rows += [
            Row(
                case="five models",
                contestant=ICHNODE,
                setting=setting,
                value=median(ours),
                unit="s",
                goal=f"<= {goal_s} s, 4 GB",
                note=f"memory at most {peak_gb:.1f} GB",
            ),
            Row(
                case="five models",
                contestant=ONE_BY_ONE,
                setting=setting,
                value=median(theirs),
                unit="s",
                ratio=ratios(ours, theirs),
            ),
        ]
    return rows


def _measured(
    device: str, size: int, rounds: int, shape: tuple[int, int, int]
) -> tuple[Sequence[float], Sequence[float], float]:
    """Seconds of each round, ours and the peer's, and GB."""
    with tempfile.TemporaryDirectory(prefix="ichnode-benchmark-") as folder:
        analyse, request = _prepared(Path(folder), device, size, shape)
        together = partial(_seconds, analyse, [replace(request, run=("hematoma", *PIPELINES))])
        one_by_one = partial(_seconds, analyse, [replace(request, run=("hematoma", each)) for each in PIPELINES])
        together()  # the first is not measured
        seconds = alternated({ICHNODE: together, ONE_BY_ONE: one_by_one}, rounds=rounds)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return seconds[ICHNODE], seconds[ONE_BY_ONE], peak_gb


def _prepared(folder: Path, device: str, size: int, shape: tuple[int, int, int]) -> tuple[Any, AnalysisRequest]:
    """What analyses, and a phantom with 30 mL to be analysed."""
    (folder / "bundles").mkdir()
    (folder / "series").mkdir()
    for kind in NETWORKS:
        forecaster_bundle(folder / "bundles" / kind, kind, shape=[32, 112, 96] if kind == "followup" else list(shape))
    config = folder / "ichnode.toml"
    config.write_text(
        f"""
[inference]
device = "{device}"
bundles_dir = "{folder / "bundles"}"
[[rules]]
name = "head-ct"
run = {["hematoma", *PIPELINES]}
""",
        "utf-8",
    )
    context = RunContext(run_at=datetime(2026, 11, 27, 3, 0), config_sha256="0" * 64, rule="head-ct")
    phantom = head_ct(hematoma_ml=30, geometry=replace(REGULAR, rows=size, columns=size))
    series = stored_series(phantom.datasets, folder / "series")
    return analyser_settings(load_settings(config, {}))(), AnalysisRequest(series=series, run=(), context=context)


def _seconds(analyse: Any, requests: Sequence[AnalysisRequest]) -> float:
    began = perf_counter()
    for request in requests:
        analyse(request)
    return perf_counter() - began
