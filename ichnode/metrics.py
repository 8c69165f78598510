"""Every Prometheus metric of the node, named once. Label values come from fixed sets or the configuration."""

import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ichnode import __version__
from ichnode.domain.job import JobState

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_UNLISTED_SOURCE = "unlisted"


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(
        self,
        *,
        sources: Collection[str],
        count_jobs: Callable[[], Mapping[JobState, int]],
        refused_classes: Callable[[], Sequence[tuple[str, str]]] = tuple,
    ) -> None:
        """`refused_classes`: destination and SOP Class UID."""
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
        build = Info("ichnode_build", "Version of the node", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self.registry.register(_JobStates(count_jobs))
        self.registry.register(_RefusedClasses(refused_classes))

    def instance_received(self, source: str) -> None:
        """Count an instance; calling AE titles that no [[sources]] names share one label."""
        self._instances_received.labels(source if source in self._sources else _UNLISTED_SOURCE).inc()

    def page(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return generate_latest(self.registry)


class _JobStates(Collector):
    """Jobs by state, counted when asked."""

    def __init__(self, count_jobs: Callable[[], Mapping[JobState, int]]) -> None:
        self._count_jobs = count_jobs

    def describe(self) -> Iterable[Metric]:
        """Without counting: registering must not read the ledger."""
        return [GaugeMetricFamily("ichnode_jobs", "Jobs by state", labels=["state"])]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("ichnode_jobs", "Jobs by state", labels=["state"])
        for state, count in self._count_jobs().items():
            family.add_metric([state.value], count)
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
