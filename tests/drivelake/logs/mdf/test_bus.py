"""Frames of bus logging groups: as many bytes of the payloads as are needed are those that are there."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.mdf.bus import frames_of


@settings(deadline=None)
@given(st.lists(st.binary(max_size=12) | st.binary(min_size=8, max_size=8) | st.binary(min_size=60, max_size=70)), st.data())
def test_payloads_of_which_less_is_needed_are_the_first_bytes_of_the_whole_ones(payloads, data):
    lengths = [data.draw(st.integers(0, len(payload) + 1)) for payload in payloads]
    arrays = [pa.array(range(len(payloads)), pa.int64()), pa.array([7] * len(payloads), pa.uint32())]
    arrays += [pa.array(payloads, pa.binary()), pa.array(lengths, pa.uint8())]
    names = ["t_ns", *(f"CAN_DataFrame.{name}" for name in ("ID", "DataBytes", "DataLength"))]
    batch = pa.RecordBatch.from_arrays(arrays, names=names)
    whole, wrong = frames_of(batch, "can.frames")
    some, also_wrong = frames_of(batch, "can.frames", 8)
    assert wrong == also_wrong
    assert some.data.shape == (len(whole.t_ns), 8)
    assert (some.data == whole.data[:, :8]).all()
    assert all((one == other).all() for one, other in zip(some[:-1], whole[:-1], strict=True))
    held = [(p, n) for p, n in zip(payloads, lengths, strict=True) if n <= min(len(p), 64)]
    assert [row[:n].tobytes() for row, (_, n) in zip(whole.data, held, strict=True)] == [p[:n] for p, n in held]
    assert not np.any(whole.data[np.arange(whole.data.shape[1]) >= whole.length[:, None]])
