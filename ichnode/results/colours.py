"""What colour each segment is painted in: in the segmentations, on the summary page and on the review page."""

from ichnode.results.provenance import Role

Rgb = tuple[int, int, int]

HEMATOMA_RGB: Rgb = (230, 60, 60)
PREDICTED_RGB: Rgb = (240, 170, 40)
GROWTH_RGB: Rgb = (250, 220, 120)
SEGMENT_RGB = {  # in the order of the Segment Numbers
    Role.SEGMENTATION: (HEMATOMA_RGB,),
    Role.PREDICTED_SEGMENTATION: (PREDICTED_RGB, GROWTH_RGB),
}
