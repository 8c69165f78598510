"""The configuration is read once, refuses what it does not know, and says where."""

from pathlib import Path

import pytest

from ichnode.config import Settings, example, load_settings
from ichnode.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    def load(toml="", **environment):
        file = tmp_path / "ichnode.toml"
        file.write_text(toml)
        return load_settings(file, environment)

    return load


def test_the_example_shows_exactly_the_defaults(load):
    assert load(example()) == Settings()


def test_without_a_file_the_defaults_hold():
    settings = load_settings(None, {})
    assert (settings.node.ae_title, settings.node.port, settings.web.port) == ("ICHNODE", 11112, 8042)
    assert settings.database_url == "sqlite:///ichnode-data/ichnode.db"
    assert [rule.name for rule in settings.decision_rules] == ["head-ct"]


def test_the_default_rule_sends_everywhere(load):
    settings = load('[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104')
    assert settings.decision_rules[0].send_to == ("pacs",)


def test_every_key_can_come_from_the_environment_and_wins(load):
    settings = load(
        '[node]\nae_title = "FILE"\nport = 1\n[[destinations]]\nname = "pacs"\nae_title = "A"\nhost = "a"\nport = 104',
        ICHNODE_NODE__AE_TITLE="ENV",
        ICHNODE_DESTINATIONS__0__HOST="10.0.0.5",
        ICHNODE_DESTINATIONS__1='{name = "b", ae_title = "B", host = "b", port = 105}',
        ICHNODE_COMPLETENESS__QUIET_S="2.5",
        ICHNODE_DEVELOPER="has no section and is none of ours",
    )
    assert (settings.node.ae_title, settings.node.port) == ("ENV", 1)
    assert [(d.name, d.host) for d in settings.destinations] == [("pacs", "10.0.0.5"), ("b", "b")]
    assert settings.completeness.quiet_s == 2.5


def test_list_indices_in_the_environment_count_as_numbers(load):
    hosts = {f"ICHNODE_SOURCES__{i}__AE_TITLE": f"CT{i}" for i in range(11)}
    assert [source.ae_title for source in load(**hosts).sources] == [f"CT{i}" for i in range(11)]


def test_braces_of_the_data_dir_are_no_placeholder(load):
    assert load('[node]\ndata_dir = "a{b}"').database_url == "sqlite:///a{b}/ichnode.db"


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[node]\nprot = 1", "node.prot: unknown key: perhaps port is meant"),
        ("[nodes]\nport = 1", "nodes: unknown key: perhaps [node] is meant"),
        ('[[rule]]\nname = "r"', "rule: unknown key: perhaps [[rules]] is meant"),
        ('[rules]\nname = "r"', "rules: is a list of tables: write [[rules]], with two brackets"),
        ('[[rules]]\nname = "r"\nmach = {}', "rules.0.mach: unknown key: perhaps match is meant"),
        ('[audit]\nzzz = "r"', "audit.zzz: unknown key: known are host, port, ca_file, cert_file, key_file"),
        ('[node]\nport = "x"', "node.port: Input should be a valid integer"),
        ("[node]\nport = 70000", "node.port: Input should be less than or equal to 65535"),
        ('[node]\nae_title = "THIS_IS_TOO_LONG_"', "node.ae_title: an AE title has 1 to 16"),
        ('[[sources]]\nae_title = "A"\nhost = "10.0.0.0/99"', "sources.0.host: '10.0.0.0/99' does not appear"),
        ('[[destinations]]\nname = "a"', "destinations.0.ae_title: Field required"),
        ('[[destinations]]\nname = "a"\nurl = "ftp://h"', "destinations.0.url: is no http or https URL"),
        ('[[destinations]]\nname = "a"\nurl = "https://u:p@h"', "destinations.0.url: is the DICOMweb service alone"),
        (
            '[[destinations]]\nname = "a"\nurl = "https://h"\ncommitment = true',
            "destinations.0.commitment: unknown key: known are name, connect_timeout_s",
        ),
        (
            '[[destinations]]\nname = "a"\nurl = "https://h"\nusername = "u"',
            "destinations.0: username and password_file belong together",
        ),
        (
            '[[destinations]]\nname = "a"\nurl = "https://h"\ntoken = "t"\ntoken_file = "f"',
            "destinations.0: has token and token_file: one is enough",
        ),
        (
            '[[destinations]]\nname = "a"\nurl = "http://h"\ntoken = "t"',
            "destinations.0: token would be sent without TLS: use https",
        ),
        ('[[rules]]\nname = "r"\nsend_to = ["x"]', "rules.0.send_to: no destination is named 'x'"),
        ('[[rules]]\nname = "r"\nrun = ["magic"]', "rules.0.run.0: Input should be 'hematoma'"),
        ('[[rules]]\nname = "r"\nmatch = { Modalty = "CT" }', "rules.0.match.Modalty: is neither a DICOM keyword"),
        ('[[rules]]\nname = "r"\n[[rules]]\nname = "r"', "rules.name: 'r' stands twice"),
        (
            '[[rules]]\nname = "r"\nrun = []',
            'rules.0.run: lacks hematoma, which the others begin from: write run = ["hematoma"]',
        ),
        (
            '[[rules]]\nname = "r"\nrun = ["expansion"]',
            'rules.0.run: lacks hematoma, which the others begin from: write run = ["hematoma", "expansion"]',
        ),
        (
            '[[rules]]\nname = "r"\nmatch = { thickness = { range = [10, 1] } }',
            "rules.0.match.thickness: range [10, 1] holds nothing: write thickness = { range = [1, 10] }",
        ),
        (
            '[[rules]]\nname = "r"\nmatch = { thickness = { range = 5 } }',
            "rules.0.match.thickness: range wants two numbers: write thickness = { range = [LOW, HIGH] }",
        ),
        (
            '[[rules]]\nname = "r"\nmatch = { Modality = "ct" }',
            "rules.0.match.Modality: 'ct' is in capitals: write \"CT\"",
        ),
        (
            '[[rules]]\nname = "r"\nmatch = { Modality = { not = { in = ["KM", "Ct"] } } }',
            "rules.0.match.Modality: 'Ct' is in capitals: write \"CT\"",
        ),
        (
            '[database]\nurl = "sqlite:///{foo}/x.db"',
            "database.url: unknown placeholder {foo}; only {data_dir} is known",
        ),
        (
            '[database]\nurl = "mysql://x"',
            "database.url: only sqlite:/// and postgresql+psycopg:// are supported",
        ),
        ("[node", "not TOML"),
    ],
)
def test_a_problem_is_told_as_section_key_and_reason(load, toml, problem):
    with pytest.raises(ConfigError) as raised:
        load(toml)
    assert problem in str(raised.value)


def test_a_destination_is_an_application_entity_or_a_dicomweb_service(load):
    dicom, web = load(
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "h"\nport = 104\ncommitment = true\n'
        '[[destinations]]\nname = "cloud"\nurl = "https://h/dicom-web/"\ntoken = "secret"'
    ).destinations
    assert (dicom.commitment, dicom.commitment_timeout_s) == (True, 600)
    assert web.url == "https://h/dicom-web"
    assert "secret" not in repr(web)


def test_every_problem_is_told_at_once(load):
    with pytest.raises(ConfigError) as raised:
        load('[node]\nport = "x"\nprot = 1\n[web]\nport = -1')
    assert [p.split(":")[0] for p in raised.value.problems] == ["node.port", "node.prot", "web.port"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "none.toml", {})


def test_what_shapes_results_changes_the_results_hash_and_nothing_else_does(load):
    plain = Settings().results_sha256
    assert load('[results]\nfollowup_sop = "ct"').results_sha256 != plain
    assert load("[node]\nport = 1").results_sha256 == plain
    assert load("[results]\nfollowup_warning = true").results_sha256 != plain


def test_results_of_before_an_upgrade_keep_their_uids():
    """A key that is new, or another default, makes every known study be analysed again: is that wanted?"""
    assert Settings().results_sha256.startswith("03298c12f43c")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().node.port = 1
    assert Settings().node.data_dir == Path("ichnode-data")
