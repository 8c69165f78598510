"""Settings: the whole configuration, read once from TOML and the environment, frozen; unknown keys are refused.

Every key can also be set as ICHNODE_SECTION__KEY (lists by index: ICHNODE_DESTINATIONS__0__HOST); the environment
wins. Without a file the defaults below hold. Parts of the node receive plain values, never Settings.
"""

import hashlib
import ipaddress
import json
import os
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydicom.datadict import tag_for_keyword

from ichnode.domain.identity import is_ae_title
from ichnode.domain.judgement import NOTE_ROLE
from ichnode.domain.rules import Rule, parse_match
from ichnode.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
ResultRole = Literal[
    "segmentation",
    "measurement_report",
    "outline_report",
    "summary_page",
    "predicted_segmentation",
    "predicted_series",
    "prediction_report",
    "followup_saliency",
    "expansion_saliency",
    "prognosis_saliency",
    "volume_survival_saliency",
]
DATA_DIR = "{data_dir}"  # the one placeholder of database.url


def _is_loopback(host: str) -> bool:
    """Whether an address is this machine for itself alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


def _ae_title(value: str) -> str:
    if not is_ae_title(value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return value


Role = Literal["receive", "analyse", "deliver"]


class Reserves(TypedDict):
    """Disk space that stays free, as `storage.files.FileStore` takes it."""

    reserve_bytes: int
    soft_reserve_bytes: int


class Node(_Section):
    """Who we are on the DICOM network, and where everything is kept."""

    ae_title: str = "ICHNODE"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,63}$")] | None = None  # None: the name of the machine
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = get_args(Role)
    host: str = "0.0.0.0"
    port: Port = 11112
    data_dir: Path = Path("ichnode-data")
    lenient: bool = False  # store data sets that do not parse exactly, marked, instead of refusing them
    max_associations: Annotated[int, Field(ge=1)] = 100  # beside a few that only C-ECHO gets
    max_associations_per_peer: Annotated[int, Field(ge=1)] = 80  # of one address
    max_object_mb: Annotated[int, Field(ge=1)] = 2048  # of one data set; a longer one ends its association
    reserve_mb: Annotated[int, Field(ge=0)] = 500  # below this much free space (or 5 % of the disk) C-STORE gets 0xA700
    soft_reserve_mb: Annotated[int, Field(ge=0)] = 1000  # below this (or 10 %) new associations are rejected

    _check_ae_title = field_validator("ae_title")(_ae_title)

    @property
    def reserves(self) -> Reserves:
        """Both of them in bytes."""
        return Reserves(reserve_bytes=self.reserve_mb * 1_000_000, soft_reserve_bytes=self.soft_reserve_mb * 1_000_000)


class Tls(_Section):
    """TLS 1.2 and 1.3 for all associations that come in, and for those that go to destinations with `tls = true`.

    PEM files: what we show, and whom we trust. Without them associations are not encrypted.
    """

    certificate: Path | None = None
    key: Path | None = None
    trusted: Path | None = None
    peer_certificate: bool = True  # false: senders need not show one
    check_host_name: bool = True  # the certificate of a destination must be for its `host`

    @model_validator(mode="after")
    def _check_files(self) -> "Tls":
        if len({file is None for file in (self.certificate, self.key, self.trusted)}) > 1:
            raise ValueError("certificate, key and trusted are needed together")
        return self


class Source(_Section):
    """Who may send: a calling AE title, optionally only from one address or network."""

    ae_title: str
    host: str | None = None

    _check_ae_title = field_validator("ae_title")(_ae_title)

    @field_validator("host")
    @classmethod
    def _check_host(cls, value: str | None) -> str | None:
        if value is not None:
            ipaddress.ip_network(value, strict=False)
        return value


class _Destination(_Section):
    """What every destination has."""

    name: Annotated[str, Field(min_length=1)]
    connect_timeout_s: Seconds = 10
    response_timeout_s: Seconds = 60
    fallback: bool = True  # where it refuses a SOP class, the summary page is enough


class DicomDestination(_Destination):
    """Where results go by C-STORE."""

    ae_title: str
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: bool = False  # with the files of [tls]
    commitment: bool = False  # ask it to commit itself to keep what it took, and call nothing delivered before
    commitment_wait_s: Annotated[float, Field(ge=0)] = 5  # for a report on the association of the request
    commitment_timeout_s: Seconds = 600  # for a report at all; then it is asked again

    _check_ae_title = field_validator("ae_title")(_ae_title)

    @property
    def where(self) -> str:
        """As people write it."""
        return f"{self.ae_title}@{self.host}:{self.port}{' by TLS' if self.tls else ''}"


class WebDestination(_Destination):
    """Where results go by STOW-RS. Credentials are only sent over TLS, or to this machine itself."""

    url: str
    token: SecretStr | None = None
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None

    @property
    def where(self) -> str:
        """As people write it."""
        return self.url

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is no http or https URL")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("is the DICOMweb service alone: no user, query or fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_credentials(self) -> "WebDestination":
        given = [key for key in ("token", "token_file", "username") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}: one is enough")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        parts = urlsplit(self.url)
        if given and parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            raise ValueError(f"{given[0]} would be sent without TLS: use https")
        return self


_BY_C_STORE, _BY_STOW = "<C-STORE>", "<STOW-RS>"  # pydantic puts these into the place of a problem


def _kind_of_destination(table: Any) -> str:
    web = "url" in table if isinstance(table, dict) else isinstance(table, WebDestination)
    return _BY_STOW if web else _BY_C_STORE


Destination = Annotated[
    Annotated[DicomDestination, Tag(_BY_C_STORE)] | Annotated[WebDestination, Tag(_BY_STOW)],
    Discriminator(_kind_of_destination),
]


class Completeness(_Section):
    """When a study counts as complete."""

    quiet_s: Annotated[float, Field(ge=0)] = 10
    max_wait_s: Seconds = 600


Pipeline = Literal["hematoma", "expansion", "prognosis", "volume_survival", "followup", "followup_after_thrombectomy"]


class RuleSettings(_Section):
    """One [[rules]] table."""

    name: Annotated[str, Field(min_length=1)]
    match: dict[str, Any] = {}
    run: tuple[Pipeline, ...] = ("hematoma", "expansion", "prognosis", "volume_survival")
    send_to: tuple[str, ...] | None = None  # None: every destination
    priority: Literal["stat", "routine"] = "routine"
    report_ignored: bool = False
    withdraw_rejected: bool = False
    prefer_thickness_mm: Annotated[float, Field(gt=0)] = 5.0

    @field_validator("match")
    @classmethod
    def _check_match(cls, value: dict[str, Any]) -> dict[str, Any]:
        parse_match(value, _is_keyword)
        return value

    @field_validator("run")
    @classmethod
    def _check_run(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "hematoma" not in value:
            given = ", ".join(f'"{pipeline}"' for pipeline in ("hematoma", *value))
            raise ValueError(f"lacks hematoma, which the others begin from: write run = [{given}]")
        if {"followup", "followup_after_thrombectomy"} <= set(value):
            raise ValueError("followup and followup_after_thrombectomy are for different patients")
        return value

    def as_rule(self, destinations: tuple[str, ...]) -> Rule:
        """The rule that the domain decides with; `destinations` are all that there are."""
        send_to = destinations if self.send_to is None else self.send_to
        return Rule(**(self.model_dump() | {"match": parse_match(self.match, _is_keyword), "send_to": send_to}))


class Database(_Section):
    """Where the ledger is."""

    url: str = "sqlite:///{data_dir}/ichnode.db"

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("only sqlite:/// and postgresql+psycopg:// are supported")
        for placeholder in re.findall(r"{[^{}]*}", value):
            if placeholder != DATA_DIR:
                raise ValueError(f"unknown placeholder {placeholder}; only {DATA_DIR} is known")
        return value


class Web(_Section):
    """The HTTP endpoint: pages, metrics, health, jobs."""

    host: str = "127.0.0.1"
    port: Port = 8042
    token_file: Path | None = None  # a bearer token that readers must show ...
    username: str | None = None  # ... or this name, with a password
    password_file: Path | None = None
    tls: bool = False  # with the files of [tls]
    behind_proxy: bool = False  # somebody else speaks TLS with the readers
    patient: Literal["masked", "shown"] = "masked"  # whether pages name patients
    viewer_url: str | None = None  # a study in the site's own viewer, with {StudyInstanceUID} in it

    @field_validator("viewer_url")
    @classmethod
    def _check_viewer_url(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or "{StudyInstanceUID}" not in value):
            raise ValueError("is no http or https URL with {StudyInstanceUID} in it")
        return value

    @model_validator(mode="after")
    def _check_readers(self) -> "Web":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if _is_loopback(self.host) and not self.behind_proxy:
            return self
        if self.token_file is None and self.password_file is None:
            raise ValueError(f"{self.host} is reached from elsewhere: set token_file, or username and password_file")
        if not self.tls and not self.behind_proxy:
            raise ValueError(f"{self.host} is reached from elsewhere: set tls = true, or behind_proxy = true")
        return self


class Inference(_Section):
    """Where and how long models run."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda:\d+)$")] = "auto"
    deadline_s: Seconds = 120
    routine_waits_at_most_s: Seconds = 900  # then it takes turns with STAT
    memory_limit_mb: Annotated[int, Field(ge=1024)] | None = None
    hematoma_bundle: str = "hematoma"
    expansion_bundle: str = "expansion"  # these for rules that run them
    prognosis_bundle: str = "prognosis"
    volume_survival_bundle: str = "volume-survival"
    followup_bundle: str = "followup"  # spontaneous hemorrhage
    followup_after_thrombectomy_bundle: str = "followup"
    bundles_dir: Path | None = None  # its bundles win over those of the same name that come with ichnode


class Clinical(_Section):
    """What is known of patients and stands in no header."""

    file: Path | None = None  # CSV, read anew for each analysis


class Results(_Section):
    """Which objects are written, and how."""

    write: tuple[ResultRole, ...] = get_args(ResultRole)
    segmentation_series_number: int = 9101
    predicted_segmentation_series_number: int = 9102
    measurement_report_series_number: int = 9103
    outline_report_series_number: int = 9104
    summary_page_series_number: int = 9105
    predicted_series_series_number: int = 9106
    prediction_report_series_number: int = 9107
    followup_saliency_series_number: int = 9108
    expansion_saliency_series_number: int = 9109
    prognosis_saliency_series_number: int = 9110
    volume_survival_saliency_series_number: int = 9111
    rejection_note_series_number: int = 9112
    followup_sop: Literal["sc", "ct"] = "sc"
    followup_warning: bool = False
    report_sop: Literal["comprehensive_3d", "comprehensive", "enhanced"] = "comprehensive_3d"
    device_serial_number: str = "ichnode-1"


class Delivery(_Section):
    """How often a destination that does not answer is tried, and when a refused SOP class is offered again."""

    first_retry_s: Seconds = 5
    max_retry_s: Seconds = 600
    max_attempts: Annotated[int, Field(ge=1)] = 1000
    offer_again_days: Annotated[float, Field(ge=0)] = 7


class Retention(_Section):
    """When finished studies are removed; without values, never."""

    keep_days: Annotated[float, Field(gt=0)] | None = None  # after the last instance of a study came in
    free_gb: Annotated[float, Field(gt=0)] | None = None  # with less than this free, the oldest ...
    at_least_hours: Annotated[float, Field(ge=0)] = 24  # ... but nothing younger than this


class Audit(_Section):
    """Where audit messages are sent, by syslog over TLS; the trail in the database is kept in any event."""

    host: Annotated[str, Field(min_length=1)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @field_validator("ca_file", "cert_file", "key_file")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value


class Settings(_Section):
    """The whole configuration."""

    node: Node = Node()
    tls: Tls = Tls()
    sources: tuple[Source, ...] = ()
    destinations: tuple[Destination, ...] = ()
    completeness: Completeness = Completeness()
    rules: tuple[RuleSettings, ...] = ()
    database: Database = Database()
    web: Web = Web()
    inference: Inference = Inference()
    clinical: Clinical = Clinical()
    results: Results = Results()
    delivery: Delivery = Delivery()
    retention: Retention = Retention()
    audit: Audit = Audit()

    @model_validator(mode="after")
    def _check_names(self) -> "Settings":
        names = [d.name for d in self.destinations]
        problems = [f"destinations.name: {n!r} stands twice" for n in sorted(set(names)) if names.count(n) > 1]
        rule_names = [r.name for r in self.rules]
        problems += [f"rules.name: {n!r} stands twice" for n in sorted(set(rule_names)) if rule_names.count(n) > 1]
        for i, rule in enumerate(self.rules):
            problems += [
                f"rules.{i}.send_to: no destination is named {n!r}" for n in rule.send_to or () if n not in names
            ]
        if self.tls.certificate is None:
            problems += ["web.tls: needs [tls]"] * self.web.tls
            by_tls = (i for i, d in enumerate(self.destinations) if isinstance(d, DicomDestination) and d.tls)
            problems += [f"destinations.{i}.tls: needs [tls]" for i in by_tls]
        if not self.shared and set(self.node.roles) != set(get_args(Role)):
            problems.append("node.roles: a node without all of them needs database.url on PostgreSQL")
        if problems:
            raise ConfigError(tuple(problems))
        return self

    @property
    def shared(self) -> bool:
        """Whether several nodes may share the ledger."""
        return self.database.url.startswith("postgresql")

    @property
    def node_name(self) -> str:
        """Of this node among those that share the ledger."""
        return self.node.name or re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:63] or "ichnode"

    @property
    def database_url(self) -> str:
        """The URL with `data_dir` filled in."""
        return self.database.url.replace(DATA_DIR, str(self.node.data_dir))

    @property
    def stores(self) -> tuple[Path, Path]:
        """The folders of received instances and of results."""
        data_dir = self.node.data_dir.absolute()
        return data_dir / "instances", data_dir / "results"

    @property
    def decision_rules(self) -> tuple[Rule, ...]:
        """The configured rules; without any, one that analyses every non-contrast head CT and sends everywhere."""
        destinations = tuple(destination.name for destination in self.destinations)
        return tuple(rule.as_rule(destinations) for rule in self.rules or (RuleSettings(name="head-ct"),))

    @property
    def pipeline_bundles(self) -> dict[str, str]:
        """The name of the bundle of each pipeline that any rule runs."""
        pipelines = dict.fromkeys(pipeline for rule in self.decision_rules for pipeline in rule.run)
        return {pipeline: getattr(self.inference, f"{pipeline}_bundle") for pipeline in pipelines}

    def unreadable_files(self) -> list[str]:
        """What is wrong with the files that are named: certificates, keys, tokens, passwords."""
        sections = {"tls": self.tls, "web": self.web} | {
            f"destinations.{i}": d for i, d in enumerate(self.destinations)
        }
        problems = []
        for name, section in sections.items():
            for key in ("certificate", "key", "trusted", "token_file", "password_file", "ca"):
                try:
                    if (file := getattr(section, key, None)) is not None:
                        file.read_bytes()
                except OSError as problem:
                    problems.append(f"{name}.{key}: {file}: {problem.strerror}")
        return problems

    @property
    def withdraws(self) -> bool:
        """Whether any rule withdraws what a person rejects."""
        return any(rule.withdraw_rejected for rule in self.rules)

    @property
    def sent_roles(self) -> tuple[str, ...]:
        """The roles of the objects that destinations may be sent."""
        return (*self.results.write, *([NOTE_ROLE] if self.withdraws else []))

    @property
    def certificate_files(self) -> dict[str, Path]:
        """Every file with certificates that is used, by its key."""
        files = {"tls.certificate": self.tls.certificate, "tls.trusted": self.tls.trusted}
        if self.audit.host:
            files |= {"audit.cert_file": self.audit.cert_file, "audit.ca_file": self.audit.ca_file}
        files |= {f"{d.name}.ca": d.ca for d in self.destinations if isinstance(d, WebDestination)}
        return {key: file for key, file in files.items() if file is not None}

    @property
    def sha256(self) -> str:
        """Hash of the whole configuration, for the audit trail."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @property
    def results_sha256(self) -> str:
        """Hash of what shapes result objects; part of their UIDs, so that other settings give other objects."""
        results = self.results.model_dump(exclude={"rejection_note_series_number"})  # which comes after them
        if not self.results.followup_warning:  # nor does it shape anything then; known results keep their UIDs
            del results["followup_warning"]
        shaping = {"results": results, "bundles": self.pipeline_bundles}
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def load_settings(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `file` (None: defaults) and the environment. Raises ConfigError with every problem found."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except OSError as problem:
            raise ConfigError((f"{file}: {problem.strerror}",)) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise ConfigError((f"{file}: not TOML: {problem}",)) from None
    variables = os.environ if environment is None else environment
    for name in sorted((n for n in variables if n.startswith("ICHNODE_") and "__" in n), key=_order):
        _put(values, _key_path(name), _parsed(variables[name]), name)
    try:
        return Settings.model_validate(values)
    except ValidationError as problem:
        raise ConfigError(tuple(_described(e) for e in problem.errors())) from None


def with_rules_of(settings: Settings, file: Path) -> Settings:
    """The same settings under the [[rules]] of another file, whose other tables do not count. Raises ConfigError."""
    try:
        rules = tomllib.loads(file.read_text("utf-8")).get("rules")
    except OSError as problem:
        raise ConfigError((f"{file}: {problem.strerror}",)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError((f"{file}: not TOML: {problem}",)) from None
    if not rules:
        raise ConfigError((f"{file}: has no [[rules]]",))
    try:
        return Settings.model_validate({**dict(settings), "rules": rules})
    except ValidationError as problem:
        raise ConfigError(tuple(_described(e) for e in problem.errors())) from None


def example() -> str:
    """The commented example configuration."""
    return files("ichnode").joinpath("example.toml").read_text("utf-8")


def _is_keyword(name: str) -> bool:
    return tag_for_keyword(name) is not None


def _described(error: Any) -> str:
    place = [str(part) for part in error["loc"] if part not in (_BY_C_STORE, _BY_STOW)]
    where = ".".join(place) or "configuration"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "tuple_type" and isinstance(error["input"], dict) and len(place) == 1:
        message = f"is a list of tables: write [[{where}]], with two brackets"
    if error["type"] == "extra_forbidden":
        message = f"unknown key: {_instead(error['loc'])}"
    if where.endswith(".match") and (named := re.match(r"(\w+): (.*)", message)):
        return f"{where}.{named[1]}: {named[2]}"
    return f"{where}: {message}"


def _instead(place: Sequence[str | int]) -> str:
    """What may be meant by an unknown key: the known one that looks like it, else which are known there."""
    *above, unknown = place
    fields = _section_at(above).model_fields
    meant = get_close_matches(str(unknown), fields, n=1, cutoff=0.75)
    if not meant:
        return f"known are {', '.join(fields)}"
    if above:
        return f"perhaps {meant[0]} is meant"
    is_list = get_origin(fields[meant[0]].annotation) is tuple
    return f"perhaps {f'[[{meant[0]}]]' if is_list else f'[{meant[0]}]'} is meant"


def _section_at(place: Sequence[str | int]) -> type[BaseModel]:
    """The section, or the table of a list, at a place as pydantic tells it."""
    kinds: dict[str | int, type[BaseModel]] = {_BY_C_STORE: DicomDestination, _BY_STOW: WebDestination}
    section: type[BaseModel] = Settings
    for part in place:
        if part in kinds:
            section = kinds[part]
        elif part in section.model_fields:
            annotation: Any = section.model_fields[str(part)].annotation
            inner = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
            section = inner if isinstance(inner, type) else section
    return section


def _key_path(variable: str) -> list[str]:
    return variable.removeprefix("ICHNODE_").lower().split("__")


def _order(variable: str) -> list[tuple[int, str]]:
    """Sections before their keys, and list indices as numbers: element 2 is there before element 10 is put after it."""
    return [(int(part) if part.isdecimal() else -1, part) for part in _key_path(variable)]


def _parsed(text: str) -> Any:
    """An environment value: TOML where it reads as TOML, else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: Any, path: list[str], value: Any, variable: str) -> None:
    """Set a nested key; list elements by index, one past the end appends."""
    for depth, key in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(values, list):
            if not key.isdecimal() or int(key) > len(values):
                raise ConfigError((f"{variable}: {key!r} is no index from 0 to {len(values)}",))
            if int(key) == len(values):
                values.append({})
            if last:
                values[int(key)] = value
            else:
                values = values[int(key)]
        elif isinstance(values, dict):
            if last:
                values[key] = value
            else:
                values = values.setdefault(key, [] if path[depth + 1].isdecimal() else {})
        else:
            raise ConfigError((f"{variable}: {'.'.join(path[:depth])} is a value, not a section",))
