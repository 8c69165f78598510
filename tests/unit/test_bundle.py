import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ichnode.errors import BundleError, ConfigError
from ichnode.inference.bundle import (
    find_bundles,
    load_bundle,
    load_for,
    load_pipelines,
    shipped_bundles,
    verify_bundle,
)
from ichnode.inference.manifest import SegmenterManifest, VolumeSurvivalManifest
from models.volume_survival import VolumeSurvival, VolumeSurvivalConfig
from tests.bundle_factory import CALIBRATION, NETWORKS, forecaster_bundle

NAME = "hematoma-baseline"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped baseline that a test may damage."""
    return Path(shutil.copytree(shipped_bundles() / NAME, tmp_path / NAME))


def change(bundle: Path, **values: Any) -> None:
    """Other values in the manifest; None deletes the key."""
    manifest = json.loads((bundle / "manifest.json").read_text()) | values
    (bundle / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))


def test_every_shipped_bundle_is_found_and_verifies() -> None:
    found = find_bundles([shipped_bundles()])
    assert NAME in found
    for name, folder in found.items():
        assert verify_bundle(folder).name == name


def test_a_sites_own_bundle_counts_before_the_shipped_one(bundle: Path) -> None:
    assert find_bundles([shipped_bundles(), bundle.parent])[NAME] == bundle


def test_a_bundle_that_names_no_classes_finds_hematoma(bundle: Path) -> None:
    assert "classes" not in json.loads((bundle / "manifest.json").read_text())
    assert verify_bundle(bundle).classes == ("hematoma",)


def test_the_types_that_a_bundle_tells_apart_are_in_its_manifest() -> None:
    assert verify_bundle(shipped_bundles() / "hematoma").classes == ("IPH", "IVH", "SAH", "SDH", "EDH")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"classes": ["IPH", "IVH"]}, "gives 1 channels for IPH, IVH"),
        ({"architecture": "blocks:Conv"}, "do not fit blocks:Conv"),
    ],
)
def test_a_network_that_is_not_what_its_manifest_says_is_refused(
    bundle: Path, values: dict[str, Any], complaint: str
) -> None:
    change(bundle, **values)
    with pytest.raises(BundleError, match=complaint):
        verify_bundle(bundle)


def test_a_network_that_needs_other_windows_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(shipped_bundles() / "hematoma", tmp_path / "hematoma"))
    change(bundle, windows=[[0, 80]])
    with pytest.raises(BundleError, match="does not read what it says"):
        verify_bundle(bundle)


def test_weights_that_are_no_numbers_are_refused(bundle: Path) -> None:
    weights = {name: value * float("nan") for name, value in load_file(bundle / "weights.safetensors").items()}
    save_file(weights, bundle / "weights.safetensors")
    change(bundle, weights_sha256=hashlib.sha256((bundle / "weights.safetensors").read_bytes()).hexdigest())
    with pytest.raises(BundleError, match="not all numbers"):
        verify_bundle(bundle)


@pytest.mark.parametrize("classes", [[], ["IPH", "IPH"], ["IPH", "hematoma"], ["tumor"]])
def test_classes_that_results_cannot_tell_are_refused(bundle: Path, classes: list[str]) -> None:
    change(bundle, classes=classes)
    with pytest.raises(BundleError, match=r"classes: .*needs hematoma alone, or some of IPH, IVH"):
        verify_bundle(bundle)


def test_a_configured_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nowhere is not a folder"):
        find_bundles([tmp_path / "nowhere"])


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"colour": "red"}'])
def test_a_configured_bundle_that_is_not_understood_is_told_by_its_key(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(ConfigError, match=r"^inference\.hematoma_bundle: .*manifest\.json is not understood: \w"):
        load_pipelines({"hematoma": NAME}, bundle.parent, "cpu")


def test_a_missing_bundles_dir_is_told_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^inference\.bundles_dir: no such folder"):
        load_pipelines({"hematoma": NAME}, tmp_path / "nowhere", "cpu")


def test_one_changed_byte_of_the_weights_is_noticed(bundle: Path) -> None:
    weights = bytearray((bundle / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(weights)
    with pytest.raises(BundleError, match="was altered"):
        load_bundle(bundle, "cpu", SegmenterManifest)


@pytest.mark.parametrize("file", ["manifest.json", "weights.safetensors", "CARD.md"])
def test_a_missing_file_is_named(bundle: Path, file: str) -> None:
    (bundle / file).unlink()
    with pytest.raises(BundleError, match=file):
        verify_bundle(bundle)


def test_an_empty_card_is_no_card(bundle: Path) -> None:
    (bundle / "CARD.md").write_text("\n")
    with pytest.raises(BundleError, match=r"CARD\.md is empty"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"kind": None}, "kind"),
        ({"kind": "oracle"}, "oracle"),
        ({"version": None}, "version"),
        ({"grid_spacing_mm": [2.5, 1.0, 0]}, "grid_spacing_mm.2"),
        ({"thresholds": {"found": 0.5, "strict": 0.4, "lenient": 0.2}}, "lenient <= found <= strict"),
        ({"windows": [[80, 0]]}, "windows.0"),
        ({"architecture": "../os:system"}, "architecture"),
        ({"family": "oracle"}, "family"),
        ({"name": "other-name"}, "names its bundle other-name"),
    ],
)
def test_a_manifest_that_is_not_understood_says_where(bundle: Path, values: dict[str, Any], named: str) -> None:
    change(bundle, **values)
    with pytest.raises(BundleError, match=named):
        verify_bundle(bundle)


@pytest.mark.parametrize("architecture", ["no_such_module:Net", "hematoma_baseline:Net", "hematoma_baseline:RULES"])
def test_an_architecture_that_this_version_lacks_is_named(bundle: Path, architecture: str) -> None:
    change(bundle, architecture=architecture)
    with pytest.raises(BundleError, match=architecture):
        verify_bundle(bundle)


def test_weights_of_another_architecture_are_refused(bundle: Path) -> None:
    save_file({"conv.weight": torch.zeros(1)}, bundle / "weights.safetensors")
    change(bundle, weights_sha256=hashlib.sha256((bundle / "weights.safetensors").read_bytes()).hexdigest())
    with pytest.raises(BundleError, match="do not fit"):
        load_bundle(bundle, "cpu", SegmenterManifest)


SMALL = {
    "shape": [32, 32, 32],
    "blocks": [1, 1, 1, 1],
    "widths": [4, 8, 8, 8],
    "stem_stride": [1, 2, 2],
    "says_ml": True,
}


def test_a_network_of_another_size_is_built_as_its_manifest_says(tmp_path: Path) -> None:
    network = VolumeSurvival(VolumeSurvivalConfig(shape=(32, 32, 32), blocks=(1, 1, 1, 1), widths=(4, 8, 8, 8)))
    folder = forecaster_bundle(tmp_path / "small", "volume-survival", network=network, configuration=SMALL)
    assert load_bundle(folder, "cpu", VolumeSurvivalManifest).network.config == VolumeSurvivalConfig(
        shape=(32, 32, 32), blocks=(1, 1, 1, 1), widths=(4, 8, 8, 8), stem_stride=(1, 2, 2), says_ml=True
    )
    with pytest.raises(BundleError, match="do not fit volume_survival:VolumeSurvival"):
        verify_bundle(forecaster_bundle(tmp_path / "usual", "volume-survival", network=network))


@pytest.mark.parametrize(
    ("configuration", "named"),
    [
        (SMALL | {"colour": "red"}, "volume_survival:VolumeSurvival does not have colour"),
        (SMALL | {"widths": "wide"}, "the configuration of other is not understood: widths"),
        ({"shape": [32, 32]}, "the configuration of other is not understood: shape"),
    ],
)
def test_a_configuration_that_a_network_does_not_have_is_told(
    tmp_path: Path, configuration: dict[str, Any], named: str
) -> None:
    with pytest.raises(BundleError, match=named):
        verify_bundle(forecaster_bundle(tmp_path / "other", "volume-survival", configuration=configuration))


def test_a_network_without_a_configuration_has_none(bundle: Path) -> None:
    change(bundle, configuration={"widths": [1]})
    with pytest.raises(BundleError, match=r"hematoma_baseline:.* does not have widths"):
        verify_bundle(bundle)


def test_a_loaded_bundle_runs_the_numbers_of_its_weights_file_and_names_them() -> None:
    bundle = load_bundle(shipped_bundles() / NAME, "cpu", SegmenterManifest)
    assert not bundle.network.training
    assert bundle.identity.weights_sha256 == bundle.manifest.weights_sha256
    assert bundle.identity.intended_use == "Research use only - not for clinical use"
    assert bundle.identity.trained_on == "nothing"


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_bundle_of_each_kind_verifies_by_its_own_interface(kind: str, tmp_path: Path) -> None:
    assert verify_bundle(forecaster_bundle(tmp_path / "good", kind)).kind == kind
    other = next(name for name in NETWORKS if name != kind)
    folder = forecaster_bundle(tmp_path / "other", other)
    manifest = json.loads((folder / "manifest.json").read_text())
    errors = NETWORKS[kind][1] | {key: None for key in NETWORKS[other][1] if key not in NETWORKS[kind][1]}
    changed = {key: value for key, value in (manifest | errors).items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(changed | {"kind": kind}))
    with pytest.raises(BundleError, match="does not read what it says"):
        verify_bundle(folder)


def test_a_bundle_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not read what it says"):
        verify_bundle(forecaster_bundle(tmp_path / "odd", "expansion", shape=[16, 33, 32]))
    with pytest.raises(BundleError, match="size_error_cm"):
        verify_bundle(forecaster_bundle(tmp_path / "turned", "expansion", size_error_cm=[0.5, -0.5]))


def test_a_bundle_of_another_kind_than_asked_for_is_refused(tmp_path: Path) -> None:
    folder = forecaster_bundle(tmp_path / "expansion", "expansion")
    with pytest.raises(BundleError, match="expansion is a bundle of the kind expansion, which is not asked for here"):
        load_bundle(folder, "cpu", SegmenterManifest)
    with pytest.raises(ConfigError, match=r"^inference\.hematoma_bundle: expansion is a bundle of the kind expansion"):
        load_pipelines({"hematoma": "expansion"}, tmp_path, "cpu")


@pytest.mark.parametrize(
    ("use", "runs", "refused", "why"),
    [
        ("after_thrombectomy", "followup_after_thrombectomy", "followup", "measured after thrombectomy alone"),
        ("spontaneous", "followup", "followup_after_thrombectomy", "measured on spontaneous hemorrhage alone"),
    ],
)
def test_a_followup_bundle_runs_the_pipeline_that_it_was_measured_for_and_no_other(
    tmp_path: Path, use: str, runs: str, refused: str, why: str
) -> None:
    nothing = dict.fromkeys(("after_thrombectomy", "spontaneous"))
    forecaster_bundle(tmp_path / "ours", "followup", **(nothing | {use: CALIBRATION}))
    assert load_pipelines({runs: "ours"}, tmp_path, "cpu").keys() == {runs}
    assert load_for(runs, tmp_path / "ours", "cpu").identity.name == "ours"
    with pytest.raises(ConfigError, match=rf"^inference\.{refused}_bundle: ours was {why}, and cannot run {refused}$"):
        load_pipelines({refused: "ours"}, tmp_path, "cpu")
    with pytest.raises(BundleError, match=why):
        load_for(refused, tmp_path / "ours", "cpu")
    with pytest.raises(BundleError, match="needs after_thrombectomy or spontaneous"):
        verify_bundle(forecaster_bundle(tmp_path / "neither", "followup", **nothing))
