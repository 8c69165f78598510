"""From stored instances to a volume in HU, and between the acquisition and the canonical grid."""
