"""Tiny models that find what is dark, each seeing pictures in one of the three ways."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
from picture_rig import VIEWS, Answering, Steps

from exporters import parity
from exporters.graph_config import make_config
from serving import plugins
from serving.repository.layout import scan
from serving.task import FOLDER


@pytest.fixture(scope="module", params=VIEWS)
def answering(request, tmp_path_factory):
    """The module's task, as VERB says, with each of the ways to see a picture."""
    verb, root = request.module.VERB, tmp_path_factory.mktemp("tasks")
    tiny.add_dark(root, verb, labels=request.module.LABELS, **VIEWS[request.param])
    version = scan(root).models[verb].versions[1]
    graph = tiny.dark_graph(verb, 32)
    config = make_config(graph, verb, max_batch_size=8, instances=1)
    with parity.serve(graph, config) as served, ThreadPoolExecutor(1) as pool:

        def run(inputs):  # on another thread: it has an event loop of its own, which does not run inside of another
            return pool.submit(served, inputs).result()

        yield Answering(plugins.find(FOLDER, verb, "PLUGIN")(version), Steps(run))
