"""Writing MDF 4 blocks: what our own reader finds in streams of every length."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.pieces import PLAIN, pieces_of
from drivelake.logs.mdf.rows import unpacked
from drivelake.logs.mdf.writing import BlockWriter, StreamWriter

START = b"MDF     4.10    tests   " + bytes(4) + (410).to_bytes(2, "little") + bytes(34)


def streamed(tmp_path, parts, *, version=410, **options):
    """Pieces of a stream that was written in parts, and its bytes as they are read back."""
    file = BytesIO()
    writer = BlockWriter(file, START)
    stream = StreamWriter(writer, "DT", version, **options)
    for part in parts:
        stream.write(np.frombuffer(part, np.uint8))
    link = stream.finish()
    writer.finish()
    (tmp_path / "stream.mf4").write_bytes(file.getvalue())
    with MdfFile(tmp_path / "stream.mf4") as found:
        pieces = pieces_of(found, link, Findings(strict=True), "the stream")
        return pieces, b"".join(unpacked(found, piece).tobytes() for piece in pieces), stream.size


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 200), max_size=12),
    row_bytes=st.integers(1, 40),
    piece_bytes=st.integers(1, 300),
    version=st.sampled_from([400, 410, 411]),
)
def test_any_parts_come_back_as_one_stream(tmp_path_factory, sizes, row_bytes, piece_bytes, version):
    rng = np.random.default_rng(sum(sizes))
    parts = [rng.bytes(size * row_bytes) for size in sizes]
    tmp_path = tmp_path_factory.mktemp("stream")
    options = {"version": version, "row_bytes": row_bytes, "piece_bytes": piece_bytes}
    pieces, data, size = streamed(tmp_path, parts, **options)
    assert data == b"".join(parts)
    assert size == len(data)
    assert all(piece.size % row_bytes == 0 for piece in pieces)
    assert all(piece.size <= max(piece_bytes, row_bytes) for piece in pieces)


@pytest.mark.parametrize(("version", "row_bytes", "packing"), [(400, 8, PLAIN), (410, 8, 1), (410, 1, 0)])
def test_records_are_packed_by_byte_planes_where_the_version_knows_it(tmp_path, version, row_bytes, packing):
    pieces, _, _ = streamed(tmp_path, [bytes(800)], version=version, row_bytes=row_bytes)
    assert [(piece.packing, piece.columns) for piece in pieces] == [(packing, row_bytes if packing == 1 else 0)]


def test_an_empty_stream_is_no_block(tmp_path):
    writer = BlockWriter(BytesIO(), START)
    assert StreamWriter(writer, "SD", 410).finish() == 0
