"""Small pictures for people. Belongs here: a strip of thumbnails from JPEG payloads. Never here: pictures to learn from."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa

__all__ = ["JPEG_MAGIC", "evenly", "strip"]

QUALITY = 70
JPEG_MAGIC = b"\xff\xd8\xff"


def evenly(rows: int, count: int) -> pa.Int64Array:
    """Up to ``count`` row numbers, evenly spaced from the first; none of no rows."""
    shown = min(rows, count)
    return pa.array([i * rows // shown for i in range(shown)], pa.int64())


def strip(jpegs: Sequence[bytes], *, height_px: int = 72) -> bytes:
    """One JPEG with the given pictures side by side, each scaled to ``height_px``; empty bytes for no picture.

    What is no JPEG (a point cloud, say) is not shown: a strip is for people and must not stop a step.
    """
    from PIL import Image

    thumbnails = []
    for jpeg in (j for j in jpegs if j.startswith(JPEG_MAGIC)):
        with Image.open(io.BytesIO(jpeg)) as picture:
            width = max(1, round(picture.width * height_px / picture.height))
            thumbnails.append(picture.convert("RGB").resize((width, height_px)))
    if not thumbnails:
        return b""
    whole = Image.new("RGB", (sum(t.width + 2 for t in thumbnails) - 2, height_px))
    left = 0
    for thumbnail in thumbnails:
        whole.paste(thumbnail, (left, 0))
        left += thumbnail.width + 2
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
