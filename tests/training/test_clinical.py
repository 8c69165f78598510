"""The simulated patients: who they are, how they grow and what becomes of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from training.data.manifest import TYPES
from training.simulate.clinical import FUNC_INDEPENDENT, ICH_DEATH, func_score, ich_score
from training.simulate.cohort import patient_spec
from training.simulate.draw import Draw
from training.simulate.expansion import expansion_probability, threshold_ml
from training.simulate.hematoma import volume_ml
from training.simulate.lesions import bleeding
from training.simulate.population import KINDS, Person, person
from training.simulate.spec import SITES, Lesion, PatientSpec

EVERYBODY = 3000


@pytest.fixture(scope="module")
def hematomas() -> list[PatientSpec]:
    """Patients with a spontaneous parenchymal hematoma; each has it first in the list of lesions."""
    return [patient_spec(seed, "iph") for seed in range(5000)]


@pytest.fixture(scope="module")
def everybody() -> list[PatientSpec]:
    return [patient_spec(seed) for seed in range(EVERYBODY)]


def odds(share: float) -> float:
    return share / (1 - share)


def odds_ratio(exposed: list[bool], grown: list[bool]) -> float:
    yes, no = np.array(grown)[np.array(exposed)], np.array(grown)[~np.array(exposed)]
    return odds(yes.mean()) / odds(no.mean())


def test_the_volumes_of_parenchymal_blood_have_the_percentiles_of_real_masks(hematomas):
    found = np.percentile([patient.lesions[0].volume_ml for patient in hematomas], [5, 25, 50, 75, 95])
    assert found == pytest.approx([0.3, 1.7, 6.3, 15, 46], rel=0.12)
    assert max(patient.lesions[0].volume_ml for patient in hematomas) <= 111


@pytest.mark.parametrize(
    ("quantile", "ml"), [(0, 0.05), (0.05, 0.3), (0.25, 1.7), (0.5, 6.3), (0.75, 15), (0.95, 46), (1, 111)]
)
def test_a_known_percentile_is_met_exactly(quantile, ml):
    assert volume_ml(quantile) == pytest.approx(ml)


def test_the_kinds_of_patients_come_in_their_shares(everybody):
    found = Counter(patient.kind for patient in everybody)
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)
    for name, kind in KINDS.items():
        error = 4 * (kind.share * (1 - kind.share) / EVERYBODY) ** 0.5
        assert found[name] / EVERYBODY == pytest.approx(kind.share, abs=error)


def test_hematomas_lie_in_their_territories_in_clinical_proportions(hematomas):
    found = Counter(patient.lesions[0].site for patient in hematomas)
    wanted = {"putamen": 0.35, "thalamus": 0.14, "caudate": 0.03, "lobar": 0.35, "cerebellum": 0.08, "brainstem": 0.05}
    assert {site: found[site] / len(hematomas) for site in wanted} == pytest.approx(wanted, abs=0.03)


def test_a_place_holds_no_more_blood_than_it_can(hematomas):
    largest = dict.fromkeys(SITES["IPH"], 0.0)
    for patient in hematomas:
        largest[patient.lesions[0].site] = max(largest[patient.lesions[0].site], patient.lesions[0].volume_ml)
    assert largest["brainstem"] < 14
    assert largest["thalamus"] < 45
    assert largest["lobar"] > 60


def test_every_lesion_is_one_that_can_be_painted(everybody):
    for patient in everybody:
        for lesion in patient.lesions:
            assert lesion.type in TYPES
            assert lesion.site in SITES[lesion.type]
            assert lesion.side in (-1, 0, 1)
            assert lesion.followup_ml >= lesion.volume_ml >= 0
            assert lesion.followup_ml > 0
            assert lesion.followup_edema_ml >= lesion.edema_ml >= 0
            assert 0 <= lesion.irregularity <= 1


def test_a_patient_without_hemorrhage_has_no_lesion_and_wakes(everybody):
    normal = [patient for patient in everybody if patient.kind == "normal"]
    assert all(not patient.lesions and patient.expansion.probability == 0 and patient.gcs >= 13 for patient in normal)


def test_the_same_seed_is_the_same_patient_and_another_seed_another():
    assert patient_spec(7) == patient_spec(7)
    assert patient_spec(7) != patient_spec(8)


def test_expansion_is_as_frequent_as_published(hematomas):
    share = np.mean([patient.expansion.conventional for patient in hematomas])
    assert 0.20 <= share <= 0.38
    assert share == pytest.approx(np.mean([patient.expansion.probability for patient in hematomas]), abs=0.025)


def test_conventional_expansion_is_growth_of_6_ml_or_33_percent_and_nothing_less(hematomas):
    for patient in hematomas:
        ml, grown = patient.lesions[0].volume_ml, patient.expansion.growth_ml
        assert patient.lesions[0].followup_ml == pytest.approx(ml + grown)
        assert (grown >= threshold_ml(ml)) == patient.expansion.conventional


def test_revised_expansion_counts_blood_in_the_ventricles_too(hematomas):
    for patient in hematomas:
        more = sum(x.followup_ml - x.volume_ml for x in patient.lesions if x.type == "IVH")
        assert patient.expansion.revised == (patient.expansion.conventional or more >= 1)


def a_person() -> Person:
    return replace(person(Draw(seed=1), "iph"), onset_to_ct_h=2.0, anticoagulant=False)


def a_hematoma(**change: object) -> Lesion:
    given = {"type": "IPH", "site": "putamen", "side": 1, "volume_ml": 12.0, "followup_ml": 12.0, "age_h": 2.0}
    return Lesion(**{**given, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "riskier",
    [
        {"volume_ml": 40.0},
        {"irregularity": 1.0},
        {"satellites": 3},
        {"blend": True},
        {"swirl": True},
        {"black_hole": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_hematoma_with_a_worse_sign_is_likelier_to_expand(riskier):
    assert expansion_probability(a_person(), [a_hematoma(**riskier)]) > expansion_probability(
        a_person(), [a_hematoma()]
    )


def test_the_earlier_the_first_ct_the_likelier_the_expansion():
    risks = [expansion_probability(replace(a_person(), onset_to_ct_h=h), [a_hematoma()]) for h in (0.5, 2, 4, 6, 20)]
    assert risks == sorted(risks, reverse=True)
    assert len(set(risks)) == len(risks)


def test_anticoagulation_and_antiplatelets_have_their_published_odds_ratios():
    nobody = replace(a_person(), antiplatelet=False)
    base = expansion_probability(nobody, [a_hematoma()])
    anticoagulated = expansion_probability(replace(nobody, anticoagulant=True), [a_hematoma()])
    antiplatelet = expansion_probability(replace(nobody, antiplatelet=True), [a_hematoma()])
    assert odds(anticoagulated) / odds(base) == pytest.approx(3.48)
    assert odds(antiplatelet) / odds(base) == pytest.approx(1.68)


@pytest.mark.parametrize(
    ("sign", "low", "high"),
    [("blend", 2.20, 5.55), ("black_hole", 1.42, 9.64), ("swirl", 2.42, 4.60), ("island", 2.17, 28.47)],
)
def test_each_density_sign_alone_has_an_odds_ratio_inside_the_published_interval(hematomas, sign, low, high):
    """The 95 % intervals of Morotti et al., Neurology 2020."""
    first = [patient.lesions[0] for patient in hematomas]
    shown = [x.satellites >= 3 if sign == "island" else getattr(x, sign) for x in first]
    assert low < odds_ratio(shown, [patient.expansion.conventional for patient in hematomas]) < high


def test_the_ich_score_counts_as_published():
    small, large = a_hematoma(volume_ml=29.9), a_hematoma(volume_ml=30.0)
    assert ich_score(15, small, False, 79.9) == 0
    assert ich_score(12, small, False, 79.9) == 1
    assert ich_score(4, small, False, 79.9) == 2
    assert ich_score(15, large, True, 80) == 3
    assert ich_score(3, replace(large, site="cerebellum"), True, 90) == 6


def test_the_func_score_counts_as_published():
    assert func_score(15, a_hematoma(site="lobar"), 60, False) == 11
    assert func_score(8, a_hematoma(site="brainstem", volume_ml=61), 85, True) == 0
    assert func_score(9, a_hematoma(volume_ml=30), 70, False) == 2 + 1 + 1 + 2 + 1


def test_deaths_match_the_table_of_the_ich_score(hematomas):
    for score in range(4):
        died = [patient.outcome.death_30d for patient in hematomas if patient.outcome.ich_score == score]
        assert np.mean(died) == pytest.approx(ICH_DEATH[score], abs=4 * (0.25 / len(died)) ** 0.5)
    assert not any(patient.outcome.death_30d for patient in hematomas if patient.outcome.ich_score == 0)


def test_independence_of_survivors_matches_the_table_of_the_func_score(hematomas):
    for scores in ((0, 1, 2, 3, 4), (5, 6, 7), (8,), (9, 10), (11,)):
        alive = [x.outcome for x in hematomas if x.outcome.func_score in scores and not x.outcome.death_30d]
        independent = np.mean([not outcome.poor_90d for outcome in alive])
        assert independent == pytest.approx(FUNC_INDEPENDENT[scores[0]], abs=0.05)


def test_outcomes_agree_with_each_other(everybody):
    for patient in everybody:
        outcome = patient.outcome
        assert outcome.poor_90d == (outcome.mrs_90d >= 4)
        assert outcome.mrs_90d == 6 or not outcome.death_30d
        assert 0 <= outcome.death_30d_probability <= outcome.poor_90d_probability <= 1


def test_more_blood_leaves_less_consciousness(hematomas):
    small = [patient.gcs for patient in hematomas if patient.lesions[0].volume_ml < 5]
    large = [patient.gcs for patient in hematomas if patient.lesions[0].volume_ml > 40]
    assert np.mean(small) > np.mean(large) + 2


def test_hemorrhage_after_thrombectomy_follows_the_staining_as_often_as_published():
    """Hemorrhage in 20 of 74 with staining, in 1 of 49 without."""
    treated = [patient_spec(seed, "thrombectomy") for seed in range(1500)]
    stained = [patient.thrombectomy_hemorrhage for patient in treated if patient.staining_ml > 0]
    clean = [patient.thrombectomy_hemorrhage for patient in treated if patient.staining_ml == 0]
    assert len(stained) / len(treated) == pytest.approx(0.55, abs=0.05)
    assert np.mean(stained) == pytest.approx(0.27, abs=0.05)
    assert np.mean(clean) == pytest.approx(0.02, abs=0.02)


def test_what_bleeds_after_the_first_ct_is_not_yet_seen_on_it():
    late = [patient_spec(seed, "thrombectomy") for seed in range(400)]
    unseen = [x for patient in late for x in patient.lesions if x.type == "IPH" and x.volume_ml == 0]
    assert unseen
    assert all(lesion.followup_ml > 0 and lesion.edema_ml == 0 for lesion in unseen)


def test_bleeding_does_not_depend_on_choices_made_elsewhere():
    draw = Draw(seed=3)
    who = person(draw, "iph")
    assert bleeding(who, draw).lesions[0].volume_ml == patient_spec(3, "iph").lesions[0].volume_ml
