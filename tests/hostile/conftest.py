"""Nodes to attack, peers to attack them with, and the look at every node after every case."""

from contextlib import ExitStack

import pytest

from tests.hostile.node import AttackedNode
from tests.hostile.peer import Peer


@pytest.fixture(scope="session")
def nodes():
    """Every node that runs."""
    return []


@pytest.fixture(scope="session")
def start_node(nodes, tmp_path_factory):
    """Starts nodes with the given settings of [node], and stops them at the end."""
    with ExitStack() as stack:

        def start(folder=None, **settings):
            node = stack.enter_context(AttackedNode(folder or tmp_path_factory.mktemp("node"), **settings))
            node.start()
            nodes.append(node)
            return node

        yield start


@pytest.fixture(scope="session")
def node(start_node):
    """The node that most cases share."""
    return start_node(max_associations=64)


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
