"""Makers: the habits of CT manufacturers in the headers and pixels that they write.

From public headers and conformance statements as remembered; what is tested is that all of them are read alike.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """How one manufacturer writes head CT."""

    name: str
    models: tuple[str, ...]
    kernels: tuple[str, ...]  # ConvolutionKernel, soft ones
    descriptions: tuple[str, ...]  # SeriesDescription; {slice_mm} and {kernel} are filled in
    image_type: tuple[str, ...]
    kvp: tuple[int, ...]
    bits_stored: int
    signed: bool
    intercept: int
    padding: int | None  # stored value outside the round field of view; None: as air
    windows: tuple[tuple[int, int], ...]  # centre and width; the first is shown
    cranial_first: bool  # instance number 1 is the highest slice
    localizer: str


MAKERS = (
    Maker(
        name="SIEMENS",
        models=("SOMATOM Definition AS", "Sensation 64", "Emotion 16"),
        kernels=("H31s", "H40s", "J40s"),
        descriptions=("Head {slice_mm} {kernel}", "Kopf nativ {slice_mm}", "Neuro sequence {slice_mm}"),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SEQ"),
        kvp=(120, 130),
        bits_stored=12,
        signed=False,
        intercept=-1024,
        padding=None,
        windows=((35, 80), (700, 3200)),
        cranial_first=False,
        localizer="Topogram",
    ),
    Maker(
        name="GE MEDICAL SYSTEMS",
        models=("LightSpeed VCT", "Revolution EVO", "HiSpeed Dual"),
        kernels=("STANDARD", "SOFT"),
        descriptions=("HEAD {slice_mm}MM", "BRAIN WO", "AXIAL HEAD STD"),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        kvp=(120, 140),
        bits_stored=16,
        signed=True,
        intercept=-1024,
        padding=-2000,
        windows=((40, 80),),
        cranial_first=False,
        localizer="SCOUT",
    ),
    Maker(
        name="TOSHIBA",
        models=("Aquilion ONE", "Aquilion", "Asteion"),
        kernels=("FC21", "FC26", "FC68"),
        descriptions=("Brain {slice_mm}", "Head Plain {slice_mm} {kernel}"),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        kvp=(120,),
        bits_stored=16,
        signed=True,
        intercept=0,
        padding=-2048,
        windows=((35, 100),),
        cranial_first=True,
        localizer="Scanogram",
    ),
    Maker(
        name="Philips",
        models=("Brilliance 64", "Ingenuity CT", "iCT 256"),
        kernels=("UB", "UA"),
        descriptions=("HEAD NON CON {slice_mm}", "Routine Head, Brain"),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        kvp=(120, 140),
        bits_stored=12,
        signed=False,
        intercept=-1024,
        padding=None,
        windows=((40, 80), (400, 2000)),
        cranial_first=True,
        localizer="Surview",
    ),
)
