"""The coded concepts of every result object: DCMR, SNOMED CT and UCUM codes, and our own under 99ICHNODE."""

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from ichnode.domain.findings import GcsCategory, HemorrhageType, RiskClass
from ichnode.domain.identity import derived_uid

OWN_SCHEME = "99ICHNODE"


def _own(value: str, meaning: str) -> Code:
    return Code(value, OWN_SCHEME, meaning)


# what is seen, and where
ALTERED_STRUCTURE = Code("49755003", "SCT", "Morphologically Altered Structure")
HEMORRHAGE = Code("50960005", "SCT", "Hemorrhage")
CEREBRAL_HEMORRHAGE = Code("274100004", "SCT", "Cerebral hemorrhage")
INTRACRANIAL_HEMORRHAGE = Code("1386000", "SCT", "Intracranial hemorrhage")
BRAIN = Code("12738006", "SCT", "Brain")
LEFT = Code("7771000", "SCT", "Left")
RIGHT = Code("24028007", "SCT", "Right")
YES = Code("373066001", "SCT", "Yes")
NO = Code("373067005", "SCT", "No")
CT_UNSPECIFIED_REGION = Code("25045-6", "LN", "CT unspecified body region")

# what is measured
VOLUME = Code("118565006", "SCT", "Volume")
VOLUME_STRICT = _own("VOLSTRICT", "Volume at the strict threshold of the model (lower)")
VOLUME_LENIENT = _own("VOLLENIENT", "Volume at the lenient threshold of the model (upper)")
TYPE_VOLUMES = {
    HemorrhageType.IPH: _own("VOLIPH", "Volume of intraparenchymal hemorrhage"),
    HemorrhageType.IVH: _own("VOLIVH", "Volume of intraventricular hemorrhage"),
    HemorrhageType.SAH: _own("VOLSAH", "Volume of subarachnoid hemorrhage"),
    HemorrhageType.SDH: _own("VOLSDH", "Volume of subdural hemorrhage"),
    HemorrhageType.EDH: _own("VOLEDH", "Volume of epidural hemorrhage"),
}
AREA = Code("42798000", "SCT", "Area")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
COMPONENT_COUNT = _own("COMPONENTS", "Number of hematoma components")
ABC2 = _own("ABC2", "ABC/2 (Kothari 1996)")
MAXIMUM = Code("56851009", "SCT", "Maximum")

# what is predicted
EXPANSION_PROBABILITY = _own("HEPROB", "Probability of hematoma expansion within 24 h")
EXPANSION_3_ML_PROBABILITY = _own("HE3MLP", "Probability of hematoma expansion by 3 mL or more within 24 h")
VOLUME_CHANGE = _own("VOLCHANGE", "Predicted change of hematoma volume within 24 h")
PREDICTED_VOLUME = _own("VOL24H", "Predicted hematoma volume at 24 h")
LATE_HEMORRHAGE_PROBABILITY = _own("NEXTCTP", "Probability of hemorrhage or growth on the next CT")
POOR_OUTCOME_PROBABILITY = _own("POOR90P", "Probability of a poor outcome at 90 days")
DEATH_PROBABILITY = _own("DEATH30P", "Probability of death within 30 days")
VOLUME_WITHOUT_OUTLINE = _own("VOLNOOUTLINE", "Hematoma volume by a model that outlines nothing")
LOW_GCS_PROBABILITY = _own("GCS8P", "Probability of a Glasgow coma score of 8 or less")
AGE_80_PROBABILITY = _own("AGE80P", "Probability of an age of 80 years or more")
EXPANSION_CLASS = _own("HECLASS", "Risk class of hematoma expansion within 24 h")
GLASGOW_COMA_SCORE = Code("9269-2", "LN", "Glasgow coma score total")
CATEGORIES: dict[RiskClass | GcsCategory, Code] = {
    RiskClass.LOW: Code("75976002", "SCT", "Low risk"),
    RiskClass.MODERATE: Code("25594002", "SCT", "Moderate risk"),
    RiskClass.HIGH: Code("15508007", "SCT", "High risk"),
    GcsCategory.MILD: _own("GCS13TO15", "Glasgow coma score 13 to 15"),
    GcsCategory.MODERATE: _own("GCS9TO12", "Glasgow coma score 9 to 12"),
    GcsCategory.SEVERE: _own("GCS3TO8", "Glasgow coma score 3 to 8"),
}

# how it was derived: the modifier of a NUM
STRICT = _own("STRICT", "At the strict threshold of the model (lower)")
LENIENT = _own("LENIENT", "At the lenient threshold of the model (upper)")
DERIVATION = Code("121401", "DCM", "Derivation")
PREDICTED = _own("PRED", "Predicted")
PREDICTED_LOWER = _own("PREDLOWER", "Predicted, lower bound of the interval")
PREDICTED_UPPER = _own("PREDUPPER", "Predicted, upper bound of the interval")
ESTIMATED = _own("EST", "Estimated from image")
ESTIMATED_LOWER = _own("ESTLOWER", "Estimated from image, lower bound of the interval")
ESTIMATED_UPPER = _own("ESTUPPER", "Estimated from image, upper bound of the interval")
NOT_ATTEMPTED = Code("114007", "DCM", "Measurement not attempted")
COMMENT = Code("121106", "DCM", "Comment")
IMAGE_PREDICTION = _own("PREDIMG", "AI image prediction")

# units
MILLILITER = Code("ml", "UCUM", "milliliter")
MILLIMETER = Code("mm", "UCUM", "millimeter")
SQUARE_MILLIMETER = Code("mm2", "UCUM", "square millimeter")
PERCENT = Code("%", "UCUM", "percent")
NO_UNITS = Code("1", "UCUM", "no units")

# what the reader must know about the model
INTENDED_USE = _own("RUO", "Intended use")
RESEARCH_USE_ONLY = _own("RUO1", "Research use only - not for clinical use")
INTENDED_USE_STATEMENT = _own("USETEXT", "Intended use as stated by the model")
TRAINING_DATA = _own("TRAINED", "Data that the model was trained on")
ALGORITHM_FAMILIES = {  # by ModelIdentity.family (CID 7162)
    "classical": Code("123104", "DCM", "Morphological Operations"),
    "neural network": Code("123110", "DCM", "Artificial Intelligence"),
}

# a series that was not analysed
ANALYSED = _own("ANALYSED", "Head CT analysed")
NOT_ANALYSED_REASON = _own("NOTANALYSED", "Reason why the head CT was not analysed")

# why another object is referenced
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")


def code_item(code: Code) -> Dataset:
    """`code` as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def own_scheme_item() -> Dataset:
    """The item of Coding Scheme Identification Sequence that explains 99ICHNODE."""
    item = Dataset()
    item.CodingSchemeDesignator = OWN_SCHEME
    item.CodingSchemeUID = derived_uid("coding scheme", OWN_SCHEME)
    item.CodingSchemeName = "ichnode private codes"
    return item
