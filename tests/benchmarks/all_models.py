"""All five models of one study in one pass, beside a pass for each, and the hematoma alone: seconds, and most memory.

The weights of the forecasters are random: time does not depend on them. Child processes measure, for their memory.
"""

import multiprocessing
import resource
import tempfile
from collections.abc import Mapping, Sequence
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

TITLE = "One study, read, analysed and composed into results: by five models in one pass and in many, and by one"
ONE_BY_ONE, HEMATOMA_ALONE = "a pass for each model", "hematoma alone"
PIPELINES = ("expansion", "prognosis", "volume_survival", "followup")

Runs = Sequence[tuple[str, ...]]  # the pipelines of each pass over the study


def measure(*, size: int = 512, rounds: int = 3, shape: tuple[int, int, int] = (32, 112, 96)) -> list[Row]:
    """On the CPU, and on a GPU where there is one. Each case has a child of its own, for its memory."""
    each = [("hematoma", one) for one in PIPELINES]
    rows = list[Row]()
    for device, goal_s in (("cpu", 12), *([("cuda:0", 1)] if torch.cuda.is_available() else [])):
        setting = f"{device}, {torch.get_num_threads()} threads, {len(REGULAR.offsets_mm)} slices of {size}"
        in_child = partial(_in_child, device, size, rounds, shape)
        together, peak_gb = in_child({ICHNODE: [("hematoma", *PIPELINES)], ONE_BY_ONE: each})
        alone, peak_alone_gb = in_child({HEMATOMA_ALONE: [("hematoma",)]})
        rows += [
            Row(
                case=case,
                contestant=ICHNODE,
                setting=setting,
                value=median(ours),
                unit="s",
                goal=goal,
                note=f"memory at most {gb:.1f} GB",
            )
            for case, ours, goal, gb in (
                ("five models", together[ICHNODE], f"<= {goal_s} s, 4 GB", peak_gb),
                (HEMATOMA_ALONE, alone[HEMATOMA_ALONE], f"<= {min(3, goal_s)} s, 2 GB", peak_alone_gb),
            )
        ]
        rows.append(
            Row(
                case="five models",
                contestant=ONE_BY_ONE,
                setting=setting,
                value=median(together[ONE_BY_ONE]),
                unit="s",
                ratio=ratios(together[ICHNODE], together[ONE_BY_ONE]),
            )
        )
    return rows


def _in_child(
    device: str, size: int, rounds: int, shape: tuple[int, int, int], ways: Mapping[str, Runs]
) -> tuple[dict[str, list[float]], float]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as child:
        return child.submit(_measured, device, size, rounds, shape, ways).result()


def _measured(
    device: str, size: int, rounds: int, shape: tuple[int, int, int], ways: Mapping[str, Runs]
) -> tuple[dict[str, list[float]], float]:
    """Seconds of each round by way, and GB at most."""
    with tempfile.TemporaryDirectory(prefix="ichnode-benchmark-") as folder:
        wanted = sorted({pipeline for runs in ways.values() for run in runs for pipeline in run})
        analyse, request = _prepared(Path(folder), device, size, shape, wanted)
        contestants = {
            name: partial(_seconds, analyse, [replace(request, run=run) for run in runs]) for name, runs in ways.items()
        }
        next(iter(contestants.values()))()  # the first is not measured
        seconds = alternated(contestants, rounds=rounds)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def _prepared(
    folder: Path, device: str, size: int, shape: tuple[int, int, int], wanted: Sequence[str]
) -> tuple[Any, AnalysisRequest]:
    """What analyses with the pipelines that are wanted, and a phantom with 30 mL to be analysed."""
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
run = {wanted}
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
