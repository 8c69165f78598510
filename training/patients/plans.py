"""The plans of the published systems, as `fit` trains them for the bundles, and their variants.

`paper` is a network of the paper's size and sight, trained as it says, for a GPU. `improved` is one of its size, and
`fine` the dense D on voxels an eighth as large, both trained as the shipped one, for a GPU too. `beside-published` is
the dense D on the voxels and patients of `published`, to be compared with it. The others are the rows of its ablations,
of the shipped network's size, and `perez`, the small network that B's table begins with. `coarse` is the shipped
network on voxels four times as large, `coarse-NAME` a row of the ablations there: so a CPU trains all rows of a table,
each as long as the others, in a few hours.
"""

from collections.abc import Mapping
from dataclasses import replace

from models import followup, prognosis, volume_survival
from models.expansion import PublishedExpansionConfig
from models.perez import PEREZ
from training.expansion.evaluate import EVALUATE as EXPANSION_EVALUATE
from training.expansion.export import EXPORT as EXPANSION_EXPORT
from training.expansion.published import PublishedExpansionSystem
from training.expansion.system import ExpansionSystem
from training.expansion.validation import growth_dice_of, published_growth_dice_of
from training.fit.system import System
from training.followup.evaluate import EVALUATE as FOLLOWUP_EVALUATE
from training.followup.export import EXPORT as FOLLOWUP_EXPORT
from training.followup.system import FollowupSystem
from training.followup.validation import change_and_hemorrhage_score
from training.patients import recipes
from training.patients.plan import Plan
from training.prognosis.authors import RESIZED_MM
from training.prognosis.evaluate import EVALUATE as PROGNOSIS_EVALUATE
from training.prognosis.export import EXPORT as PROGNOSIS_EXPORT
from training.prognosis.system import PrognosisSystem
from training.prognosis.validation import balanced_accuracy_of, mean_auc_of
from training.volume_survival.evaluate import EVALUATE as VOLUME_SURVIVAL_EVALUATE
from training.volume_survival.export import EXPORT as VOLUME_SURVIVAL_EXPORT
from training.volume_survival.system import VolumeSurvivalSystem
from training.volume_survival.validation import size_and_death_score

SPONTANEOUS = ("iph",)  # parenchymal hemorrhage
EITHER = ("thrombectomy", "iph")  # the second is an adaptation: the paper has the first alone
_SYNTHETIC = 5 / 6  # of the showings
_FINE_MM = (5.0, 1.0, 1.0)
_COARSE, _COARSE_MM = (32, 64, 48), (5.0, 4.0, 4.0)
_EVEN, _EVEN_MM = (64, 112, 96), (2.5, 2.0, 2.0)  # about as fine along all axes

_OF_SEGMENTER = FollowupSystem(encoder_learns=False)
_FOLLOWUP = Plan(
    letter="A",
    about="The next CT and whether it shows hemorrhage (system A).",
    system=_OF_SEGMENTER,
    kinds=EITHER,
    followup=True,
    finds_brain=True,
    score=change_and_hemorrhage_score,
    recipe=recipes.ours(5e-4, least_batch=2),
    alike_in="hemorrhage",
    begins_from="hematoma",
    validation_patients=32,
    export=FOLLOWUP_EXPORT,
    evaluate=FOLLOWUP_EVALUATE,
)
_EXPANSION = Plan(
    letter="D",
    about="The next day's hematoma (system D).",
    system=ExpansionSystem(),
    kinds=SPONTANEOUS,
    followup=True,
    masks=True,
    unknown=0.1,
    header_alone=0.5,
    score=growth_dice_of,
    recipe=recipes.ours(1.5e-3),
    alike_in="hemorrhage",
    validation_patients=24,
    export=EXPANSION_EXPORT,
    evaluate=EXPANSION_EVALUATE,
)
_PUBLISHED_EXPANSION = replace(
    _EXPANSION,
    system=PublishedExpansionSystem(
        config=PublishedExpansionConfig(widths=(16, 32, 64, 128)), shape=_EVEN, spacing_mm=_EVEN_MM
    ),
    stripped=True,
    score=published_growth_dice_of,
    recipe=recipes.ours(1e-4),
    validation_patients=8,  # windows take their time
    export=None,
)
_PROGNOSIS = Plan(
    letter="B",
    about="Outcome, consciousness and age (system B).",
    system=PrognosisSystem(),
    kinds=SPONTANEOUS,
    followup=False,
    score=mean_auc_of,
    recipe=recipes.ours(1e-3, least_batch=8),
    alike_in="prognosis",
    validation_patients=64,
    showings=4,
    recent=200,
    export=PROGNOSIS_EXPORT,
    evaluate=PROGNOSIS_EVALUATE,
)
_VOLUME_SURVIVAL = Plan(
    letter="C",
    about="Volume and survival, without a mask (system C).",
    system=VolumeSurvivalSystem(),
    kinds=SPONTANEOUS,
    followup=False,
    score=size_and_death_score,
    recipe=recipes.ours(1e-3, least_batch=8),
    alike_in="death and volume",
    validation_patients=64,
    showings=4,
    recent=200,
    export=VOLUME_SURVIVAL_EXPORT,
    evaluate=VOLUME_SURVIVAL_EVALUATE,
)


def _alike_but_for(plan: Plan, systems: Mapping[str, System]) -> dict[str, Plan]:
    """Variants that differ in the system alone."""
    return {name: replace(plan, system=system) for name, system in systems.items()}


def _coarse_too(plan: Plan) -> Plan:
    """With those variants that read its own grid, and the plan itself, on a coarse one as well."""
    fine = {name: each for name, each in {"": plan, **plan.variants}.items() if each.system.grid == plan.system.grid}
    coarse = {
        f"coarse-{name}".rstrip("-"): replace(each, system=each.system.regridded(_COARSE, _COARSE_MM), variants={})
        for name, each in fine.items()
    }
    return replace(plan, variants={**plan.variants, **coarse})


_PAPERS_PROGNOSIS = PrognosisSystem(taught=0)
_OUTCOME_ALONE = replace(_PAPERS_PROGNOSIS, poor=1.0, gcs=0, elderly=0)

_ON_THEIR_GRIDS = {
    "followup": replace(
        _FOLLOWUP,
        variants={
            "paper": replace(
                _FOLLOWUP,
                system=FollowupSystem(config=followup.PAPER, spacing_mm=_FINE_MM),
                recipe=recipes.followup,
                begins_from=None,
            ),
        }
        | _alike_but_for(
            _FOLLOWUP,
            {
                "generation-alone": replace(_OF_SEGMENTER, classifies=False),
                "hemorrhage-alone": replace(_OF_SEGMENTER, generates=False),
                "no-density-attention": replace(
                    _OF_SEGMENTER, config=replace(followup.COMPACT, attends_to_density=False)
                ),
                "no-interaction": replace(_OF_SEGMENTER, config=replace(followup.COMPACT, interacts=False)),
                "equal-weights": replace(_OF_SEGMENTER, balanced=False),
            },
        ),
    ),
    "expansion": replace(
        _EXPANSION,
        variants={
            "synthetic": replace(_EXPANSION, synthetic=_SYNTHETIC),
            "fine": replace(_EXPANSION, system=ExpansionSystem().regridded((64, 224, 192), (2.5, 1.0, 1.0))),
            "paper": replace(_PUBLISHED_EXPANSION, system=PublishedExpansionSystem(), recipe=recipes.expansion),
            "published": _PUBLISHED_EXPANSION,
            "published-synthetic": replace(_PUBLISHED_EXPANSION, synthetic=_SYNTHETIC),
            "beside-published": replace(
                _EXPANSION,
                system=ExpansionSystem().regridded(_EVEN, _EVEN_MM),
                stripped=True,
                validation_patients=8,
                export=None,
            ),
        },
    ),
    "prognosis": replace(
        _PROGNOSIS,
        variants={
            "paper": replace(
                _PROGNOSIS,
                system=replace(_PAPERS_PROGNOSIS, config=prognosis.PUBLISHED, spacing_mm=RESIZED_MM),
                stripped=True,
                recipe=recipes.prognosis,
                score=balanced_accuracy_of,
            ),
        }
        | _alike_but_for(
            _PROGNOSIS,
            {
                "perez": replace(_OUTCOME_ALONE, config=PEREZ),
                "outcome-alone": _OUTCOME_ALONE,
                "outcome-age": replace(_PAPERS_PROGNOSIS, poor=0.5, gcs=0),
                "outcome-gcs-8": replace(_PAPERS_PROGNOSIS, elderly=0, ordinal=False),
                "outcome-gcs-8-age": replace(_PAPERS_PROGNOSIS, ordinal=False),
                "outcome-gcs": replace(_PAPERS_PROGNOSIS, poor=0.6, gcs=0.4, elderly=0),
                "outcome-gcs-age": _PAPERS_PROGNOSIS,
                "keeps-bone": PrognosisSystem(config=replace(prognosis.COMPACT, sight="improved")),
                "improved": PrognosisSystem(config=prognosis.IMPROVED, spacing_mm=_FINE_MM),
            },
        ),
    ),
    "volume-survival": replace(
        _VOLUME_SURVIVAL,
        variants={
            "paper": replace(
                _VOLUME_SURVIVAL,
                system=VolumeSurvivalSystem(config=volume_survival.PUBLISHED, spacing_mm=_FINE_MM),
                recipe=recipes.volume_survival,
            ),
        }
        | _alike_but_for(
            _VOLUME_SURVIVAL,
            {
                "volume-alone": VolumeSurvivalSystem(survival=0),
                "survival-alone": VolumeSurvivalSystem(volume=0),
                "says-size": VolumeSurvivalSystem(config=replace(volume_survival.COMPACT, says_ml=False)),
                "improved": VolumeSurvivalSystem(config=volume_survival.IMPROVED, spacing_mm=_FINE_MM),
            },
        ),
    ),
}
PLANS = {name: _coarse_too(plan) for name, plan in _ON_THEIR_GRIDS.items()}
