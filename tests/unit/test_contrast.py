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


@pytest.mark.parametrize(
    "header",
    [
        {"StudyDescription": "CT HEAD POST THROMBECTOMY"},
        {"ProtocolName": "Schädel nach Thrombektomie"},
        {"SeriesDescription": "crane post trombectomia"},
        {"StudyDescription": "NCCT 24h after EVT"},
        {"StudyDescription": "Head CT, endovascular therapy control"},
    ],
)
def test_a_description_that_mentions_a_thrombectomy_is_after_one(header: dict[str, str]) -> None:
    assert is_after_thrombectomy(header)


@pytest.mark.parametrize("description", ["", "CT HEAD", "Stroke protocol", "sinus thrombosis", "evtl. Blutung"])
def test_other_heads_are_not_after_a_thrombectomy(description: str) -> None:
    assert not is_after_thrombectomy({"StudyDescription": description, "SeriesDescription": description})
