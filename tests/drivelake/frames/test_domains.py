"""Clock domains. Belongs here: what an estimate is made from, and which model counts. Never: the accuracy of an estimate."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drivelake.demo.motion import smooth_noise
from drivelake.errors import DeclarationError, InputError
from drivelake.frames.clocks import ClockModel, OffsetRow, Segment
from drivelake.frames.domains import clock_models, slopes
from drivelake.frames.sources import locate, read_index
from drivelake.rig import Alignment, Clock, Pair, Rig, Sensor

S, MS = 1_000_000_000, 1_000_000
EPOCH_NS = 1_700_000_000 * S
OWN = Sensor(log="can.mf4", channel="Wheel.speed", unit="m/s", clock="can")
REFERENCE = Sensor(log="gnss.mcap", channel="/gnss", field="speed", unit="m/s")
OPTIONAL_CAMERA = Sensor(log="gnss.mcap", channel="/camera", kind="payload", required=False)
ALIGN = Alignment(own="own", reference="ref")


@pytest.fixture
def drive(tmp_path):
    """drive(clock, own=(t_ns, v), ref=(t_ns, v), **more) -> what clock_models takes: signals, rig, found."""

    def make(clock, *, own, ref, reference_clock=None, **sensors):
        tables = {"can.mf4/own.parquet": ("Wheel", "speed", own), "gnss.mcap/ref.parquet": ("/gnss", "speed", ref)}
        entries = []
        for name, (channel, column, (t_ns, values)) in tables.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            content = {"t_ns": pa.array(np.asarray(t_ns, dtype=np.int64)), column: pa.array(np.asarray(values, dtype=np.float64))}
            pq.write_table(pa.table(content), tmp_path / name)
            entry = {"log": name.partition("/")[0], "channel": channel, "table": name, "columns": [{"name": column}]}
            entries.append(entry)
        (tmp_path / "index.json").write_text(json.dumps({"tables": entries}))
        clocks = {"can": clock} | ({"reference": reference_clock} if reference_clock else {})
        rig = Rig(reference="ref", clocks=clocks, sensors={"own": OWN, "ref": REFERENCE, **sensors})
        index = read_index(tmp_path)
        return tmp_path, rig, {name: locate(index, name, sensor) for name, sensor in rig.sensors.items()}

    return make


class Estimator:
    """Says what it is told, and remembers what it was given."""

    def __init__(self, *segments, reason=""):
        self.segments, self.reason, self.given = segments, reason, None

    def __call__(self, observations, declared):
        self.given, self.declared = observations, declared
        segments = self.segments or (Segment(method="estimated", offset_ns=5 * MS, sigma_ms=0.2),)
        return ClockModel(method="estimated", segments=segments, reason=self.reason)


def ramp(count=50, period=20 * MS, start=EPOCH_NS):
    return start + np.arange(count) * period, np.arange(count, dtype=float)


def test_the_reference_comes_first_and_a_clock_without_align_is_taken_as_equal(drive):
    models = clock_models(*drive(Clock(), own=ramp(), ref=ramp()), {}, estimate=Estimator())
    assert list(models) == ["reference", "can"]
    assert (models["reference"].method, models["can"].method) == ("same", "declared")
    assert models["can"].compared is None
    assert models["can"].to_reference(np.array([7])).tolist() == [7]


def test_an_estimate_gets_clean_samples_own_as_written_and_the_reference_in_order(drive):
    estimator = Estimator()
    own_ns = EPOCH_NS + np.array([0, 1, 1, 5, 3, 4, 6]) * MS
    ref_ns = EPOCH_NS + np.array([4, 2, 2, 9, 7]) * MS
    own = [0.0, 1.0, 2.0, np.nan, 3.0, 4.0, 5.0]
    clock_models(*drive(Clock(align=ALIGN), own=(own_ns, own), ref=(ref_ns, [1.0, 2, 3, 4, np.inf])), {}, estimate=estimator)
    (given,) = estimator.given
    assert (given.name, given.sign, estimator.declared) == ("own~ref", "same", ALIGN)
    assert ((given.own_ns - EPOCH_NS) // MS).tolist() == [0, 1, 3, 4, 6]
    assert given.own.tolist() == [0.0, 1.0, 3.0, 4.0, 5.0]
    assert ((given.reference_ns - EPOCH_NS) // MS).tolist() == [2, 4, 9]
    assert given.reference.tolist() == [2.0, 1.0, 4.0]


def test_scales_are_taken_off_before_anything_is_compared_and_stay_in_the_model(drive):
    estimator = Estimator()
    gps_ns = EPOCH_NS - (315_964_800 - 18) * S
    made = drive(
        Clock(scale="tai", align=ALIGN),
        own=ramp(start=EPOCH_NS + 37 * S),
        ref=ramp(start=gps_ns),
        reference_clock=Clock(scale="gps"),
    )
    models = clock_models(*made, {}, estimate=estimator)
    assert estimator.given[0].own_ns[0] == estimator.given[0].reference_ns[0] == EPOCH_NS
    assert (models["can"].scale, models["reference"].scale) == ("tai", "gps")
    assert models["can"].to_reference(np.array([EPOCH_NS + 37 * S])).tolist() == [EPOCH_NS + 5 * MS]


def test_a_derivative_is_stamped_between_its_samples(drive):
    estimator = Estimator()
    align = Alignment(pairs=(Pair(own="own", own_as="derivative", reference="ref", sign="opposite"),))
    clock_models(*drive(Clock(align=align), own=ramp(), ref=ramp()), {}, estimate=estimator)
    (given,) = estimator.given
    assert given.own_ns.tolist() == (ramp()[0][:-1] + 10 * MS).tolist()
    assert given.own.tolist() == pytest.approx([50.0] * 49)
    assert given.sign == "opposite"


@settings(max_examples=100, deadline=None)
@given(
    stamps=st.lists(st.integers(0, 10**6), min_size=0, max_size=30),
    slope=st.integers(-1000, 1000),
    seed=st.integers(0, 99),
)
def test_the_slope_of_a_straight_line_is_its_slope_wherever_there_is_one(stamps, slope, seed):
    t_ns = EPOCH_NS + np.array(stamps, dtype=np.int64)
    middle, found = slopes(t_ns, slope * (t_ns - EPOCH_NS) / 1e9 + seed)
    assert found == pytest.approx([slope] * found.size, abs=1e-3)
    between = {(a + b) // 2 for a, b in zip(t_ns[:-1].tolist(), t_ns[1:].tolist(), strict=True) if b > a}
    assert set(middle.tolist()) <= between


def test_pauses_steps_back_and_repeated_stamps_have_no_slope():
    t_ns = np.array([0, 10, 20, 20, 30, 1000, 1010, 500, 510])
    middle, _ = slopes(t_ns, np.arange(9.0))
    assert middle.tolist() == [5, 15, 25, 1005, 505]


def test_pairs_that_nobody_declared_are_found_and_the_model_says_why(drive):
    estimator = Estimator(reason="drift NOT SHOWN")
    model = clock_models(*drive(Clock(align=Alignment()), own=ramp(), ref=ramp()), {}, estimate=estimator)["can"]
    assert [one.name for one in estimator.given] == ["own~ref"]
    assert model.reason.startswith("drift NOT SHOWN; own (speed) was compared with ref (speed)")


def test_without_a_pair_a_clock_is_not_observable_and_says_what_was_looked_for(drive):
    signals, rig, found = drive(Clock(align=Alignment()), own=ramp(), ref=ramp())
    moved = {**rig.sensors, "own": OWN.model_copy(update={"unit": "K"})}
    model = clock_models(signals, rig.model_copy(update={"sensors": moved}), found, {}, estimate=Estimator())["can"]
    assert model.method == "not observable"
    assert "NOT OBSERVABLE: no pair of sensors was found" in model.reason
    assert model.to_reference(np.array([EPOCH_NS])).tolist() == [EPOCH_NS]


@pytest.mark.parametrize("empty", ["own", "ref"])
def test_a_pair_with_an_empty_side_is_said_and_the_others_are_used(drive, empty):
    other = Sensor(log="can.mf4", channel="Wheel.absent", clock="can", required=False)
    made = drive(Clock(align=ALIGN), **{"own": ramp(), "ref": ramp(), empty: ([], [])}, other=other)
    model = clock_models(*made, {}, estimate=Estimator())["can"]
    assert model.reason == f"NOT OBSERVABLE: sensor {empty!r} has no samples (0 rows)"
    both = Alignment(pairs=(Pair(own="other", reference="ref"), Pair(own="own", reference="ref")))
    estimator = Estimator()
    made = drive(Clock(align=both), own=ramp(), ref=ramp(), other=other)
    model = clock_models(*made, {}, estimate=estimator)["can"]
    assert [one.name for one in estimator.given] == ["own~ref"]
    assert "not used: sensor 'other': can.mf4 has no channel" in model.reason


def test_optical_flow_without_pictures_is_not_observable_and_says_why(drive):
    align = Alignment(pairs=(Pair(own="own", reference="camera", reference_as="optical_flow", sign="either"),))
    signals, rig, found = drive(Clock(align=align), own=ramp(), ref=ramp(), camera=OPTIONAL_CAMERA)
    found = {**found, "camera": found["ref"]}
    model = clock_models(signals, rig, found, {}, estimate=Estimator())["can"]
    assert model.reason == (
        "NOT OBSERVABLE: sensor 'camera': its pictures are not at hand, only the signals, so there is no optical flow"
    )
    picture = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(picture, "PNG")
    estimator = Estimator()

    def pictures(sensor):
        assert sensor == "camera"
        return ((EPOCH_NS + at * 50 * MS, picture.getvalue()) for at in range(5))

    clock_models(signals, rig, found, {}, pictures=pictures, estimate=estimator)
    (given,) = estimator.given
    assert given.reference_ns.tolist() == [EPOCH_NS + at * 50 * MS + 25 * MS for at in range(4)]
    assert np.abs(given.reference).max() < 1e-3


@pytest.mark.parametrize(
    ("clock", "rows"),
    [
        (Clock(offset_ns=-3 * S, align=ALIGN), ()),
        (Clock(offset_ns=-3 * S), ()),
        (Clock(offsets="o.csv", align=ALIGN), (OffsetRow(None, -3 * S, 0.0),)),
    ],
)
def test_a_declared_offset_is_used_and_compared_with_the_estimate_of_what_it_leaves(drive, clock, rows):
    estimator = Estimator(Segment(method="estimated", offset_ns=5 * MS, drift_ppm=100.0, epoch_ns=EPOCH_NS, sigma_ms=0.2))
    made = drive(clock, own=ramp(501, start=EPOCH_NS + 3 * S), ref=ramp())
    model = clock_models(*made, {"can": rows}, estimate=estimator)["can"]
    assert (model.method, model.to_reference(np.array([EPOCH_NS])).tolist()) == ("declared", [EPOCH_NS - 3 * S])
    assert estimator.given[0].own_ns[0] == EPOCH_NS
    # the estimate adds 5 ms and 100 ppm of 10 s to what was declared
    assert model.compared.largest_ms == pytest.approx(6.0)
    assert (model.compared.sigma_ms, model.compared.reason) == (0.2, "" if clock.align else model.compared.reason)


def test_pictures_are_not_read_for_a_comparison_that_nobody_asked_for(drive):
    steering = OWN.model_copy(update={"unit": "rad", "channel": "Steering.angle", "required": False})
    signals, rig, found = drive(Clock(offset_ns=0), own=ramp(), ref=ramp(), steering=steering, camera=OPTIONAL_CAMERA)
    rig = rig.model_copy(update={"sensors": {"ref": REFERENCE, "steering": steering, "camera": OPTIONAL_CAMERA}})
    found = {"ref": found["ref"], "steering": found["own"], "camera": found["ref"]}
    model = clock_models(signals, rig, found, {}, pictures=pytest.fail, estimate=Estimator())["can"]
    assert "its pictures are not at hand" in model.compared.reason


def test_a_drive_without_a_row_of_the_table_is_estimated(drive):
    model = clock_models(*drive(Clock(offsets="o.csv", align=ALIGN), own=ramp(), ref=ramp()), {"can": ()}, estimate=Estimator())[
        "can"
    ]
    assert (model.method, model.compared) == ("estimated", None)


def test_only_what_was_estimated_is_compared(drive):
    shown = Segment(method="estimated", first_ns=EPOCH_NS, last_ns=EPOCH_NS + 200 * MS, offset_ns=MS, sigma_ms=0.1)
    unknown = Segment(
        method="not observable", first_ns=EPOCH_NS + 220 * MS, last_ns=EPOCH_NS + S, reason="NOT OBSERVABLE: it stood"
    )
    made = drive(Clock(offset_ns=0, align=ALIGN), own=ramp(), ref=ramp())
    compared = clock_models(*made, {}, estimate=Estimator(shown, unknown))["can"].compared
    assert (compared.largest_ms, compared.sigma_ms) == (1.0, 0.1)
    compared = clock_models(*made, {}, estimate=Estimator(unknown, reason="NOT OBSERVABLE: it stood"))["can"].compared
    assert (compared.largest_ms, compared.sigma_ms, compared.reason) == (None, None, "NOT OBSERVABLE: it stood")


def test_what_cannot_be_is_an_error_whoever_estimates(drive):
    made = drive(Clock(scale="utc", leap_s=37), own=ramp(), ref=ramp())
    with pytest.raises(DeclarationError, match="leap_s"):
        clock_models(*made, {}, estimate=Estimator())
    signals, rig, found = drive(Clock(align=ALIGN), own=ramp(), ref=ramp())
    (signals / "can.mf4/own.parquet").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        clock_models(signals, rig, found, {}, estimate=Estimator())


def moving(t_s):
    return 10 + 4 * smooth_noise(np.random.default_rng(3), t_s, shortest=1.0, longest=60.0)


@pytest.mark.parametrize("scale", ["utc", "tai"])
def test_a_known_offset_is_found_and_a_wrong_declared_one_is_told(drive, scale):
    t_ns = EPOCH_NS + np.arange(0, 120 * S, 20 * MS)
    ahead_ns = 37 * S if scale == "tai" else 0
    own = (t_ns + ahead_ns - 1_234_567_890, moving((t_ns - EPOCH_NS) / 1e9))
    ref = (t_ns + 7 * MS, moving((t_ns + 7 * MS - EPOCH_NS) / 1e9))
    estimated = clock_models(*drive(Clock(scale=scale, align=Alignment()), own=own, ref=ref), {})["can"]
    assert estimated.method == "estimated"
    assert np.abs(estimated.to_reference(own[0]) - t_ns).max() < 2 * MS
    declared = clock_models(*drive(Clock(scale=scale, offset_ns=S, align=Alignment()), own=own, ref=ref), {})["can"]
    assert declared.compared.largest_ms == pytest.approx(234.56789, abs=2)
    assert np.array_equal(declared.to_reference(own[0]), own[0] - ahead_ns + S)


def test_a_clock_that_jumps_back_is_estimated_and_mapped_in_the_order_of_writing(drive):
    t_ns = EPOCH_NS + np.arange(0, 240 * S, 20 * MS)
    native_ns = np.where(t_ns < EPOCH_NS + 120 * S, t_ns, t_ns - 30 * S)
    values = moving((t_ns - EPOCH_NS) / 1e9)
    align = Alignment(max_offset_ms=40_000)
    model = clock_models(*drive(Clock(align=align), own=(native_ns, values), ref=(t_ns, values)), {})["can"]
    assert len(model.segments) == 2
    # another sensor on this clock, with fewer samples, is mapped as well
    for every in (1, 7, 50):
        assert np.abs(model.to_reference(native_ns[::every]) - t_ns[::every]).max() < 5 * MS
