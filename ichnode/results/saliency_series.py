"""Where in the head an answer of a model comes from: its heat over the CT in colour, one instance a slice, RGB.

Slices are shown that hold hematoma or heat, so that heat in a wrong place is seen too. They lie where the CT lies.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from ichnode.imaging.prediction import Saliency
from ichnode.imaging.volume import FloatArray, Mask
from ichnode.imaging.windows import BRAIN, apply
from ichnode.results.concepts import SOURCE_IMAGE, code_item
from ichnode.results.predicted_series import PLANE_KEYWORDS
from ichnode.results.provenance import RESEARCH_BANNER, Provenance, Result, Role, finish
from ichnode.results.rgb_capture import Pixels, rgb_capture
from ichnode.results.source_headers import is_enhanced
from ichnode.results.summary_text import AMBER

_HOT = 0.5  # of the highest heat
_STRONGEST = 0.7  # share of the colour where it is hottest
_LINE = 0.027  # height of a letter, of the width of the image
_BRAIN_GRAY = 110  # of 255, below the scale
_SCALE = 0.2, 0.025  # height and width of the scale of colours, of those of the image


def compose_saliency_series(
    saliency: Saliency,
    hu: FloatArray,
    hematoma: Mask,
    *,
    headers: tuple[Dataset, ...],
    frame_numbers: tuple[int, ...],
    provenance: Provenance,
) -> tuple[Result, ...]:
    """One instance for each slice with hematoma or heat; `hu` and `hematoma` are (slice, row, column)."""
    shown = hematoma.any(axis=(1, 2)) | (saliency.heat.max(axis=(1, 2)) >= _HOT)
    results = []
    for index in np.flatnonzero(shown):
        pixels = render(hu[index], saliency.heat[index], f"{saliency.about} ({saliency.model.name})")
        dataset = _instance(pixels, headers[index], saliency.about)
        if is_enhanced(headers[index]):
            dataset.SourceImageSequence[0].ReferencedFrameNumber = frame_numbers[index]
        results.append(finish(dataset, Role(saliency.role), provenance, index=int(index)))
    return tuple(results)


def render(hu: FloatArray, heat: FloatArray, about: str) -> Pixels:
    """(row, column, RGB): gray in a brain window, red to yellow where it is hot, the warning above, `about` below.

    In the lower right corner a scale says which colour is how hot.
    """
    gray = apply(hu, BRAIN)[..., None].repeat(3, axis=2).astype(np.float32)
    rows, columns = heat.shape
    tall, wide = round(_SCALE[0] * rows), max(2, round(_SCALE[1] * columns))
    scale = slice(rows - rows // 8 - tall, rows - rows // 8), slice(columns - 2 * wide, columns - wide)
    heat = heat.copy()
    around = slice(scale[0].start - 2 * wide, scale[0].stop + 2 * wide), slice(columns - 4 * wide, columns)
    gray[around], heat[around] = 0, 0  # letters on a head holder could not be read
    gray[scale], heat[scale] = _BRAIN_GRAY, np.linspace(1, 0, tall)[:, None]
    colour = np.stack([np.full_like(heat, 255), 255 * heat, np.zeros_like(heat)], axis=2)
    share = _STRONGEST * heat[..., None]
    image = Image.fromarray(np.rint(gray * (1 - share) + colour * share).astype(np.uint8))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(max(8, _LINE * image.width))
    draw.text((image.width / 2, 2), RESEARCH_BANNER, fill=AMBER, font=font, anchor="mt")
    draw.text((image.width / 2, image.height - 3), about, fill=AMBER, font=font, anchor="mb")
    draw.text((scale[1].stop, scale[0].start - 2), "most", fill=AMBER, font=font, anchor="rb")
    draw.text((scale[1].stop, scale[0].stop + 2), "least", fill=AMBER, font=font, anchor="rt")
    return np.asarray(image)


def _instance(pixels: Pixels, header: Dataset, about: str) -> Dataset:
    dataset = rgb_capture(pixels)
    dataset.DerivationDescription = f"Saliency: {about}. {RESEARCH_BANNER}"
    for keyword in PLANE_KEYWORDS:
        if keyword in header and keyword != "SpacingBetweenSlices":  # slices are left out
            dataset.add(header[keyword])
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    source.SpatialLocationsPreserved = "YES"
    dataset.SourceImageSequence = [source]
    return dataset
