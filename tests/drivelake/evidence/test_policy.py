"""Laws of the policy: pinned once, read strictly, and nobody approves what the same key made."""

import json

import pytest
from pydantic import ValidationError

from drivelake.errors import Conflict, NotFound, VerificationFailed
from drivelake.evidence.policy import APPROVAL, INVENTORY, PROVENANCE, TEST_RESULT, Policy


def test_a_saved_policy_loads_as_it_was(tmp_path):
    for policy in (Policy.default(), Policy.default("drivelake/other").model_copy(update={"approvals": ("soc_artefacts",)})):
        folder = tmp_path / policy.digest
        folder.mkdir()
        policy.save(folder)
        assert Policy.load(folder) == policy
        assert Policy.load(folder).digest == policy.digest


def test_saving_is_deterministic_and_saving_again_changes_nothing(tmp_path):
    first = Policy.default().save(tmp_path).read_bytes()
    assert Policy.default().save(tmp_path).read_bytes() == first


def test_another_policy_is_never_overwritten(tmp_path):
    path = Policy.default().save(tmp_path)
    before = path.read_bytes()
    other = Policy.default("drivelake/other")
    with pytest.raises(Conflict, match=other.digest[:12]):
        other.save(tmp_path)
    assert path.read_bytes() == before


def test_the_default_separates_the_roles():
    roles = Policy.default().roles
    assert roles == {PROVENANCE: ("runner",), TEST_RESULT: ("runner",), INVENTORY: ("logger",), APPROVAL: ("approver",)}
    assert Policy.default().gates == {"checkpoints": ("checkpoint",), "soc_artefacts": ("artefact",)}


@pytest.mark.parametrize("made_by", [PROVENANCE, TEST_RESULT])
def test_a_policy_that_lets_a_role_approve_its_own_work_is_refused(made_by):
    with pytest.raises(ValidationError, match="both make and approve"):
        Policy(log_origin="o", roles={made_by: ("runner",), APPROVAL: ("approver", "runner")})


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"rolls": {}}, "rolls"),
        ({"log_origin": "two words"}, "log_origin"),
        ({"log_origin": "a+b"}, "log_origin"),
        ({"log_origin": "line\nbreak"}, "log_origin"),
        ({"schema_version": 2}, "schema_version"),
        ({"roles": {PROVENANCE: ["Not A Role"]}}, "roles"),
    ],
)
def test_a_damaged_policy_fails_verification_and_names_the_key(tmp_path, change, names):
    path = Policy.default().save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(VerificationFailed, match=names):
        Policy.load(tmp_path)


def test_no_policy_is_not_found_and_no_json_fails(tmp_path):
    with pytest.raises(NotFound, match=r"policy\.json"):
        Policy.load(tmp_path)
    (tmp_path / "policy.json").write_bytes(b"\xff{")
    with pytest.raises(VerificationFailed, match="not a policy"):
        Policy.load(tmp_path)
