"""What headers say of contrast medium."""

import pytest

from ichnode.domain.contrast import has_contrast, is_after_thrombectomy

ENHANCED = """HEAD WITH CONTRAST|HEAD W CON|HEAD W/ CON|CT HEAD +C|HEAD C+|HEAD + C|IV+|CTA COW|CTV|CTP 5.0|Perfusion
HEAD VENOUS 5.0|VENOUS PHASE|DELAYED|arteriell|CON MDC|CECT|ENHANCED|POSTCON|POST GAD|POST C
HEAD POST CONTRAST|TETE INJECTEE|AVEC INJECTION|Schädel mit KM|Kopf nativ und mit Kontrastmittel
HEAD WITH CONTRAST, NO DELAY|Contrast head AX no. 2|NON-ANGLED CTA"""
NATIVE = """HEAD|HEAD W/O CONTRAST|HEAD WO CONTRAST 5.0|HEAD WO IV CONTRAST|Non-contrast head|NONCONTRAST|NCCT
UNENHANCED|non enhanced|HEAD PRE CONTRAST|BEFORE CONTRAST|vor KM|Kopf ohne KM|AVANT CONTRASTE
SANS INJECTION|UTAN KONTRAST|S/CONTRASTE|SIN CONTRASTE|SEM CONTRASTE|SENZA MDC|HEAD W/O C|no contrast
Schädel nativ|Head routine|STROKE PROTOCOL|BRAIN 5.0 H31s"""
NO_AGENT = "|NO|None|N/A|NO CONTRAST|non-contrast|0|0 ml|-|.|SANS|KEIN|without IV contrast|W/O"


def each(texts: str) -> list[str]:
    return texts.replace("\n", "|").split("|")


@pytest.mark.parametrize("description", each(ENHANCED))
def test_what_a_description_calls_enhanced_is_so(description: str) -> None:
    assert has_contrast({"SeriesDescription": description})


@pytest.mark.parametrize("description", each(NATIVE))
def test_what_a_description_denies_or_does_not_mention_is_not_enhanced(description: str) -> None:
    assert not has_contrast({"SeriesDescription": description})


@pytest.mark.parametrize("agent", ["IOHEXOL", "NONIONIC", "Non-ionic Iopamidol", "Omnipaque 350", "70 ml", "YES"])
def test_an_agent_is_contrast(agent: str) -> None:
    assert has_contrast({"ContrastBolusAgent": agent, "SeriesDescription": "HEAD W/O CONTRAST"})


@pytest.mark.parametrize("agent", each(NO_AGENT))
def test_no_agent_is_no_contrast_unless_a_volume_was_given(agent: str) -> None:
    assert not has_contrast({"ContrastBolusAgent": agent, "ContrastBolusVolume": 0.0})
    assert has_contrast({"ContrastBolusAgent": agent, "ContrastBolusVolume": 70.0})


AFTER_THROMBECTOMY = """CT HEAD POST THROMBECTOMY|postthrombectomy|POST_EVT_24H|Schädel nach Thrombektomie
crane post trombectomia|NCCT 24h after EVT|EVT 24h|Head CT, endovascular therapy control|s/p mechanical thrombectomy
nach Rekanalisation|etter rekanalisering|dopo ricanalizzazione|Thrombektomie Kontrolle|après traitement endovasculaire
efter trombektomi|Thrombectomy follow-up|post embolectomy|tras tromboaspiración|na endovasculaire trombectomie"""
NOT_AFTER = """|CT HEAD|Stroke protocol|sinus thrombosis|evtl. Blutung|CT cerebrum evt. med kontrast|na evt. trauma
HEAD PRE THROMBECTOMY|Schädel vor Thrombektomie|no thrombectomy|Thrombectomy candidate?|STROKE THROMBECTOMY PROTOCOL
Aneurysm post endovascular coiling|recanalised sinus thrombosis|POST CONTRAST|24h control|NACHT"""


@pytest.mark.parametrize("keyword", ["StudyDescription", "SeriesDescription", "ProtocolName"])
@pytest.mark.parametrize("description", each(AFTER_THROMBECTOMY))
def test_a_head_that_is_described_so_is_after_thrombectomy(keyword: str, description: str) -> None:
    assert is_after_thrombectomy({keyword: description})


@pytest.mark.parametrize("description", each(NOT_AFTER))
def test_a_thrombectomy_to_come_and_other_treatment_are_none(description: str) -> None:
    assert not is_after_thrombectomy({"StudyDescription": description, "SeriesDescription": description})
