"""Laws of the clock mapping. Belongs here: integers. Never: estimation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.declaration import Alignment, Clock
from drivelake.errors import DeclarationError
from drivelake.frames.clocks import DRIFT_LIMIT_PPM, OFFSET_LIMIT_NS, STAMP_LIMIT_NS, ClockModel, declared_clock

stamp = st.integers(0, STAMP_LIMIT_NS - 1)
drift = st.integers(-int(DRIFT_LIMIT_PPM) * 10**6, int(DRIFT_LIMIT_PPM) * 10**6).map(lambda ppt: ppt / 10**6)


@settings(max_examples=200, deadline=None)
@given(
    natives=st.lists(stamp, min_size=1, max_size=8), epoch=stamp, offset=st.integers(-OFFSET_LIMIT_NS, OFFSET_LIMIT_NS), ppm=drift
)
def test_the_mapping_is_exact_over_the_whole_range_of_stamps(natives, epoch, offset, ppm):
    model = ClockModel(method="estimated", offset_ns=offset, drift_ppm=ppm, epoch_ns=epoch)
    want = [n + offset + (n - epoch) * round(ppm * 10**6) // 10**12 for n in natives]
    assert model.to_reference(np.array(natives, dtype=np.int64)).tolist() == want


@settings(max_examples=100, deadline=None)
@given(natives=st.lists(st.integers(0, 10**13), min_size=2, max_size=20), ppm=drift)
def test_the_mapping_is_monotonic(natives, ppm):
    model = ClockModel(method="estimated", drift_ppm=ppm, epoch_ns=5 * 10**12)
    assert np.all(np.diff(model.to_reference(np.array(sorted(natives), dtype=np.int64))) >= 0)


def test_the_mapping_leaves_its_input_alone():
    native = np.array([1, 2], dtype=np.int64)
    ClockModel(method="estimated", offset_ns=5, drift_ppm=100.0).to_reference(native)
    assert native.tolist() == [1, 2]


def test_a_declared_offset_is_added():
    model = declared_clock("can", Clock(offset_ns=-37_000_000_000))
    assert model.method == "declared"
    assert model.to_reference(np.array([1_700_000_037_000_000_001], dtype=np.int64)).tolist() == [1_700_000_000_000_000_001]


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("reference", Clock(offset_ns=1)),
        ("reference", Clock(align=Alignment(own="a", reference="b"))),
        ("can", Clock(offset_ns=OFFSET_LIMIT_NS + 1)),
    ],
)
def test_a_clock_that_no_model_holds_is_refused(name, clock):
    with pytest.raises(DeclarationError):
        declared_clock(name, clock)
