"""The SOP classes that ichnode tells apart, by UID (PS3.4 B.5)."""

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2.1"

ANALYSABLE = frozenset({CT_IMAGE, ENHANCED_CT_IMAGE})
