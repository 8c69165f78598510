"""`ichnode status`: the running node on one screen, from its ledger, its /readyz and its disk, as plain values."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from ichnode import __version__
from ichnode.config import Settings
from ichnode.errors import ConfigError
from ichnode.inference.bundle_folders import MANIFEST, configured_bundles
from ichnode.storage.files import FileStore
from ichnode.storage.history import History
from ichnode.storage.outbox import OPEN
from ichnode.storage.overview import NEVER_SENT_TO, Overview
from ichnode.web.health import ready_parts

_DEAD = ("dead", "refused")


def status_of(settings: Settings, engine: Engine | None) -> dict[str, Any]:
    """Everything; `engine` None: there is no ledger yet. Raises SQLAlchemyError."""
    parts, silence = _parts(settings)
    return {
        "ready": bool(parts) and set(parts.values()) == {"ok"},
        "parts": parts,
        "no_answer": silence,
        "ae_title": settings.node.ae_title,
        "port": settings.node.port,
        "version": __version__,  # of this program; the node may be another one
        **_ledger(settings, engine),
        "disk": _disk(settings),
        "bundles": _bundles(settings),
    }


def _parts(settings: Settings) -> tuple[Mapping[str, str], str]:
    """What /readyz says of each part; and why nothing where the node does not answer."""
    web = settings.web
    if web.port == 0:
        return {}, "web.port = 0 is another port at each start, so the node cannot be asked"
    try:
        return ready_parts(web.host, web.port, tls=web.tls), ""
    except OSError as problem:
        return {}, str(problem)


def _ledger(settings: Settings, engine: Engine | None) -> dict[str, Any]:
    names = [destination.name for destination in settings.destinations]
    titles = [source.ae_title for source in settings.sources]
    if engine is None:
        return {"started": None, "jobs": {}, "oldest_waiting_job": None, "sources": [], "destinations": []}
    overview = Overview(engine)
    started, oldest, heard = overview.last_start(), overview.oldest_waiting_job(), overview.last_instances()
    counted, fares = overview.deliveries(), overview.at_destinations()
    return {
        "started": started and {"at": started.at, "version": started.version},
        "jobs": {state.value: count for state, count in History(engine).count_by_state().items()},
        "oldest_waiting_job": oldest
        and {"id": oldest.id, "state": oldest.state.value, "created_at": oldest.created_at},
        "sources": [
            {"ae_title": title, "last_instance_at": heard.get(title)} for title in dict.fromkeys([*titles, *heard])
        ],
        "destinations": [
            {
                "name": name,
                "open": _sum(counted.get(name, {}), OPEN),
                "dead": _sum(counted.get(name, {}), _DEAD),
                "delivered": _sum(counted.get(name, {}), ("delivered", "replaced")),
                "configured": name in names,
                **asdict(fares.get(name, NEVER_SENT_TO)),
            }
            for name in dict.fromkeys([*names, *counted])
        ],
    }


def _sum(counted: Mapping[str, int], states: tuple[str, ...]) -> int:
    return sum(counted.get(state, 0) for state in states)


def _disk(settings: Settings) -> dict[str, Any]:
    """Of data_dir; nothing where it is not there."""
    node = settings.node
    if not node.data_dir.is_dir():
        return {}
    store = FileStore(node.data_dir, **node.reserves)
    return {"free_bytes": store.free_bytes(), "reserve_bytes": store.reserve_bytes(), "trouble": store.trouble()}


def _bundles(settings: Settings) -> list[dict[str, str]]:
    """Of each pipeline that a rule runs, unverified: `ichnode models verify` and `ichnode doctor` verify."""
    try:
        found = configured_bundles(settings.inference.bundles_dir)
    except ConfigError:
        found = {}
    rows = []
    for pipeline, name in settings.pipeline_bundles.items():
        try:
            version = str(json.loads((found[name] / MANIFEST).read_bytes())["version"])
        except (KeyError, OSError, ValueError, TypeError):
            version = "?"
        rows.append({"pipeline": pipeline, "name": name, "version": version})
    return rows
