"""Enhanced CT: one instance -> a slice for each frame, with the values of its functional groups.

What is one for all frames lies in the shared groups, what differs in those of each frame (PS3.3 C.7.6.16); the frame's
own wins. Values are decoded as those of a whole instance are, so that the gate need not know the difference.
"""

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from ichnode.domain.reasons import Reason
from ichnode.domain.study import HeaderValue, Instance
from ichnode.errors import MalformedDataset, RefusedSeries
from ichnode.imaging.data_set import PYDICOM_ERRORS, read_data_set
from ichnode.imaging.keywords import decode_value
from ichnode.imaging.slices import Slice

_FRAME_GROUPS = {  # functional group -> what it holds for a frame (PS3.3 A.38.1)
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "CTImageFrameTypeSequence": ("FrameType",),
}


def frames_of(instance: Instance) -> list[Slice]:
    """The frames as slices, in order of frame number. Raises RefusedSeries and OSError."""
    try:
        data_set = read_data_set(instance, stop_at_pixels=True)
        common = _values(_items(data_set, "SharedFunctionalGroupsSequence"))
        frames = [_values([groups]) for groups in _items(data_set, "PerFrameFunctionalGroupsSequence")]
    except (*PYDICOM_ERRORS, MalformedDataset) as error:
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"functional groups cannot be read: {error}") from error
    declared = instance.header.get("NumberOfFrames")
    if declared != len(frames):
        raise RefusedSeries(Reason.BAD_GEOMETRY, f"NumberOfFrames {declared!r}, functional groups for {len(frames)}")
    return [
        Slice(instance=instance, frame_number=number, header={**instance.header, **common, **own})
        for number, own in enumerate(frames, start=1)
    ]


def _values(groups: list[Dataset]) -> dict[str, HeaderValue]:
    """The values that functional groups hold; FrameType becomes ImageType."""
    values: dict[str, HeaderValue] = {}
    for group, keywords in _FRAME_GROUPS.items():
        for item in (item for one in groups for item in _items(one, group)):
            for keyword in keywords:
                name = "ImageType" if keyword == "FrameType" else keyword
                raw = getattr(item.get_item(keyword), "value", None)
                value = decode_value(name, raw) if isinstance(raw, bytes) else None
                if value is not None:
                    values[name] = value
    return values


def _items(data_set: Dataset, keyword: str) -> list[Dataset]:
    value = data_set.get(keyword)
    return list(value) if isinstance(value, Items) else []
