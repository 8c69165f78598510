import json
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from tests.series_factory import part10
from tests.training.data_factory import (
    BLOCK_ML,
    lps_affine,
    mask_of,
    phantom,
    segmentation,
    write_dicom,
    write_head,
    write_nifti,
    write_table,
)
from training.data import bhsd, cq500, hemseg, hospital, instance22, perez, physionet
from training.data.importing import Refused, sift
from training.data.load import native
from training.data.manifest import DataError

SHIFTED = lps_affine(origin_lps=(-20.0, -30.0, 45.0))


def imported(importer, folder):
    """The rows by study, none refused."""
    rows, refused = sift(importer.drafts(folder))
    assert refused == []
    return {row.study: row for row in rows}


def label_volume(row):
    return native(row)[1]


# BHSD and MBH-Seg


def test_bhsd_masks_become_the_common_labels(tmp_path):
    name = "ID_0219ef88_ID_e5c1a31210"
    write_head(tmp_path / "label_192" / "images" / f"{name}.nii.gz")
    write_nifti(tmp_path / "label_192" / "ground truths" / f"{name}.nii.gz", mask_of(1, 2, 3, 4, 5))
    row = imported(bhsd, tmp_path)[name]
    assert np.array_equal(label_volume(row), mask_of(5, 1, 2, 3, 4))
    assert row.patient == "rsna-0219ef88"
    assert row.types == ("IPH", "IVH", "SAH", "SDH", "EDH")
    assert row.volume_ml == pytest.approx(5 * BLOCK_ML)


def test_of_several_mbh_seg_raters_the_first_is_taken(tmp_path):
    case = tmp_path / "ID_066b1fc2_ID_f937d7bff0"
    write_head(case / "image.nii.gz")
    write_nifti(case / "label_annot_5.nii.gz", mask_of(2, 2))
    write_nifti(case / "label_annot_1.nii.gz", mask_of(2))
    assert np.array_equal(label_volume(imported(bhsd, tmp_path)[case.name]), mask_of(1))


def test_a_mask_that_does_not_fit_is_refused_with_its_row_number_and_the_others_stay(tmp_path):
    for name in "abc":
        write_head(tmp_path / "images" / f"{name}.nii.gz")
        write_nifti(tmp_path / "ground truths" / f"{name}.nii.gz", mask_of(1), SHIFTED if name == "b" else None)
    rows, refused = sift(bhsd.drafts(tmp_path))
    assert [row.study for row in rows] == ["a", "c"]
    assert [one.number for one in refused] == [2]
    assert "b.nii.gz: origin: (-20, -30, 45) mm where the CT has (-20, -30, 40) mm" in refused[0].reason


def test_a_mask_that_lacks_is_refused_with_its_row_number(tmp_path):
    write_head(tmp_path / "images" / "a.nii.gz")
    _, refused = sift(bhsd.drafts(tmp_path))
    assert refused[0].number == 1
    assert "ground truths" in refused[0].reason


# INSTANCE22


def test_instance22_masks_are_hemorrhage_of_unknown_type(tmp_path):
    write_head(tmp_path / "train_2" / "data" / "001.nii.gz")
    write_nifti(tmp_path / "train_2" / "label" / "001.nii.gz", mask_of(1))
    row = imported(instance22, tmp_path)["001"]
    assert np.array_equal(label_volume(row), mask_of(6))
    assert row.types == ("any",)


# HemSeg


@pytest.fixture
def hemseg_folder(tmp_path):
    """Two scans of the phantom as RSNA slices, in an order of no meaning, with masks and types."""
    head = phantom()
    order = np.random.default_rng(1).permutation(len(head.datasets))
    lines = []
    for scan, patient in (("bf7891541c", "ID_00e394df"), ("d580615f5f", "ID_015d2c2c")):
        names = [f"{scan[:4]}{index:05x}" for index in order]
        for name, index in zip(names, order, strict=True):
            file = tmp_path / "stage_2_train" / f"ID_{name}.dcm"
            file.parent.mkdir(exist_ok=True)
            as_rsna(head.datasets[index], name, scan).save_as(file)
        lines.append(json.dumps({"patient": patient, "scan_": scan, "slice_list": names}))
    write_table(tmp_path / "train_set.csv", "filename,label", "bf7891541c,1", "d580615f5f,0")
    (tmp_path / "annotion_file_info.jsonl").write_text("\n".join(lines))
    geometry = lps_affine((5.0, 230 / 64, 230 / 64), tuple(map(float, head.datasets[0].ImagePositionPatient)))
    for scan in ("bf7891541c", "d580615f5f"):
        write_nifti(tmp_path / "masks" / f"{scan}.nii.gz", head.hematoma.astype(np.uint8), geometry)
    return tmp_path


def as_rsna(dataset, name, scan):
    """With the headers that RSNA left, its UIDs included."""
    result = dcmread(BytesIO(part10(dataset)))
    for keyword in ("SOPClassUID", "FrameOfReferenceUID", "SliceThickness", "ConvolutionKernel", "ImageType"):
        delattr(result, keyword)
    result.SOPInstanceUID = f"ID_{name}"
    result.SeriesInstanceUID = result.StudyInstanceUID = f"ID_{scan}"
    return result


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_hemseg_slices_are_stacked_by_position_under_their_mask(hemseg_folder):
    rows = imported(hemseg, hemseg_folder)
    volume, labels = native(rows["bf7891541c"])
    assert volume.hu[labels > 0].mean() == pytest.approx(64, abs=2)
    assert rows["bf7891541c"].types == ("IVH",)
    assert rows["d580615f5f"].types == ("IPH",)
    assert rows["bf7891541c"].patient == "rsna-00e394df"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_hemseg_scan_with_a_missing_slice_is_refused_with_its_row_number(hemseg_folder):
    next(hemseg_folder.glob("stage_2_train/ID_d580*")).unlink()
    rows, refused = sift(hemseg.drafts(hemseg_folder))
    assert [row.study for row in rows] == ["bf7891541c"]
    assert refused[0].number == 2
    assert "scan d580615f5f" in refused[0].reason


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_hemseg_scan_with_a_slice_of_another_series_is_refused(hemseg_folder):
    own, other = (sorted(hemseg_folder.glob(f"stage_2_train/ID_{scan}*")) for scan in ("bf78", "d580"))
    own[0].write_bytes(other[0].read_bytes())
    _, refused = sift(hemseg.drafts(hemseg_folder))
    assert "its slices are of 2 series" in refused[0].reason


def test_a_hemseg_list_that_cannot_be_read_names_its_line(tmp_path):
    (tmp_path / "annotion_file_info.jsonl").write_text('{"scan_": "a"}\n')
    with pytest.raises(DataError, match=r"annotion_file_info\.jsonl, line 1"):
        list(hemseg.drafts(tmp_path))


# CQ500

READERS = [f"R{n}:{finding}" for n in (1, 2, 3) for finding in ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH", "Fracture")]


def reads(number, **votes):
    """A line of reads.csv; `votes` says how many readers saw a finding."""
    seen = ["1" if int(reader[1]) <= votes.get(reader[3:], 0) else "0" for reader in READERS]
    return ",".join([f"CQ500-CT-{number}", "B1", *seen])


def test_what_two_of_three_cq500_readers_saw_is_present(tmp_path):
    lines = [reads(0, ICH=3, IPH=2, IVH=1, SDH=3), reads(1, ICH=1), reads(2, ICH=2, SAH=1), reads(9)]
    write_table(tmp_path / "reads.csv", ",".join(["name", "Category", *READERS]), *lines)
    for number in range(3):
        name = f"CQ500CT{number} CQ500CT{number}"
        write_dicom(tmp_path / "qct01" / name / "Unknown Study" / "CT Plain", phantom().datasets)
    rows = imported(cq500, tmp_path)
    assert {study: row.types for study, row in rows.items()} == {"0": ("IPH", "SDH"), "1": (), "2": ("any",)}
    assert {row.split for row in rows.values()} == {"test"}
    assert rows["0"].ct.name == "CT Plain"
    assert (label_volume(rows["0"]) == 255).all()
    assert (label_volume(rows["1"]) == 0).all()


def test_a_cq500_study_without_a_series_to_use_is_refused_with_its_row_number(tmp_path):
    write_table(tmp_path / "reads.csv", ",".join(["name", *READERS]), reads(0).replace(",B1", ""))
    (tmp_path / "CQ500CT0 CQ500CT0").mkdir()
    _, refused = sift(cq500.drafts(tmp_path))
    assert refused[0].number == 1
    assert "no CT images" in refused[0].reason


def test_a_table_without_a_column_names_it(tmp_path):
    write_table(tmp_path / "reads.csv", "name,R1:ICH")
    with pytest.raises(DataError, match="has no column r1:edh"):
        list(cq500.drafts(tmp_path))


# PhysioNet

DIAGNOSIS = "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,No_Hemorrhage"
DEMOGRAPHICS = ('Patient Number,"Age\n(years)",Gender,Hemorrhage type,,', ",,,Intraventricular,Intraparenchymal,")


def test_a_ct_ich_mask_has_the_type_of_a_patient_with_only_one(tmp_path):
    write_table(
        tmp_path / "hemorrhage_diagnosis_raw_ct.csv",
        DIAGNOSIS,
        *("49,1,0,0,0,0,0,1", "49,2,0,0,0,1,0,0", "50,1,0,1,0,0,0,0", "50,2,1,0,0,0,0,0", "66,1,0,0,0,0,0,1"),
    )
    write_table(tmp_path / "Patient_demographics.csv", *DEMOGRAPHICS, "49,35,Male,,,", "50,0.5,Female,,,")
    for number, values in (("049", (255,)), ("050", (255, 255)), ("066", ())):
        write_head(tmp_path / "ct_scans" / f"{number}.nii")
        write_nifti(tmp_path / "masks" / f"{number}.nii", mask_of(*values))
    rows = imported(physionet, tmp_path)
    assert {study: row.types for study, row in rows.items()} == {"049": ("EDH",), "050": ("any",), "066": ()}
    assert {study: row.age for study, row in rows.items()} == {"049": 35, "050": 0.5, "066": None}
    assert np.array_equal(label_volume(rows["049"]), mask_of(5))
    assert np.array_equal(label_volume(rows["050"]), mask_of(6, 6))


# Perez del Barrio


def test_perez_rows_have_prognosis_and_gcs_but_no_mask(tmp_path):
    lines = ("PatientID,Age,GCS,Label (poor_prognosis)", "1,71,15,0", "2,,3,1", "3,60,2,1", "4,60,9,yes", "5,60,9,1")
    write_table(tmp_path / "CLINICAL_DATA_ICH.csv", *lines)
    write_head(tmp_path / "GOOD_PROGNOSIS" / "1_brain.nii.gz")
    for number in (2, 3, 4):
        write_head(tmp_path / "POOR_PROGNOSIS" / f"{number}.nii.gz")
    rows, refused = sift(perez.drafts(tmp_path))
    assert [(row.age, row.gcs, row.outcome.value) for row in rows] == [(71, 15, 0), (None, 3, 1)]
    assert (label_volume(rows[0]) == 255).all()
    assert [one.number for one in refused] == [3, 4, 5]
    assert "gcs" in refused[0].reason
    assert "outcome.value" in refused[1].reason
    assert "POOR_PROGNOSIS/5_brain.nii.gz" in refused[2].reason


def test_perez_lies_in_the_folder_of_its_archive_and_a_prognosis_may_lack(tmp_path):
    write_table(tmp_path / "CLINICAL_DATA_ICH.csv", "PatientID,Age,GCS,Label (poor_prognosis)", "1,71,15,0", "2,60,9,")
    write_head(tmp_path / "ICH_nii_StrippedSkull" / "GOOD_PROGNOSIS" / "1_brain.nii.gz")
    write_head(tmp_path / "ICH_nii_StrippedSkull" / "POOR_PROGNOSIS" / "2_brain.nii.gz")
    rows = imported(perez, tmp_path)
    assert (rows["1"].outcome.value, rows["2"].outcome) == (0, None)


# A hospital's own

COLUMNS = "patient,accession,ct,mask,labels,types,paired_with,t_hours,onset_hours,age,gcs,outcome_type,outcome"


def test_a_hospital_pairs_dicom_and_nifti_studies_of_one_patient(tmp_path):
    head = phantom()
    write_dicom(tmp_path / "A1" / "ct", head.datasets)
    (tmp_path / "A1" / "seg.dcm").write_bytes(part10(segmentation(list(head.datasets), head.hematoma)))
    write_head(tmp_path / "A2.nii.gz")
    write_nifti(tmp_path / "A2-mask.nii.gz", mask_of(1, 2))
    write_head(tmp_path / "B1.nii.gz")
    write_table(
        tmp_path / "studies.csv",
        COLUMNS,
        "P1,A1,A1,A1/seg.dcm,1=IPH,,,0,1.5,71,14,mrs_90d,4",
        "P1,A2,A2.nii.gz,A2-mask.nii.gz,,,A1,24,1.5,71,,,",
        "P2,B1,B1.nii.gz,,,none,,,,,,,",
    )
    rows = imported(hospital, tmp_path)
    assert np.array_equal(label_volume(rows["A1"]), head.hematoma)
    assert rows["A1"].volume_ml == pytest.approx(head.hematoma_ml, rel=0.05)
    assert rows["A2"].paired_with == "A1"
    assert rows["A2"].types == ("IPH", "IVH")
    assert rows["A1"].split == rows["A2"].split
    assert (rows["A1"].gcs, rows["A2"].gcs, rows["A1"].outcome.value) == (14, None, 4)
    assert rows["B1"].types == ()


def test_a_hospital_says_what_no_image_shows(tmp_path):
    write_head(tmp_path / "ct.nii")
    more = "volume_ml,systolic_mmhg,anticoagulant,thrombectomy"
    write_table(
        tmp_path / "studies.csv",
        f"patient,accession,ct,types,{more}",
        "P1,A1,ct.nii,IPH,12.5,180,1,0",
        "P2,B1,ct.nii,,,,,",
    )
    rows = imported(hospital, tmp_path)
    told = [(row.volume_ml, row.systolic_mmhg, row.anticoagulant, row.thrombectomy) for row in rows.values()]
    assert told == [(12.5, 180.0, True, False), (None,) * 4]


HOSPITAL_REFUSALS = {
    "ct: Input": "P1,A1,,,,,,,,,,,",
    "patient: Input": ",A1,ct.nii,,,,,,,,,,",
    "No such file": "P1,A1,nothing.nii,,,,,,,,,,",
    "age: Input should be a valid number": "P1,A1,ct.nii,,,,,,,old,,,",
    "types.0: Input should be": "P1,A1,ct.nii,,,ICH,,,,,,,",
    "label_map.1: Input should be": "P1,A1,ct.nii,mask.nii,1=clot,,,,,,,,",
    "does not name the value 1": "P1,A1,ct.nii,mask.nii,2=IPH,,,,,,,,",
    "label_map.300": "P1,A1,ct.nii,mask.nii,300=SDH,,,,,,,,",
    "label_map.-1": "P1,A1,ct.nii,mask.nii,1=IPH -1=none,,,,,,,,",
    "its mask shows IPH, it was read as no hemorrhage": "P1,A1,ct.nii,mask.nii,,none,,,,,,,",
    "its mask shows IPH, it was read as SDH": "P1,A1,ct.nii,mask.nii,,SDH,,,,,,,",
    "its mask shows no hemorrhage, it was read as IPH": "P1,A1,ct.nii,mask.nii,1=none,IPH,,,,,,,",
    "its first CT, A9, is not there": "P1,A1,ct.nii,,,,A9,,,,,,",
    "outcome.type": "P1,A1,ct.nii,,,,,,,,,,4",
    "mrs_90d is a number from 0 to 6, not 9": "P1,A1,ct.nii,,,,,,,,,mrs_90d,9",
}


@pytest.mark.parametrize("reason", HOSPITAL_REFUSALS)
def test_an_unsound_line_of_a_hospitals_table_is_refused_with_its_row_number(tmp_path, reason):
    write_head(tmp_path / "ct.nii")
    write_nifti(tmp_path / "mask.nii", mask_of(1))
    write_table(tmp_path / "studies.csv", COLUMNS, "P0,A0,ct.nii,,,,,,,,,,", HOSPITAL_REFUSALS[reason])
    rows, refused = sift(hospital.drafts(tmp_path))
    assert [row.study for row in rows] == ["A0"]
    assert refused == [Refused(number=2, reason=refused[0].reason, study=refused[0].study)]
    assert reason in refused[0].reason


def test_a_ct_that_cannot_be_read_to_its_end_is_refused_on_import(tmp_path):
    whole = write_head(tmp_path / "ct.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:2000])
    write_table(tmp_path / "studies.csv", COLUMNS, "P0,A0,ct.nii,,,,,,,,,,", "P1,A1,cut.nii,,,,,,,,,,")
    rows, refused = sift(hospital.drafts(tmp_path))
    assert [row.study for row in rows] == ["A0"]
    assert [one.number for one in refused] == [2]


def test_cells_that_lack_at_the_end_of_a_line_are_empty(tmp_path):
    write_head(tmp_path / "ct.nii")
    write_table(tmp_path / "studies.csv", COLUMNS, "P0,A0,ct.nii")
    assert list(imported(hospital, tmp_path)) == ["A0"]


def test_a_table_in_another_encoding_says_so(tmp_path):
    (tmp_path / "studies.csv").write_bytes(f"{COLUMNS}\nMüller,A0,ct.nii\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"studies\.csv: is not UTF-8 text"):
        sift(hospital.drafts(tmp_path))
