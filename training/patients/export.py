"""Export of the published systems: their weights, and their errors on patients that no training saw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import torch
from torch import Tensor, nn

from ichnode.inference.manifest import ForecasterManifest
from training.data.manifest import DataError
from training.fit.checkpoint import read, system_of
from training.fit.export import INTENDED_USE, write_bundle
from training.fit.source import Source
from training.fit.system import System
from training.patients.batch import Patients
from training.patients.calibration import Floats

S = TypeVar("S", bound=System)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Generic[S]):
    """How one of the systems becomes a bundle."""

    kind: type[ForecasterManifest]
    architecture: str  # module:class in models
    reference: str
    row: Callable[[S, Any, Patients], Tensor]  # (patient, value): of an answer and what is true, all that errors need
    errors: Callable[[Floats], dict[str, Any]]  # those rows to what the manifest says; raises ValueError

    @property
    def kind_name(self) -> str:
        """As manifests say it."""
        return str(get_args(self.kind.model_fields["kind"].annotation)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What people say of a bundle."""

    version: str
    card: str  # text of CARD.md
    trained_on: str
    created: date
    outcome: str | None = None  # what counts as poor, where it is not what the simulator says


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained(Generic[S]):
    """What a checkpoint holds."""

    system: S
    network: nn.Module  # averaged weights, in evaluation mode; `familiarity` is not fitted
    steps: int  # that it was trained for
    own: Mapping[str, Any] | None = None  # as LearnedFrom: the own patients that it saw


def trained(checkpoint: Path, kinds: Mapping[str, type[S]]) -> Trained[S]:
    """One of some systems, by their names. Raises DataError for another, or for an older network, and OSError."""
    stored = read(checkpoint, *kinds.values())
    system = system_of(stored, kinds[stored["system"]])
    network = system.network()
    different = network.load_state_dict(stored["average"], strict=False)
    missing = [name for name in different.missing_keys if not name.startswith("familiarity.")]
    if missing or different.unexpected_keys:
        raise DataError(f"{checkpoint} is of an older network: {', '.join(missing + different.unexpected_keys)}")
    return Trained(system=system, network=network.eval(), steps=stored["step"], own=stored["recipe"].get("own"))


def export(
    way: Export[S],
    made: Trained[S],
    folder: Path,
    patients: Source[Patients],
    others: Sequence[Source[Patients]],
    count: int,
    *,
    described: Description,
) -> ForecasterManifest:
    """Measured on the first `count` batches of `patients`.

    Heads are outside what it knows where they are stranger than all of these and of `others`, people of the held-out
    styles, of whom a sixth as many are looked at. Raises ValueError, BundleError, OSError.
    """
    system, network = made.system, made.network
    rows, features, volumes = [], [], []
    for batch in map(patients.batch, range(count)):
        with torch.inference_mode():
            answer = system.answer(network, batch)
            rows.append(way.row(system, answer, batch))
        features.append(answer.features_bf)
        volumes.append(batch.volume_ml("IPH", "IVH", spacing_mm=system.spacing_mm))
    familiarity = network.get_submodule("familiarity")
    familiarity.fit(torch.cat(features))  # type: ignore[operator]
    for batch in (source.batch(number) for source in others for number in range(count // 6)):
        with torch.inference_mode():
            features.append(system.answer(network, batch).features_bf)
    strangest = float(familiarity(torch.cat(features)).max())
    volume_ml = torch.cat(volumes)
    volume_ml = volume_ml[volume_ml.isfinite()]
    if not len(volume_ml):
        raise ValueError("of no patient is it known how much bled")
    errors = way.errors(torch.cat(rows).double().numpy())
    if described.outcome and "outcome" in errors:
        errors["outcome"] = described.outcome
    weights = network.state_dict()
    return write_bundle(
        folder,
        weights,
        described.card,
        lambda weights_sha256: way.kind(
            kind=way.kind_name,
            name=folder.name,
            version=described.version,
            architecture=way.architecture,
            configuration=asdict(system.config),
            weights_sha256=weights_sha256,
            family="neural network",
            trained_on=described.trained_on,
            intended_use=INTENDED_USE,
            grid_spacing_mm=system.spacing_mm,
            shape=system.shape,
            hematoma_ml=(float(volume_ml.min()), float(volume_ml.max())),
            strangest=strangest,
            created=described.created,
            reference=way.reference,
            **errors,
        ),
    )
