"""The score of system D: Dice of growth."""

from collections.abc import Iterable

from torch import Tensor, nn

from training.expansion.published import Whole
from training.expansion.system import Seen, seen_of
from training.fit.validation import dice_over_all
from training.patients.batch import Patients


def growth_dice_of(network: nn.Module, batches: Iterable[Patients]) -> float:
    """Of growth predicted and true, over all voxels of all patients: growth where there was none counts too."""
    return dice_over_all(_growth(network, seen) for seen in map(seen_of, batches))


def _growth(network: nn.Module, seen: Seen) -> tuple[Tensor, Tensor]:
    was = seen.baseline_bcdhw > 0.5
    predicted = network(seen.x_bcdhw, seen.clinical_bn).hematoma_bcdhw >= 0.5
    return predicted & ~was, (seen.later_hematoma_bcdhw > 0.5) & ~was


def published_growth_dice_of(network: nn.Module, batches: Iterable[Patients]) -> float:
    """The same of a network that reads patches."""
    return growth_dice_of(Whole(network), batches)
