from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compile.parity import compare, measure

numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
three = st.integers(2, 20).flatmap(lambda rows: st.tuples(*[arrays(np.float32, (rows, 2), elements=numbers)] * 3))


def report(truth, reference, compiled):
    count = len(truth)
    rows = pa.table({"drive": ["d"] * count, "frame": range(count), "t_ns": range(count)})
    return compare(rows, truth, reference, compiled, {"speed_mps": "m/s", "curvature_1pm": None})


@settings(max_examples=25, deadline=None)
@given(three)
def test_rows_survive_the_report_exactly(parts):
    stored = report(*parts)["targets"]
    for at, values in enumerate(stored.values()):
        for key, part in zip(("truth", "float", "compiled"), parts, strict=True):
            np.testing.assert_array_equal(np.array(values[key], np.float32), part[:, at])


@settings(max_examples=25, deadline=None)
@given(three)
def test_deviations_are_ordered_and_symmetric(parts):
    truth, reference, compiled = parts
    there, back = report(truth, reference, compiled), report(truth, compiled, reference)
    for target in there["per_target"].values():
        # a mean of equal numbers may round one bit beyond them
        bound = target["parity"]["max_abs"] * (1 + 1e-9)
        assert 0 <= target["parity"]["mean_abs"] <= bound
        assert target["parity"]["p99_abs"] <= bound
    assert there["parity"] == back["parity"]


@settings(max_examples=25, deadline=None)
@given(three)
def test_compiling_to_the_same_numbers_costs_nothing(parts):
    truth, reference, _ = parts
    same = report(truth, reference, reference)
    assert (same["parity"]["mean_abs"], same["parity"]["max_abs"], same["parity"]["p99_abs"]) == (0, 0, 0)
    assert same["task"]["r2_drop"] in {0, None}
    assert same["task"]["mae_float"] == same["task"]["mae_compiled"]


def test_the_numbers_are_those_of_the_formulas():
    truth = np.array([[0, 1], [1, 1], [2, 1], [3, 1]], np.float32)
    reference, compiled = truth + np.float32(0.5), truth.copy()
    compiled[3, 0] = 5
    found = report(truth, reference, compiled)
    speed = found["per_target"]["speed_mps"]
    assert speed["parity"] == {"mean_abs": (0.5 * 3 + 1.5) / 4, "max_abs": 1.5, "p99_abs": pytest.approx(0.5 + 0.97 * 1.0)}
    # SST = 5; SSE = 4 * 0.25 for the float graph, 4 for the compiled one
    assert speed["task"] == pytest.approx(
        {"r2_float": 0.8, "r2_compiled": 0.2, "r2_drop": 0.6, "mae_float": 0.5, "mae_compiled": 0.5}
    )


def test_r2_of_a_target_that_does_not_vary_is_not_made_up():
    truth = np.array([[0, 1], [1, 1]], np.float32)
    found = report(truth, truth, truth + np.float32(1))
    assert found["per_target"]["curvature_1pm"]["task"]["r2_compiled"] is None
    assert found["task"]["r2_float"] is None
    assert found["task"]["r2_drop"] is None
    assert found["task"]["mae_compiled"] == 1


def test_the_worst_target_decides_the_largest_deviation():
    truth = np.zeros((3, 2), np.float32)
    found = report(truth, truth, truth + np.array([0.25, 2], np.float32))
    assert found["parity"] == {"rows": 3, "mean_abs": 1.125, "max_abs": 2.0, "p99_abs": 2.0}
    assert measure(found["targets"]) == {key: found[key] for key in ("parity", "task", "per_target")}
