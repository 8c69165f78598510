"""Bundle: a folder with manifest.json, weights.safetensors and CARD.md, verified and turned into a network.

The interface of every network: built without arguments, `forward(x_bcdhw) -> probability_bcdhw`, where x holds one
channel of HU, or one channel from 0 to 1 for each window of the manifest, on the canonical grid, of any size; and the
probability one channel for each class of the manifest, classes that exclude each other.
"""

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Self

import safetensors
import safetensors.torch
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from ichnode.domain.findings import HemorrhageType, ModelIdentity
from ichnode.errors import BundleError, ConfigError

HEMATOMA = "hematoma"  # the class of a network that tells no types apart
MANIFEST, WEIGHTS, CARD = "manifest.json", "weights.safetensors", "CARD.md"
_TRIED = (8, 32, 32)  # voxels, z, y, x

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


def _ascending(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ValueError("needs lowest < highest")
    return window


def _told_apart(classes: tuple[str, ...]) -> tuple[str, ...]:
    are_types = set(classes) <= set(HemorrhageType) and 0 < len(classes) == len(set(classes))
    if classes != (HEMATOMA,) and not are_types:
        raise ValueError(f"needs {HEMATOMA} alone, or some of {', '.join(HemorrhageType)}, each once")
    return classes


HuWindow = Annotated[tuple[float, float], AfterValidator(_ascending)]  # lowest, highest HU


class Thresholds(BaseModel):
    """Probabilities from which a voxel counts as hematoma: as reported, and for the ends of the volume range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    found: Fraction
    strict: Fraction
    lenient: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.lenient <= self.found <= self.strict:
            raise ValueError("needs lenient <= found <= strict")
        return self


class Manifest(BaseModel):
    """What a bundle says about itself. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]  # also the name of its folder
    version: Annotated[str, Field(min_length=1)]
    architecture: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*:[A-Za-z_][A-Za-z0-9_]*$")]  # module:class in models
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    family: Annotated[str, Field(pattern=r"^(classical|neural network)$")]
    trained_on: Annotated[str, Field(min_length=1)]
    intended_use: Annotated[str, Field(min_length=1)]
    grid_spacing_mm: tuple[Positive, Positive, Positive]  # z, y, x
    windows: tuple[HuWindow, ...]  # one channel for each; none: one channel of raw HU
    classes: Annotated[tuple[str, ...], AfterValidator(_told_apart)] = (HEMATOMA,)  # channels of the network, in order
    second_look: bool = False  # left and right flipped, on a grid half a voxel off; the mean of both answers counts
    thresholds: Thresholds
    min_volume_ml: Annotated[float, Field(ge=0)]  # smaller components are dropped
    created: date
    reference: str  # paper, or why there is none

    @property
    def identity(self) -> ModelIdentity:
        """What stands in the results."""
        return ModelIdentity(
            name=self.name,
            version=self.version,
            weights_sha256=self.weights_sha256,
            family=self.family,
            trained_on=self.trained_on,
            intended_use=self.intended_use,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A verified bundle, its network in evaluation mode on its device."""

    manifest: Manifest
    network: nn.Module
    identity: ModelIdentity


def shipped_bundles() -> Path:
    """The folder of the bundles that come with ichnode."""
    return Path(str(files("models") / "bundles"))


def find_bundles(folders: Sequence[Path]) -> dict[str, Path]:
    """Every bundle below `folders` by name, unverified. Of two with one name the later folder's counts.

    Raises BundleError for a folder that does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise BundleError(f"{folder} is not a folder")
    return {path.parent.name: path.parent for folder in folders for path in sorted(folder.glob(f"*/{MANIFEST}"))}


def bundle_named(name: str, device: str) -> Bundle:
    """A shipped bundle, or the one in the folder of that name, on `device`. Raises BundleError."""
    if (Path(name) / MANIFEST).is_file():
        return load_bundle(Path(name).resolve(), device)
    shipped = find_bundles([shipped_bundles()])
    if name not in shipped:
        raise BundleError(f"there is no bundle {name}: neither a folder nor one of {', '.join(sorted(shipped))}")
    return load_bundle(shipped[name], device)


def configured_bundles(bundles_dir: Path | None) -> dict[str, Path]:
    """The shipped bundles and those below `inference.bundles_dir`, by name, unverified. Raises ConfigError."""
    if bundles_dir is not None and not bundles_dir.is_dir():
        raise ConfigError((f"inference.bundles_dir: no such folder: {bundles_dir}",))
    return find_bundles([shipped_bundles(), *([bundles_dir] if bundles_dir else [])])


def configured_bundle(name: str, bundles_dir: Path | None) -> Path:
    """The folder of the bundle `inference.hematoma_bundle`, verified. Raises ConfigError."""
    folder = configured_bundles(bundles_dir).get(name)
    if folder is None:
        raise ConfigError((f"inference.hematoma_bundle: there is no bundle {name!r}",))
    try:
        verify_bundle(folder)
    except BundleError as problem:
        raise ConfigError((f"inference.hematoma_bundle: {problem.detail}",)) from None
    return folder


def verify_bundle(folder: Path) -> Manifest:
    """The manifest of a bundle that is complete, unaltered and loads; BundleError says what is wrong."""
    return load_bundle(folder, "cpu").manifest


def load_bundle(folder: Path, device: str) -> Bundle:
    """The verified bundle with its weights on `device`. Raises BundleError."""
    manifest = _read_manifest(folder)
    weights = _read_weights(folder, manifest)
    if not _read(folder, CARD).strip():
        raise BundleError(f"{folder / CARD} is empty")
    try:
        network = _architecture(manifest)()
        network.load_state_dict(safetensors.torch.load(weights))
    except (safetensors.SafetensorError, RuntimeError, TypeError) as error:
        problem = shorten(str(error), 200)
        raise BundleError(f"the weights of {manifest.name} do not fit {manifest.architecture}: {problem}") from error
    if not all(bool(weight.isfinite().all()) for weight in network.state_dict().values()):
        raise BundleError(f"the weights of {manifest.name} are not all numbers")
    _try(network.eval(), manifest)
    return Bundle(manifest=manifest, network=network.to(device), identity=manifest.identity)


def _try(network: nn.Module, manifest: Manifest) -> None:
    """Show it a little air: whether it takes what the manifest says and answers so. Raises BundleError."""
    air = torch.zeros(1, len(manifest.windows), *_TRIED) if manifest.windows else torch.full((1, 1, *_TRIED), -1000.0)
    try:
        with torch.inference_mode():
            channels = network(air).shape[1]
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise BundleError(f"{manifest.name} does not read what it says: {shorten(str(error), 200)}") from error
    if channels != len(manifest.classes):
        raise BundleError(f"{manifest.name} gives {channels} channels for {', '.join(manifest.classes)}")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder / name} cannot be read: {error.strerror}") from error


def _read_manifest(folder: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(_read(folder, MANIFEST))
    except ValidationError as error:
        problems = "; ".join(": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in error.errors())
        raise BundleError(f"{folder / MANIFEST} is not understood: {problems}") from error
    if manifest.name != folder.name:
        raise BundleError(f"{folder / MANIFEST} names its bundle {manifest.name}, its folder is {folder.name}")
    return manifest


def _read_weights(folder: Path, manifest: Manifest) -> bytes:
    weights = _read(folder, WEIGHTS)
    found = hashlib.sha256(weights).hexdigest()
    if found != manifest.weights_sha256:
        raise BundleError(f"{folder / WEIGHTS} was altered: its SHA-256 is {found}, not {manifest.weights_sha256}")
    return weights


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
