"""Every Prometheus metric of the node, named once. Label values come from fixed sets or the configuration."""

import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ichnode import __version__
from ichnode.domain.job import JobState

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_UNLISTED_SOURCE = "unlisted"
_Read = Callable[[], Mapping[str, float] | Mapping[JobState, float]]


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(
        self,
        *,
        sources: Collection[str],
        count_jobs: Callable[[], Mapping[JobState, int]],
        refused_classes: Callable[[], Sequence[tuple[str, str]]] = tuple,
        count_judgements: Callable[[], Mapping[tuple[str, str], int]] = dict,
    ) -> None:
        """`refused_classes`: destination and SOP Class UID; `count_judgements`: by bundle with version, and verdict."""
        self.registry = CollectorRegistry()
        self._sources = frozenset(sources)
        self._instances_received = Counter(
            "ichnode_instances_received_total",
            "Instances acknowledged with success",
            ["source"],
            registry=self.registry,
        )
        self.instances_refused = Counter(
            "ichnode_instances_refused_total",
            "C-STORE requests answered with failure",
            ["status"],
            registry=self.registry,
        )
        self.series_decisions = Counter(
            "ichnode_series_decisions_total",
            "Series analysed, ignored or refused, by reason",
            ["decision", "reason"],
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "ichnode_stage_seconds", "Duration of one step", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        self.last_image_to_result_seconds = Histogram(
            "ichnode_last_image_to_result_seconds",
            "From the last instance received to the last result accepted by every destination",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.deliveries = Counter(
            "ichnode_deliveries_total",
            "Attempts to deliver a result, by outcome",
            ["destination", "status"],
            registry=self.registry,
        )
        self.inference_seconds = Histogram(
            "ichnode_inference_seconds",
            "Duration of one prediction",
            ["model", "device"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.store_bytes = Gauge("ichnode_store_bytes", "Bytes of received instances kept", registry=self.registry)
        self.purged_studies = Counter(
            "ichnode_purged_studies_total", "Studies removed by retention", ["reason"], registry=self.registry
        )
        self.purged_bytes = Counter(
            "ichnode_purged_bytes_total", "Bytes of instances and results removed by retention", registry=self.registry
        )
        self.audit_unsent = Gauge(
            "ichnode_audit_unsent_rows", "Rows of the audit trail that the collector lacks", registry=self.registry
        )
        self._last_instance = Gauge(
            "ichnode_last_instance_timestamp_seconds", "When a source last sent", ["source"], registry=self.registry
        )
        self.associations_open = Gauge(
            "ichnode_associations_open", "Associations that peers have with the node", registry=self.registry
        )
        self.associations_rejected = Counter(
            "ichnode_associations_rejected_total", "Peers turned away, by reason", ["reason"], registry=self.registry
        )
        self.disk_free_bytes = Gauge("ichnode_disk_free_bytes", "Free where the data are", registry=self.registry)
        self.disk_reserve_bytes = Gauge(
            "ichnode_disk_reserve_bytes", "With no more than this free nothing is stored", registry=self.registry
        )
        self.certificate_expiry = Gauge(
            "ichnode_certificate_expiry_timestamp_seconds",
            "When the first certificate of a file of [tls] expires",
            ["file"],
            registry=self.registry,
        )
        started = Gauge("ichnode_start_timestamp_seconds", "When the node was built", registry=self.registry)
        started.set_to_current_time()
        build = Info("ichnode_build", "Version of the node", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self.register("ichnode_jobs", "Jobs by state", "state", count_jobs)
        self.registry.register(_RefusedClasses(refused_classes))
        self.registry.register(_Judgements(count_judgements))

    def instance_received(self, source: str) -> None:
        """Count an instance; calling AE titles that no [[sources]] names share one label."""
        label = self._label(source)
        self._instances_received.labels(label).inc()
        self._last_instance.labels(label).set_to_current_time()

    def heard_from(self, source: str, *, at: float) -> None:
        """When a source last sent, before the node was started."""
        self._last_instance.labels(self._label(source)).set(at)

    def register(self, name: str, text: str, label: str, read: _Read) -> None:
        """A gauge with one label that `read` fills in whenever the page is asked for."""
        self.registry.register(_ReadWhenAsked(name, text, label, read))

    def _label(self, source: str) -> str:
        return source if source in self._sources else _UNLISTED_SOURCE

    def page(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class _ReadWhenAsked(Collector):
    """A gauge with one label, read when asked."""

    def __init__(self, name: str, text: str, label: str, read: _Read) -> None:
        self._name, self._text, self._label, self._read = name, text, label, read

    def describe(self) -> Iterable[Metric]:
        """Without reading: registering must not touch the ledger."""
        return [GaugeMetricFamily(self._name, self._text, labels=[self._label])]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        yield family


class _RefusedClasses(Collector):
    """SOP classes that a destination does not take, read when asked."""

    def __init__(self, refused_classes: Callable[[], Sequence[tuple[str, str]]]) -> None:
        self._refused_classes = refused_classes

    def describe(self) -> Iterable[Metric]:
        """Without reading the ledger."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for destination, sop_class_uid in self._refused_classes():
            family.add_metric([destination, sop_class_uid], 1)
        yield family

    def _family(self) -> GaugeMetricFamily:
        name, text = "ichnode_sop_class_refused", "SOP classes that a destination refuses; the summary page stands in"
        return GaugeMetricFamily(name, text, labels=["destination", "sop_class_uid"])


class _Judgements(Collector):
    """What people said of results, counted by the ledger, which knows it after a restart, too."""

    def __init__(self, count: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self._count = count

    def describe(self) -> Iterable[Metric]:
        """Without reading the ledger."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for (bundle, verdict), count in self._count().items():
            family.add_metric([bundle, verdict], count)
        yield family

    def _family(self) -> CounterMetricFamily:
        text = "Judgements of results by people, by name and version of the bundle"
        return CounterMetricFamily("ichnode_judgements", text, labels=["bundle", "verdict"])
