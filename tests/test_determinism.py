"""The same drives and declaration give the same versions, in another lake, up to the artefact."""

import shutil

import pytest

from definitions import materialize_all
from drivelake.evidence.lineage import find_version
from drivelake.evidence.verify import verify
from drivelake.lake import Lake
from drivelake.manifest import ASSETS
from tests.support import small_declaration


@pytest.mark.slow
def test_a_second_lake_gets_the_same_digests_from_raw_logs_to_the_artefact(chain, generated, tmp_path):
    other = Lake.create(tmp_path / "somewhere" / "else", small_declaration())
    shutil.copytree(generated / "inbox", other.inbox, dirs_exist_ok=True)
    assert [o for o in materialize_all(other) if o.status == "failed"] == []
    for asset in [a for a in ASSETS if a != "evidence"]:
        assert {v.name: v.digest for v in other.heads(asset)} == {v.name: v.digest for v in chain.heads(asset)}, asset
    assert verify(other, find_version(other, None)).verified
