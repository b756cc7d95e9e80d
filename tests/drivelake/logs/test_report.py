import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs import ChannelReport, Findings, LogReport
from drivelake.logs.report import Recovery, recovered_share, recoveries, silences, unusable
from drivelake.logs.stamps import Stamps

CHANNEL = Stamps().report("/imu", "t")


def findings(*, expected=None, sentences=(), bound=()):
    told = Findings()
    for channel, count in (expected or {}).items():
        told.promise(channel, count)
    for sentence in sentences:
        told.damaged(sentence)
    for sentence, channel, lost in bound:
        told.damaged(sentence, channel=channel, lost=lost)
    return told


@pytest.mark.parametrize(
    ("told", "expected", "lost"),
    [
        (findings(), None, 0),
        (findings(expected={"/a": 10}), 10, 0),
        (findings(expected={"/a": 12}, sentences=["x"]), 12, 2),
        (findings(sentences=["the file is cut"]), None, None),
        (findings(bound=[("x", "/a", 3)]), None, 3),
        (findings(bound=[("x", "/a", 0)]), None, None),
        (findings(bound=[("x", "/b", 3)]), None, 0),
        (findings(expected={"/a": 10}, bound=[("x", "/a", 3)]), 10, 3),
    ],
)
def test_what_is_lost_is_a_number_only_where_it_is_known(told, expected, lost):
    (found,) = (r for r in recoveries(told, {"/a": 10}) if r.channel == "/a")
    assert (found.expected, found.recovered, found.lost) == (expected, 10, lost)


def test_a_channel_that_only_the_promise_knows_is_told_as_not_recovered():
    (found,) = recoveries(findings(expected={"/gone": 7}), {})
    assert found == Recovery("/gone", 7, 0, 7, ())


def recovery(recovered, expected=None):
    return Recovery("c", expected, recovered, None, ())


@pytest.mark.parametrize(
    ("damage", "found", "usable"),
    [
        ((), [recovery(0, 10)], True),
        (("x",), [recovery(5, 10)], True),
        (("x",), [recovery(49, 100)], False),
        (("x",), [recovery(0, 10), recovery(100, 110)], True),
        (("x",), [recovery(1)], True),
        (("x",), [recovery(0)], False),
        (("x",), [], False),
        (("x",), [recovery(0, 10), recovery(5)], False),
        (("x",), [recovery(20, 10), recovery(1, 30)], False),
    ],
)
def test_a_damaged_log_is_used_from_the_declared_share_on(damage, found, usable):
    reason = unusable(damage, found, 0.5)
    assert (reason == "") is usable
    assert usable or reason.startswith("x")


def test_the_share_is_over_the_channels_that_promise():
    assert recovered_share([recovery(5, 10), recovery(100), recovery(30, 40)]) == 0.7
    assert recovered_share([recovery(5), recovery(0, 0)]) is None
    assert recovered_share([recovery(20, 10)]) == 1, "more than promised makes up for nothing"


def test_a_channel_that_falls_silent_before_the_others_is_noted():
    def channel(name, *spans, step_s=0.01):
        running = Stamps()
        for first_s, last_s in spans:
            running.extend((np.arange(first_s, last_s, step_s) * 1e9).astype(np.int64))
        return running.report(name, "t")

    bursts = channel("/bursts", *((start, start + 0.2) for start in range(0, 20, 2)))
    notes = silences(
        [
            channel("/whole", (0, 60)),
            channel("/late", (6, 60)),
            channel("/early", (0, 20.5)),
            channel("/between", (0, 20), (26, 60)),
            channel("/shortly", (4, 30), (34, 56)),
            channel("/slow", (0, 25), step_s=1),
            channel("/few", (0, 1), step_s=0.06),
            replace(bursts, name="/bursts"),
            replace(CHANNEL, name="/never"),
        ]
    )
    assert bursts.rate_hz > 5 * bursts.mean_hz
    assert notes == [
        "Channel '/late', steady at 100 Hz, begins 6.0 s after the log does.",
        "Channel '/early', steady at 100 Hz, ends 39.5 s before the log does.",
        "Channel '/between', steady at 100 Hz, is silent for 6.0 s between two messages.",
    ]


@pytest.mark.parametrize(
    ("damage", "messages", "verdict"),
    [((), 5, "sound"), ((), 0, "sound"), (("cut.",), 5, "salvaged"), (("cut.",), 0, "lost")],
)
def test_a_verdict_says_whether_damage_left_anything(damage, messages, verdict):
    found = LogReport("a.mcap", "mcap", 5, (replace(CHANNEL, messages=messages),), damage)
    assert (found.verdict, found.readable) == (verdict, not damage)
    assert found.as_dict()["verdict"] == verdict


@settings(max_examples=20, deadline=None)
@given(
    channels=st.lists(
        st.builds(
            ChannelReport,
            name=st.text(max_size=5),
            type=st.text(max_size=5),
            messages=st.integers(0, 2**40),
            first_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
            last_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
            rate_hz=st.none() | st.floats(1e-9, 1e9),
            mean_hz=st.none() | st.floats(1e-9, 1e9),
            gap_ms_max=st.none() | st.floats(0, 1e12),
            backward_steps=st.integers(0, 9),
            expected=st.none() | st.integers(0, 2**40),
            lost=st.none() | st.integers(0, 2**40),
            why=st.lists(st.text(max_size=5), max_size=3).map(tuple),
        ),
        max_size=4,
    ),
    damage=st.lists(st.text(max_size=9), max_size=3).map(tuple),
)
def test_a_report_survives_json(channels, damage):
    told = LogReport("a.mcap", "mcap", 5, tuple(channels), damage, ("note",))
    assert LogReport.from_dict(json.loads(json.dumps(told.as_dict()))) == told
