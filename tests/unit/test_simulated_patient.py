"""The patient that is shipped is what the demo and the acceptance tests need: one hematoma of known volume."""

from ichnode.domain.study import Series
from ichnode.imaging.header import instance_from_file
from ichnode.imaging.quality import checked_head
from ichnode.imaging.series_reader import read_volume
from ichnode.simulated_patient import simulated_patient


def test_the_shipped_patient_is_a_head_with_one_hematoma_where_its_truth_says(tmp_path):
    patient = simulated_patient()
    for number, dataset in enumerate(patient.datasets):
        dataset.save_as(tmp_path / f"{number:03d}.dcm", enforce_file_format=True)
    instances = tuple(instance_from_file(file) for file in sorted(tmp_path.iterdir()))
    uids = [one.sop_instance_uid for one in instances]
    volume = read_volume(
        Series(
            series_instance_uid=instances[0].series_instance_uid,
            study_instance_uid=instances[0].study_instance_uid,
            instances=instances,
        )
    )
    checked_head(volume)
    hematoma = patient.hematoma[[uids.index(uid) for uid in volume.grid.sop_instance_uids]]
    assert abs(volume.grid.volume_ml(hematoma) - patient.hematoma_ml) < 0.01
    assert 25 < patient.hematoma_ml < 35
    assert volume.hu[hematoma].mean() > 50
    assert all("SIMULATED" in str(dataset.PatientName) for dataset in patient.datasets)


def test_it_is_the_same_patient_every_time():
    first, second = ([d.SOPInstanceUID for d in simulated_patient().datasets] for _ in range(2))
    assert first == second
