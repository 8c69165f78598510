"""The plans of the published systems, as `fit` trains them for the bundles."""

from functools import partial

from training.expansion.evaluate import EVALUATE as EXPANSION_EVALUATE
from training.expansion.export import EXPORT as EXPANSION_EXPORT
from training.expansion.system import ExpansionSystem
from training.expansion.validation import growth_dice_of
from training.followup.evaluate import EVALUATE as FOLLOWUP_EVALUATE
from training.followup.export import EXPORT as FOLLOWUP_EXPORT
from training.followup.system import FollowupSystem
from training.followup.validation import change_and_hemorrhage_score
from training.patients.plan import Plan
from training.prognosis.evaluate import EVALUATE as PROGNOSIS_EVALUATE
from training.prognosis.export import EXPORT as PROGNOSIS_EXPORT
from training.prognosis.system import PrognosisSystem
from training.prognosis.validation import mean_auc_of
from training.volume_survival.evaluate import EVALUATE as VOLUME_SURVIVAL_EVALUATE
from training.volume_survival.export import EXPORT as VOLUME_SURVIVAL_EXPORT
from training.volume_survival.system import VolumeSurvivalSystem
from training.volume_survival.validation import size_and_death_score

SPONTANEOUS = ("iph",)  # parenchymal hemorrhage
EITHER = ("thrombectomy", "iph")  # the second is an adaptation: the paper has the first alone


_VOLUME_SURVIVAL = VolumeSurvivalSystem()

PLANS = {
    "followup": Plan(
        about="The next CT and whether it shows hemorrhage (system A), trained on simulated patients.",
        system=FollowupSystem(),
        kinds=EITHER,
        followup=True,
        stripped=True,
        score=change_and_hemorrhage_score,
        least_batch=2,
        learning_rate=5e-4,
        validation_patients=32,
        export=FOLLOWUP_EXPORT,
        evaluate=FOLLOWUP_EVALUATE,
    ),
    "expansion": Plan(
        about="The next day's hematoma (system D), trained on simulated patients.",
        system=ExpansionSystem(),
        kinds=SPONTANEOUS,
        followup=True,
        unknown=0.1,
        header_alone=0.5,
        score=growth_dice_of,
        learning_rate=1.5e-3,
        validation_patients=24,
        export=EXPANSION_EXPORT,
        evaluate=EXPANSION_EVALUATE,
    ),
    "prognosis": Plan(
        about="Outcome, consciousness and age (system B), trained on simulated patients.",
        system=PrognosisSystem(),
        kinds=SPONTANEOUS,
        followup=False,
        score=mean_auc_of,
        least_batch=8,
        learning_rate=1e-3,
        validation_patients=64,
        showings=4,
        recent=200,
        export=PROGNOSIS_EXPORT,
        evaluate=PROGNOSIS_EVALUATE,
    ),
    "volume-survival": Plan(
        about="Volume and survival, without a mask (system C), trained on simulated patients.",
        system=_VOLUME_SURVIVAL,
        kinds=SPONTANEOUS,
        followup=False,
        score=partial(size_and_death_score, _VOLUME_SURVIVAL),
        least_batch=8,
        learning_rate=1e-3,
        validation_patients=64,
        showings=4,
        recent=200,
        export=VOLUME_SURVIVAL_EXPORT,
        evaluate=VOLUME_SURVIVAL_EVALUATE,
    ),
}
