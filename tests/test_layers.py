"""Who may import whom: checked over every import statement, those inside functions included."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVERYWHERE = {"errors"}
PARTS = {"dicom", "storage", "inference", "results", "imaging"}
COMMANDS = {"terminal", "cli_look", "cli_judgements", "cli_jobs", "cli_destinations", "cli_keeping"}
MAY_IMPORT = {
    "domain": {"domain"},
    "imaging": {"imaging", "domain"},
    "inference": {"inference", "imaging", "domain", "models", "logs"},
    "results": {"results", "imaging", "domain", "__init__"},
    "dicom": {"dicom", "domain", "secret_files", "__init__"},
    "storage": {"storage", "domain", "faults"},
    "stages": {"stages", "domain", "metrics", "faults", *PARTS},
    "web": {"web", "domain", "metrics", "storage", "imaging", "results", "secret_files"},
    "errors": set(),
    "faults": set(),
    "secret_files": set(),
    "user": set(),
    "logs": set(),
    "metrics": {"domain", "__init__"},
    "config": {"domain"},
    "service": set(),
    "phantom": {"domain"},
    "simulated_patient": {"phantom"},
    "peers": {"config", "dicom"},
    "node": {"config", "metrics", "peers", "stages", "web", "domain", "__init__", *PARTS},
    "terminal": {"config", "storage", "domain"},
    "doctor": {"doctor", "config", "peers", "stages", "user", "web", "domain", *PARTS},
    "conformance": {"config", "dicom", "results", "domain", "__init__"},
    "status": {"config", "web", "storage", "inference", "__init__"},
    "rehearsal": {"config", "node", "phantom", "domain", "dicom", "storage"},
    "demo": {"rehearsal", "simulated_patient", "domain", "dicom", "results"},
    "selftest": {"config", "rehearsal", "simulated_patient", "phantom", "doctor", "stages", "domain", *PARTS},
    "cli": {"config", "faults", "logs", "service", "node", "demo", "stages", "web", "domain", "__init__", *PARTS}
    | COMMANDS,
    "cli_destinations": {"config", "terminal", "user", "storage", "web"},
    "cli_jobs": {"terminal", "user", "storage", "web", "domain"},
    "cli_judgements": {"terminal", "storage", "domain"},
    "cli_keeping": {"logs", "terminal", "user", "storage", "domain"},
    "cli_look": {"config", "conformance", "doctor", "selftest", "status", "terminal", "stages", "storage"},
    "__init__": set(),
    "__main__": {"cli"},
    "models": {"models"},
}
MODELS_MAY_IMPORT_PACKAGES = {"torch", "monai", "SimpleITK", "numpy"}
ONLY_BUNDLE_IMPORTS_MODELS = Path("ichnode/inference/bundle.py")
TRAINING_MAY_IMPORT = ("models", "training", "ichnode.imaging", "ichnode.domain", "ichnode.errors")
TRAINED = [
    ["training", name]
    for name in ("fit", "segmentation", "patients", "followup", "expansion", "prognosis", "volume_survival", "evaluate")
]
USE_BUNDLES = ("fit", "segmentation", "patients", "followup", "expansion", "prognosis", "volume_survival", "evaluate")
EXPORT_AND_EVALUATE = {
    f"ichnode.inference.{name}" for name in ("bundle", "manifest", "predictor", "quantify", "volume_survival")
}


def unit_of(path: Path) -> str:
    """The layer a file belongs to: the folder, or the file itself at the top of ichnode."""
    parts = path.relative_to(ROOT).parts
    return "models" if parts[0] == "models" else Path(parts[1]).stem


def imported_modules(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit_of_module(module: str) -> str | None:
    """The layer that a module name stands for; None for other packages."""
    parts = module.split(".")
    if parts[0] == "models":
        return "models"
    if parts[0] != "ichnode":
        return None
    return (
        parts[1] if len(parts) > 1 and (ROOT / "ichnode" / parts[1]).with_suffix("").name in MAY_IMPORT else "__init__"
    )


def sources():
    files = [*(ROOT / "ichnode").rglob("*.py"), *(ROOT / "models").rglob("*.py")]
    return sorted(file for file in files if "migrations" not in file.parts)


def test_every_folder_and_top_level_file_is_listed():
    assert {unit_of(file) for file in sources()} <= set(MAY_IMPORT)


def test_nobody_imports_what_its_layer_may_not():
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in sources()
        for module in imported_modules(file)
        if (unit := unit_of_module(module)) and unit not in MAY_IMPORT[unit_of(file)] | EVERYWHERE
    ]
    assert wrong == []


def test_only_the_bundle_loader_imports_models():
    importers = {
        file.relative_to(ROOT)
        for file in sources()
        if unit_of(file) != "models" and any(m.split(".")[0] == "models" for m in imported_modules(file))
    }
    assert importers <= {ONLY_BUNDLE_IMPORTS_MODELS}


def test_networks_need_torch_and_little_else():
    packages = {
        module.split(".")[0]
        for file in (ROOT / "models").rglob("*.py")
        for module in imported_modules(file)
        if module.split(".")[0] != "models"
    }
    assert packages - set(sys.stdlib_module_names) <= MODELS_MAY_IMPORT_PACKAGES


def test_the_domain_is_pure():
    packages = {
        module.split(".")[0] for file in sources() if unit_of(file) == "domain" for module in imported_modules(file)
    }
    assert packages - set(sys.stdlib_module_names) == {"ichnode"}


def test_the_daemon_and_its_networks_never_import_training():
    assert not [f for f in sources() for m in imported_modules(f) if m.split(".")[0] == "training"]


def test_training_shares_images_and_domain_with_the_daemon_and_its_export_the_bundles():
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in (ROOT / "training").rglob("*.py")
        for module in imported_modules(file)
        if module.split(".")[0] in ("ichnode", "models")
        and module != "ichnode"  # the package itself says no more than its version and how OpenMP waits
        and not any(module == name or module.startswith(f"{name}.") for name in TRAINING_MAY_IMPORT)
        and not (file.parent.name in USE_BUNDLES and module.rsplit(".", 1)[0] in EXPORT_AND_EVALUATE)
    ]
    assert wrong == []


def test_the_node_itself_loads_no_networks():
    loaded = "import sys, ichnode.cli, ichnode.node; print(*{'torch', 'models'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert said.stdout == "\n"


def test_the_simulator_knows_nothing_of_what_is_trained_on_it():
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in (ROOT / "training" / "simulate").rglob("*.py")
        for module in imported_modules(file)
        if module.startswith("models") or module.split(".")[:2] in TRAINED
    ]
    assert wrong == []
