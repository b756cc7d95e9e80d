"""A gate opens for measured values within their bounds and for nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivelake.declaration import Criterion
from drivelake.errors import GateClosed
from drivelake.gates import decide, judge, lookup, require_open
from drivelake.stage import Decision

MEASURED = {"test": {"network": {"r2": 0.5}, "n": 10, "note": "x", "ok": True, "nan": math.nan}}


def test_a_value_within_its_bounds_passes():
    assert judge(Criterion(value="test.network.r2", min=0.5, max=0.5), MEASURED).verdict == "PASS"


@pytest.mark.parametrize("bounds", [{"min": 0.51}, {"max": 0.49}])
def test_a_value_outside_fails(bounds):
    assert judge(Criterion(value="test.network.r2", **bounds), MEASURED).verdict == "FAIL"


@pytest.mark.parametrize(
    "path", ["test.network.mae", "test.note", "test.ok", "test.nan", "test.network", "nothing", "test.n.more"]
)
def test_what_was_not_measured_is_not_shown(path):
    finding = judge(Criterion(value=path, min=-1e300), MEASURED)
    assert (finding.measured, finding.verdict) == (None, "NOT SHOWN")


def test_a_closed_gate_lists_every_criterion_with_its_number():
    findings = decide([Criterion(value="test.network.r2", min=0.6), Criterion(value="test.loss", max=1)], MEASURED)
    with pytest.raises(GateClosed) as caught:
        require_open(Decision("checkpoint", findings), of="checkpoints/steering")
    assert "test.network.r2 is 0.5, expected at least 0.6" in str(caught.value)
    assert "test.loss is NOT SHOWN, expected at most 1" in str(caught.value)


def test_a_gate_without_criteria_is_closed():
    with pytest.raises(GateClosed, match="nothing was shown"):
        require_open(Decision("artefact", ()), of="x")


@given(*[st.floats(allow_nan=False, allow_infinity=False)] * 3)
def test_pass_means_within_bounds(value, low, high):
    finding = judge(Criterion(value="v", min=low, max=high), {"v": value})
    assert (finding.verdict == "PASS") == (low <= value <= high)


def test_lookup_walks_dotted_paths():
    assert lookup(MEASURED, "test.n") == 10.0
