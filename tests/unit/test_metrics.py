"""What the metrics page says of sources."""

import time

from ichnode.metrics import Metrics


def value_of(metrics, line):
    return next(
        float(text.rpartition(" ")[2]) for text in metrics.page().decode().splitlines() if text.startswith(f"{line} ")
    )


def test_the_last_instance_of_each_source_has_a_time():
    metrics, began = Metrics(sources=["CT1", "CT2"], count_jobs=dict), time.time()
    metrics.instance_received("CT1")
    assert value_of(metrics, 'ichnode_last_instance_timestamp_seconds{source="CT1"}') >= began
    assert 'ichnode_last_instance_timestamp_seconds{source="CT2"}' not in metrics.page().decode()


def test_a_source_that_sent_before_the_start_is_known_by_that_until_it_sends_again():
    metrics, line = Metrics(sources=["CT1"], count_jobs=dict), 'ichnode_last_instance_timestamp_seconds{source="CT1"}'
    metrics.heard_from("CT1", at=1000.0)
    assert value_of(metrics, line) == 1000.0
    metrics.instance_received("CT1")
    assert value_of(metrics, line) > 1000.0


def test_sources_that_are_not_configured_share_a_label():
    metrics = Metrics(sources=["CT1"], count_jobs=dict)
    metrics.heard_from("CT8", at=1000.0)
    metrics.heard_from("CT9", at=2000.0)
    assert value_of(metrics, 'ichnode_last_instance_timestamp_seconds{source="unlisted"}') == 2000.0


def test_what_is_read_when_asked_is_not_read_before():
    metrics, asked = Metrics(sources=[], count_jobs=dict), []
    metrics.register("ichnode_example", "text", "part", lambda: {"disk": asked.append(1) or 0.5})
    assert not asked
    assert value_of(metrics, 'ichnode_example{part="disk"}') == 0.5
