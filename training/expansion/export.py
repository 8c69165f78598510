"""Export of system D: its weights, and its errors on simulated patients that no training saw."""

from datetime import date
from pathlib import Path

from ichnode.inference.manifest import ExpansionManifest
from models.expansion import DenseExpansion
from training.expansion.measure import measured
from training.expansion.system import ExpansionSystem
from training.fit.checkpoint import read
from training.fit.export import INTENDED_USE, write_bundle
from training.fit.source import Source
from training.patients.batch import Patients

ARCHITECTURE = "expansion:DenseExpansion"
REFERENCE = "Abramova et al., Appl Sci 2024, 14(7) 2708; dense velocity field and clinical conditioning are ours"


def export_expansion(
    checkpoint: Path,
    folder: Path,
    patients: Source[Patients],
    count: int,
    *,
    system: ExpansionSystem,
    version: str,
    card: str,
    trained_on: str,
    created: date,
) -> ExpansionManifest:
    """Measured on the first `count` batches of `patients`. Raises what `measured` and `write_bundle` raise."""
    weights = read(checkpoint, type(system))["average"]
    network = DenseExpansion(system.config)
    network.load_state_dict(weights)
    errors = measured(network.eval(), map(patients.batch, range(count)), system.spacing_mm)
    conventional, small = errors.expands
    return write_bundle(
        folder,
        weights,
        card,
        lambda weights_sha256: ExpansionManifest(
            kind="expansion",
            name=folder.name,
            version=version,
            architecture=ARCHITECTURE,
            weights_sha256=weights_sha256,
            family="neural network",
            trained_on=trained_on,
            intended_use=INTENDED_USE,
            grid_spacing_mm=system.spacing_mm,
            shape=system.shape,
            expands=conventional,
            expands_3_ml=small,
            size_error_cm=errors.size_error_cm,
            baseline_ml=errors.baseline_ml,
            created=created,
            reference=REFERENCE,
        ),
    )
