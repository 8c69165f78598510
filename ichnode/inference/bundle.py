"""Bundle: a folder with manifest.json, weights.safetensors and CARD.md, verified and turned into a network."""

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any, Generic, TypeVar, get_type_hints

import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from ichnode.domain.findings import ModelIdentity
from ichnode.errors import BundleError, ConfigError
from ichnode.inference.bundle_folders import CARD as CARD
from ichnode.inference.bundle_folders import MANIFEST as MANIFEST
from ichnode.inference.bundle_folders import WEIGHTS as WEIGHTS
from ichnode.inference.bundle_folders import configured_bundles as configured_bundles
from ichnode.inference.bundle_folders import find_bundles as find_bundles
from ichnode.inference.bundle_folders import shipped_bundles as shipped_bundles
from ichnode.inference.manifest import (
    ANY_MANIFEST,
    ExpansionManifest,
    FollowupManifest,
    Manifest,
    PrognosisManifest,
    SegmenterManifest,
    VolumeSurvivalManifest,
)

_KIND_OF_PIPELINE: dict[str, type[Manifest]] = {
    "hematoma": SegmenterManifest,
    "expansion": ExpansionManifest,
    "prognosis": PrognosisManifest,
    "volume_survival": VolumeSurvivalManifest,
    "followup": FollowupManifest,
    "followup_after_thrombectomy": FollowupManifest,
}

M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle(Generic[M]):
    """A verified bundle, its network in evaluation mode on its device."""

    manifest: M
    network: nn.Module
    identity: ModelIdentity


def bundle_named(name: str, device: str, kind: type[M]) -> Bundle[M]:
    """A shipped bundle, or the one in the folder of that name, on `device`. Raises BundleError."""
    if (Path(name) / MANIFEST).is_file():
        return load_bundle(Path(name).resolve(), device, kind)
    shipped = find_bundles([shipped_bundles()])
    if name not in shipped:
        raise BundleError(f"there is no bundle {name}: neither a folder nor one of {', '.join(sorted(shipped))}")
    return load_bundle(shipped[name], device, kind)


def load_pipelines(names: Mapping[str, str], bundles_dir: Path | None, device: str) -> dict[str, Bundle[Any]]:
    """The verified bundle of each pipeline, on `device`. Raises ConfigError by `inference.<pipeline>_bundle`."""
    found, bundles = configured_bundles(bundles_dir), dict[str, Bundle[Any]]()
    for pipeline, name in names.items():
        key = f"inference.{pipeline}_bundle"
        if name not in found:
            raise ConfigError((f"{key}: there is no bundle {name!r}",))
        try:
            bundles[pipeline] = load_for(pipeline, found[name], device)
        except BundleError as problem:
            raise ConfigError((f"{key}: {problem.detail}",)) from None
    return bundles


def load_for(pipeline: str, folder: Path, device: str) -> Bundle[Any]:
    """The verified bundle of a pipeline, on `device`. Raises BundleError, for one that cannot run it too."""
    bundle = load_bundle(folder, device, _KIND_OF_PIPELINE[pipeline])
    bundle.manifest.must_answer(pipeline)
    return bundle


def verify_bundle(folder: Path) -> Manifest:
    """The manifest of a bundle that is complete, unaltered and loads; BundleError says what is wrong."""
    return load_bundle(folder, "cpu", Manifest).manifest


def load_bundle(folder: Path, device: str, kind: type[M]) -> Bundle[M]:
    """The verified bundle with its weights on `device`. Raises BundleError, for one of another kind too."""
    manifest = _read_manifest(folder)
    if not isinstance(manifest, kind):
        raise BundleError(f"{manifest.name} is a bundle of the kind {manifest.kind}, which is not asked for here")
    weights = _read_weights(folder, manifest)
    if not _read(folder, CARD).strip():
        raise BundleError(f"{folder / CARD} is empty")
    try:
        network = _built(manifest)
        network.load_state_dict(safetensors.torch.load(weights))
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, IndexError) as error:
        problem = shorten(str(error), 200)
        raise BundleError(f"the weights of {manifest.name} do not fit {manifest.architecture}: {problem}") from error
    if not all(bool(weight.isfinite().all()) for weight in network.state_dict().values()):
        raise BundleError(f"the weights of {manifest.name} are not all numbers")
    _try(network.eval(), manifest)
    return Bundle(manifest=manifest, network=network.to(device), identity=manifest.identity)


def _try(network: nn.Module, manifest: Manifest) -> None:
    """Raises BundleError for a network that does not read or answer what its manifest says."""
    try:
        with torch.inference_mode():
            complaint = manifest.complaint(network)
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise BundleError(f"{manifest.name} does not read what it says: {shorten(str(error), 200)}") from error
    if complaint:
        raise BundleError(f"{manifest.name} {complaint}")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder / name} cannot be read: {error.strerror}") from error


def _read_manifest(folder: Path) -> Manifest:
    try:
        manifest = ANY_MANIFEST.validate_json(_read(folder, MANIFEST))
    except ValidationError as error:
        raise BundleError(f"{folder / MANIFEST} is not understood: {_problems(error)}") from error
    if manifest.name != folder.name:
        raise BundleError(f"{folder / MANIFEST} names its bundle {manifest.name}, its folder is {folder.name}")
    return manifest


def _read_weights(folder: Path, manifest: Manifest) -> bytes:
    weights = _read(folder, WEIGHTS)
    found = hashlib.sha256(weights).hexdigest()
    if found != manifest.weights_sha256:
        raise BundleError(f"{folder / WEIGHTS} was altered: its SHA-256 is {found}, not {manifest.weights_sha256}")
    return weights


def _built(manifest: Manifest) -> nn.Module:
    """With random weights. Raises BundleError for a configuration that its class does not have."""
    architecture = _architecture(manifest)
    if not manifest.configuration:
        return architecture()
    kind = get_type_hints(architecture.__init__).get("config")
    unknown = manifest.configuration.keys() - ({field.name for field in fields(kind)} if kind else set())
    if kind is None or unknown:
        raise BundleError(f"{manifest.architecture} does not have {', '.join(sorted(unknown))}")
    try:
        return architecture(config=TypeAdapter(kind).validate_python(manifest.configuration))
    except ValidationError as error:
        raise BundleError(f"the configuration of {manifest.name} is not understood: {_problems(error)}") from error


def _problems(error: ValidationError) -> str:
    """Each with where it is."""
    return "; ".join(": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in error.errors())


def _architecture(manifest: Manifest) -> type[nn.Module]:
    """The class that the manifest names; only modules of the package models can be named."""
    module, _, name = manifest.architecture.partition(":")
    try:
        found = getattr(importlib.import_module(f"models.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise BundleError(f"this ichnode has no architecture {manifest.architecture}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise BundleError(f"{manifest.architecture} is not a network")
    return found
