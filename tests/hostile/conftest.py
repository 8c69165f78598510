"""Nodes to attack, peers to attack them with, and the look at every node after every case."""

from contextlib import ExitStack, contextmanager

import pytest

from tests.hostile.node import AttackedNode
from tests.hostile.peer import Peer


@pytest.fixture(scope="session")
def nodes():
    """Every node that runs."""
    return []


@pytest.fixture(scope="session")
def run_node(nodes, tmp_path_factory):
    """Runs a node with the given settings of [node] as long as the block lasts."""

    @contextmanager
    def run(folder=None, **settings):
        with AttackedNode(folder or tmp_path_factory.mktemp("node"), **settings) as node:
            node.start()
            nodes.append(node)
            try:
                yield node
            finally:
                nodes.remove(node)

    return run


@pytest.fixture(scope="session")
def node(run_node):
    """The node that most cases share."""
    with run_node(max_associations=64) as node:
        yield node


@pytest.fixture(scope="session")
def strict_node(run_node):
    """A node that grants one address 3 of its slots, and takes no object over 8 MiB."""
    with run_node(max_associations=16, max_associations_per_peer=3, max_object_mb=8) as node:
        yield node


@pytest.fixture(autouse=True)
def unharmed(nodes):
    """After every case."""
    yield
    for node in nodes:
        node.assert_unharmed()


@pytest.fixture
def connect(node):
    """Opens connections to the shared node, and closes them."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(Peer(node.dicom_port, **how))


@pytest.fixture
def peer(connect):
    """A peer with an open association that has the ordinary presentation contexts."""
    return connect().associate()
