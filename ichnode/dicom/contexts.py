"""What ichnode accepts: SOP classes and transfer syntaxes, exactly those that a head CT study needs.

CT Image and Enhanced CT Image are analysed, in every transfer syntax whose pixels ichnode decodes. The other objects
of a head CT study are kept, never analysed. Anything else is refused in the negotiation (abstract syntax not
supported), so the sender knows at once. A class or syntax that is not listed here cannot reach the disk.
"""

from pydicom import uid
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

UNCOMPRESSED = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
COMPRESSED = (
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.JPEGExtended12Bit,
)

ANALYSED = (uid.CTImageStorage, uid.EnhancedCTImageStorage)
KEPT_IMAGES = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
KEPT_DOCUMENTS = (
    uid.XRayRadiationDoseSRStorage,
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.ComprehensiveSRStorage,
    uid.Comprehensive3DSRStorage,
    uid.KeyObjectSelectionDocumentStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.SegmentationStorage,
    uid.EncapsulatedPDFStorage,
)


def accepted_contexts() -> list[PresentationContext]:
    """The presentation contexts of the SCP."""
    return [
        build_context(Verification, list(UNCOMPRESSED[:2])),
        *(build_context(sop_class, [*UNCOMPRESSED, *COMPRESSED]) for sop_class in ANALYSED),
        *(build_context(sop_class, [*UNCOMPRESSED, *COMPRESSED, uid.JPEGBaseline8Bit]) for sop_class in KEPT_IMAGES),
        *(build_context(sop_class, list(UNCOMPRESSED)) for sop_class in KEPT_DOCUMENTS),
    ]
