"""Why a series is analysed or not: every reason that a person, a metric label or a structured report may show."""

from enum import StrEnum


class Reason(StrEnum):
    """One word for each reason. The value is stored, shown and counted; the sentence is `EXPLAINED`."""

    # analysed
    CHOSEN = "chosen"
    BY_HAND = "by_hand"
    # ignored by what the instances are, whatever the rules say
    OWN_RESULT = "own_result"
    NOT_CT_IMAGE = "not_ct_image"
    LOCALIZER = "localizer"
    DERIVED = "derived"
    MIXED_PATIENTS = "mixed_patients"
    PURGED = "purged"
    # ignored by the rules
    NO_RULE = "no_rule"
    BONE_KERNEL = "bone_kernel"
    CONTRAST = "contrast"
    NOT_HEAD = "not_head"
    TOO_FEW_SLICES = "too_few_slices"
    BETTER_SERIES = "better_series"
    # refused by the series gate (imaging.series_gate): it cannot become an honest volume
    MISSING_SLICES = "missing_slices"
    DUPLICATE_POSITION = "duplicate_position"
    UNEVEN_SPACING = "uneven_spacing"
    MIXED_ORIENTATION = "mixed_orientation"
    MIXED_PIXEL_SPACING = "mixed_pixel_spacing"
    MIXED_FRAME_OF_REFERENCE = "mixed_frame_of_reference"
    MIXED_MODALITY = "mixed_modality"
    MIXED_SIZE = "mixed_size"
    MIXED_RESCALE = "mixed_rescale"
    MIXED_KERNEL = "mixed_kernel"
    NO_RESCALE = "no_rescale"
    BAD_GEOMETRY = "bad_geometry"
    BAD_PIXELS = "bad_pixels"
    # refused by the image gate (imaging.quality): not what the models read
    NO_BRAIN = "no_brain"
    PARTIAL_HEAD = "partial_head"


EXPLAINED: dict[Reason, str] = {
    Reason.CHOSEN: "fits the rule, and is the preferred series of the study",
    Reason.BY_HAND: "was asked for by a person under this rule",
    Reason.OWN_RESULT: "was made by ichnode or is otherwise marked synthetic",
    Reason.NOT_CT_IMAGE: "is not CT Image Storage or Enhanced CT Image Storage",
    Reason.LOCALIZER: "is a localizer (scout)",
    Reason.DERIVED: "is derived, not original (reformat, projection, secondary)",
    Reason.MIXED_PATIENTS: "belongs to a study with instances of more than one patient",
    Reason.PURGED: "lacks instances that were purged here since; send the whole series again",
    Reason.NO_RULE: "fits no rule",
    Reason.BONE_KERNEL: "is reconstructed with a sharp (bone) kernel",
    Reason.CONTRAST: "was acquired with contrast agent",
    Reason.NOT_HEAD: "is not a head",
    Reason.TOO_FEW_SLICES: "has too few slices",
    Reason.BETTER_SERIES: "fits, but another series of the study is preferred",
    Reason.MISSING_SLICES: "lacks slices",
    Reason.DUPLICATE_POSITION: "has two slices at one position",
    Reason.UNEVEN_SPACING: "has unevenly spaced slices that slice thickness does not explain",
    Reason.MIXED_ORIENTATION: "mixes slice orientations",
    Reason.MIXED_PIXEL_SPACING: "mixes pixel spacings",
    Reason.MIXED_FRAME_OF_REFERENCE: "mixes frames of reference, or has none",
    Reason.MIXED_MODALITY: "mixes modalities",
    Reason.MIXED_SIZE: "mixes image sizes",
    Reason.MIXED_RESCALE: "mixes rescale slopes or intercepts in a way no scanner writes",
    Reason.MIXED_KERNEL: "mixes reconstruction kernels",
    Reason.NO_RESCALE: "lacks a usable rescale slope and intercept, so pixels are not HU",
    Reason.BAD_GEOMETRY: "has a position, orientation or spacing that is missing or not a number",
    Reason.BAD_PIXELS: "has pixel data that cannot be decoded or do not match their description",
    Reason.NO_BRAIN: "shows no brain",
    Reason.PARTIAL_HEAD: "does not cover the whole head",
}
