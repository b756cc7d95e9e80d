import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.demo.sampling import Clock, take_samples

ZERO_NS = 1_709_539_200_000_000_000


@settings(max_examples=50, deadline=None)
@given(
    offset_ns=st.integers(-400_000_000, 400_000_000),
    drift_ppm=st.floats(-60, 60),
    elapsed_ns=st.lists(st.integers(0, 3_600_000_000_000), min_size=1, max_size=20),
)
def test_native_times_lead_back_by_the_stated_law(offset_ns, drift_ppm, elapsed_ns):
    reference_ns = ZERO_NS + np.array(elapsed_ns, np.int64)
    native_ns = ZERO_NS + np.round(Clock(ZERO_NS, offset_ns, drift_ppm).native_s(reference_ns) * 1e9).astype(np.int64)
    drifted = np.round(drift_ppm * 1e-6 * (native_ns - ZERO_NS)).astype(np.int64)
    assert np.abs(native_ns + offset_ns + drifted - reference_ns).max() <= 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), rate_hz=st.sampled_from([10.0, 50.0, 100.0]), seconds=st.floats(2, 60))
def test_samples_are_counted_and_none_lies_in_the_gap(seed, rate_hz, seconds):
    gap = (seconds / 3, seconds / 2)
    samples = take_samples(np.random.default_rng(seed), rate_hz, seconds, gap_s=gap)
    assert len(samples.t_s) == len(samples.sequence) == samples.counts()["recorded"]
    assert abs(samples.sent - rate_hz * seconds) <= 1
    assert not ((samples.t_s >= gap[0]) & (samples.t_s < gap[1])).any()
    assert (np.diff(samples.sequence) > 0).all()


def test_about_one_sample_in_a_hundred_is_lost():
    counts = take_samples(np.random.default_rng(3), 100.0, 400.0).counts()
    assert 0.007 < counts["dropped"] / counts["sent"] < 0.013
