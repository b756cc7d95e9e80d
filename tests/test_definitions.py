"""The graph of assets, as people see it in the UI; a change here is a change of what drivelake is."""

import json
from pathlib import Path

import dagster as dg
import pytest

from definitions import build_defs
from drivelake.declaration import parse_declaration
from drivelake.demo import example
from drivelake.manifest import ASSETS

GOLDEN = Path(__file__).with_name("asset_graph.json")


@pytest.fixture(scope="module")
def defs(tmp_path_factory):
    return build_defs(parse_declaration(example("generated")), tmp_path_factory.mktemp("lake"))


def test_the_definitions_load(defs):
    dg.Definitions.validate_loadable(defs)


def test_the_graph_is_the_one_that_is_written_down(defs):
    graph = defs.resolve_asset_graph()
    found = {
        key.to_user_string(): {
            "from": sorted(k.to_user_string() for k in graph.get(key).parent_keys),
            "group": graph.get(key).group_name,
            "kinds": sorted(graph.get(key).kinds),
            "owners": sorted(graph.get(key).owners),
            "code_version": graph.get(key).code_version,
            "checks": sorted(c.name for c in graph.get(key).check_keys),
        }
        for key in graph.get_all_asset_keys()
    }
    assert found == json.loads(GOLDEN.read_text()), "if it is meant, write:\n" + json.dumps(found, indent=1, sort_keys=True)


def test_every_asset_has_an_owner_a_description_kinds_and_a_code_version(defs):
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == set(ASSETS)
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.owners
        assert node.kinds
        assert node.code_version
        assert node.group_name != "default"


def test_the_declaration_makes_the_partitions(defs):
    graph = defs.resolve_asset_graph()
    partitions = {key.to_user_string(): graph.get(key).partitions_def for key in graph.get_all_asset_keys()}
    assert partitions["curated_datasets"].get_partition_keys() == ["lane_keeping"]
    assert partitions["soc_artefacts"].get_partition_keys() == ["steering@portable", "steering@snapdragon"]
    assert isinstance(partitions["raw_logs"], dg.DynamicPartitionsDefinition)


def test_code_versions_in_the_ui_are_those_of_the_stages(chain, defs):
    graph = defs.resolve_asset_graph()
    for asset in ASSETS:
        version = chain.heads(asset)[0]
        assert graph.get(dg.AssetKey(asset)).code_version == version.manifest.code_version
