"""Authors' weights: what Cobo et al. released, as a training that `export` and `evaluate` read.

Their files are on Hugging Face (MiriamCobo/MultitaskLearning_ICH_Prognosis) for whoever may use them. Heads of 28 or 32
slices were padded to 40 and resized to 301 x 301 whatever their spacing; here they are read in voxels of the size that
this gives an average head. How their NIfTI files were stored is not known: rows are taken to go from back to front, as
dcm2niix writes them.
"""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from models.prognosis import PUBLISHED
from training.data.manifest import DataError
from training.fit.checkpoint import LAST, begin, save
from training.fit.recipes import cpu
from training.prognosis.system import PrognosisSystem

RESIZED_MM = (5.0, 0.76, 0.76)  # z, y, x: about what heads have once they are resized
_OURS = {  # names of their parts
    "feature_extractor.features.": "features.",
    "binary_head.3.": "poor.",
    "ordinal_headGCS.3.": "gcs.",
    "ordinal_headAge.3.": "elderly.",
}


def import_authors_weights(file: Path, out: Path, *, anterior_last: bool) -> str:
    """Write `out`/last.pt and say the SHA-256 of the file.

    Raises DataError for what is no state dictionary of their proposed network, and OSError.
    """
    system = PrognosisSystem(config=replace(PUBLISHED, anterior_last=anterior_last), spacing_mm=RESIZED_MM, taught=0)
    progress = begin(cpu(system))
    theirs = _renamed(_state_in(file))
    ours = {name: weight for name, weight in progress.network.state_dict().items() if not _is_ours_alone(name)}
    if problems := _differences(theirs, ours):
        raise DataError(f"{file} does not hold their network with ordinal GCS and age: {'; '.join(problems[:3])}")
    for part in (progress.network, progress.average):
        part.load_state_dict(theirs, strict=False)
    out.mkdir(parents=True, exist_ok=True)
    save(progress, cpu(system), out / LAST)
    return sha256(file.read_bytes()).hexdigest()


def _state_in(file: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as problem:
        raise DataError(
            f"{file} cannot be read as weights alone, and nothing else in it is run: {problem}"
        ) from problem
    for key in ("state_dict", "model_state_dict"):
        state = state.get(key, state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(weight, Tensor) for weight in state.values()):
        raise DataError(f"{file} holds no state dictionary")
    return state


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, weight in state.items():
        short = name.removeprefix("module.")  # of data parallel training
        prefix = next((theirs for theirs in _OURS if short.startswith(theirs)), "")
        renamed[_OURS.get(prefix, "") + short.removeprefix(prefix)] = weight
    return renamed


def _is_ours_alone(name: str) -> bool:
    return name.startswith(("taught.", "familiarity."))


def _differences(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    missing = [f"{name} is missing" for name in ours.keys() - theirs.keys()]
    unknown = [f"{name} is unknown" for name in theirs.keys() - ours.keys()]
    shapes = [
        f"{name} is {tuple(theirs[name].shape)}, not {tuple(ours[name].shape)}"
        for name in ours.keys() & theirs.keys()
        if theirs[name].shape != ours[name].shape
    ]
    return sorted(missing + unknown + shapes)
