"""A node that dies in the middle of an analysis: how soon another has its work. Three nodes on a real PostgreSQL."""

from functools import partial
from pathlib import Path

from tests.acceptance.three_nodes import freeze_while_analysing, taken_over, three_nodes
from tests.soak.figures import Figure

TITLE = "a dead node's work"
GOAL_S = 30.0
PATIENCE_S = 120.0


def measure(folder: Path, *, times: int) -> list[Figure]:
    """Kill a node so often, each time in the middle of an analysis."""
    took_s = []
    with three_nodes(folder) as site:
        for _ in range(times):
            node, name, job = freeze_while_analysing(site)
            node.kill()
            took_s.append(site.wait(partial(taken_over, site, name, job), PATIENCE_S)[1])
            site.expect_each_delivered_once()
            node.start()
            site.wait(node.is_ready)
        studies = site.sent
    return [
        Figure(what="nodes killed while they analyse", measured=times),
        Figure(what="slowest until another node has the job, s", measured=max(took_s), most=GOAL_S),
        Figure(what="studies, each delivered once", measured=studies),
    ]
