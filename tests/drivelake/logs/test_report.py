import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs import ChannelReport, LogReport
from drivelake.logs.report import Stamps

STAMPS = st.lists(st.integers(0, 10**6), max_size=200)


@settings(max_examples=80, deadline=None)
@given(stamps=STAMPS, cut=st.integers(0, 200))
def test_running_statistics_are_those_of_the_whole(stamps, cut):
    running = Stamps()
    for stamp in stamps[:cut]:
        running.add(stamp)
    running.extend(np.array(stamps[cut:], np.int64))
    found = running.report("c", "t")
    gaps = np.diff(stamps)
    forward = gaps[gaps >= 0]
    assert found.messages == len(stamps)
    assert (found.first_ns, found.last_ns) == ((min(stamps), max(stamps)) if stamps else (None, None))
    assert found.backward_steps == int((gaps < 0).sum())
    assert found.gap_ms_max == (forward.max() / 1e6 if len(forward) else None)
    median = np.median(forward) if len(forward) else 0
    assert found.rate_hz == (1e9 / median if median else None)


def test_a_median_of_too_many_different_gaps_stays_close_and_small():
    gaps = np.random.default_rng(3).integers(10**6, 10**9, 300_000)
    running = Stamps()
    for part in np.array_split(np.cumsum(gaps), 40):
        running.extend(part)
    assert len(running._gaps) <= 1 << 16
    assert np.isclose(running.report("c", "t").rate_hz, 1e9 / np.median(gaps[1:]), rtol=1e-4)


def test_a_report_is_json_and_says_whether_it_is_readable():
    channel = ChannelReport("/imu", "t", 0, None, None, None, None, 0)
    sound = LogReport("a.mcap", "mcap", 5, (channel,))
    damaged = LogReport("a.mcap", "mcap", 5, (channel,), damage=("cut.",))
    assert json.loads(json.dumps(sound.as_dict()))["readable"] is True
    assert damaged.as_dict()["readable"] is False
    assert damaged.as_dict()["channels"][0]["name"] == "/imu"
