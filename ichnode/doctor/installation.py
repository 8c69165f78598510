"""The machine: disk, clock, device, bundles. Looks; the one thing written is a probe in data_dir, which is removed."""

import errno
import os
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import torch

from ichnode.config import Settings
from ichnode.doctor.check import Check, failure, ok, warning
from ichnode.errors import BundleError, ConfigError, InferenceError
from ichnode.inference.bundle import configured_bundles, load_for
from ichnode.inference.predictor import choose_device
from ichnode.stages.clinical import problems_of
from ichnode.storage.files import FileStore, sync_folder
from ichnode.user import user_name

_PROBE_BYTES = 1_000_000
_SLOW_S = 1.0  # for a probe; a slice is half of it
_YEARS = range(2025, 2100)
_AHEAD_S = 5.0  # a row may be this much newer than the clock says
_LITTLE_MEMORY = 4_000_000_000


def check_configuration(settings: Settings) -> Iterator[Check]:
    """What a valid configuration still lacks."""
    problems = settings.unreadable_files()
    if settings.clinical.file:
        problems += [f"clinical.file: {problem}" for problem in problems_of(settings.clinical.file)]
    for problem in problems:
        yield failure("configuration", problem, "put the file there, readable for the user of the service")
    if not settings.sources:
        fix = "name who may send under [[sources]]"
        yield warning("configuration", "without [[sources]] only this machine may send", fix)
    if not settings.destinations:
        yield warning("configuration", "without [[destinations]] no result leaves this machine", "name where they go")
    if not problems:
        rules = ", ".join(rule.name for rule in settings.decision_rules)
        yield ok("configuration", f"valid; rules: {rules}")


def check_disk(settings: Settings) -> Check:
    """Free space against both reserves, and whether a file can be written and brought to the disk."""
    data_dir = settings.node.data_dir.absolute()
    try:
        here = _where_it_will_be(data_dir)
    except OSError as problem:
        detail = f"{data_dir}: {user_name()} cannot make it: {problem.strerror}"
        return failure("disk", detail, "set another node.data_dir, or see who may do what there")
    store = FileStore(here, **settings.node.reserves)
    free, reserve = store.free_bytes(), store.reserve_bytes()
    room = f"{_gb(free)} free, reserve {_gb(reserve)}"
    if settings.retention.free_gb is not None:
        room += f", purged below {settings.retention.free_gb:g} GB"
    if trouble := store.trouble():
        return failure("disk", f"{here}: {trouble}: {room}", "make room, or set [retention]; C-STORE is refused now")
    try:
        took_s = _probe(here)
    except OSError as problem:
        detail = f"{here}: {user_name()} cannot write: {problem.strerror}"
        return failure("disk", detail, f"install --directory --owner USER --mode 0750 {data_dir}")
    said = f"{here}: {room}; wrote and fsynced 1 MB in {took_s * 1000:.0f} ms"
    if store.refuses_associations:
        return warning("disk", f"{said}; new associations are rejected", "make room, or lower node.soft_reserve_mb")
    if took_s > _SLOW_S:
        return warning("disk", f"{said}: slow", "put data_dir on a local disk")
    if here != data_dir:
        return ok("disk", f"{said}; `ichnode serve` will make {data_dir}")
    return ok("disk", said)


def _where_it_will_be(data_dir: Path) -> Path:
    """The folder itself, or the nearest one above it that is there. Raises OSError where it cannot be made."""
    try:
        mode = data_dir.stat().st_mode
    except FileNotFoundError:
        if data_dir.is_symlink():  # to a disk that is not mounted, say
            raise
        return _where_it_will_be(data_dir.parent)
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return data_dir


def _probe(folder: Path) -> float:
    """Seconds for writing 1 MB to the disk. Raises OSError; the file is removed."""
    began = time.perf_counter()
    file = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, bytes(_PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(folder)
        return time.perf_counter() - began
    finally:
        with suppress(OSError):
            file.unlink()


def check_clock(*, now: float, newest_at: float | None) -> Check:
    """Is the year plausible, and is the clock not behind what was written before?"""
    said = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    fix = "set the clock and keep it: timedatectl set-ntp true"
    if datetime.fromtimestamp(now, UTC).year not in _YEARS:
        return failure("clock", f"{said} is not now", fix)
    if newest_at is None:
        return ok("clock", said)
    if newest_at > now + _AHEAD_S:
        return failure("clock", f"{said} is {newest_at - now:.0f} s before the newest row of the database", fix)
    return ok("clock", f"{said}; newest row of the database {_ago(now - newest_at)} before")


def check_device(settings: Settings) -> Check:
    """What inference would use, and how fast its numbers are."""
    wanted = settings.inference.device
    try:
        device = choose_device(wanted)
    except InferenceError as problem:
        fix = 'set inference.device = "auto", or see that nvidia-smi shows the GPU and torch was built with CUDA'
        return failure("device", problem.detail, fix)
    if device != "cpu":
        properties = torch.cuda.get_device_properties(device)
        numbers = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        return ok("device", f"{device}: {properties.name}, {_gb(properties.total_memory)}, {numbers}")
    amx = bool(torch.cpu._is_amx_tile_supported())
    bf16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    numbers = "AMX, bf16" if amx and bf16 else "bf16 without AMX" if bf16 else "float32: no bf16 in hardware"
    said = f"cpu: {torch.get_num_threads()} threads, {numbers}, {_gb(memory)} memory"
    if memory < _LITTLE_MEMORY:
        return warning("device", said, "4 GB are wanted")
    return ok("device", said)


def check_bundles(settings: Settings) -> Iterator[Check]:
    """Every bundle that a rule runs: there, unaltered, and for its pipeline."""
    try:
        found = configured_bundles(settings.inference.bundles_dir)
    except ConfigError as problem:
        yield failure("bundles", str(problem), "make the folder, or leave inference.bundles_dir out")
        return
    for pipeline, name in settings.pipeline_bundles.items():
        key, subject = f"inference.{pipeline}_bundle", f"bundle {name}"
        if name not in found:
            there = f"{key}: there is no bundle {name!r}"
            yield failure(subject, there, f"set {key}, or leave {pipeline} out of `run`; there are: {', '.join(found)}")
            continue
        try:
            manifest = load_for(pipeline, found[name], "cpu").manifest
        except BundleError as problem:
            yield failure(subject, problem.detail, f"export or copy {found[name]} again")
        else:
            sha256 = manifest.weights_sha256[:12]
            yield ok(subject, f"{manifest.version} for {pipeline}, verified, weights {sha256}")


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
