"""Files of viewers by their suffix. Belongs here: which suffix is whose, and what it needs. Never here: the formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from drivelake.errors import DeclarationError, ToolMissing
from drivelake.viewer.scene import Sink

__all__ = ["check_suffix", "open_sink"]

MCAP, RERUN = ".mcap", ".rrd"


def check_suffix(out: Path) -> None:
    """Refuse early what cannot be written.

    Raises:
        DeclarationError: a suffix of no viewer.
        ToolMissing: Rerun's package is not installed.
    """
    if out.suffix not in (MCAP, RERUN):
        raise DeclarationError(
            f"{out.name} ends in {out.suffix or 'nothing'}, expected {MCAP} (Foxglove, Lichtblick) or {RERUN} (Rerun).",
            next_step="name such a file with --out",
        )
    if out.suffix == RERUN and find_spec("rerun") is None:
        raise ToolMissing(
            f"{RERUN} files need the package rerun-sdk, which is not installed.",
            next_step="make viewer, or pip install 'drivelake[viewer]'; or name an .mcap file",
        )


@contextmanager
def open_sink(path: Path, about: Mapping[str, str]) -> Iterator[Sink]:
    """A file that is being written; closed at the end, whatever happens.

    Args:
        path: of a file that is not there.
        about: what it is made from, to stand in it.
    """
    if path.suffix == RERUN:
        from drivelake.viewer.rerun_file import RerunSink

        sink = RerunSink(path, about)
        try:
            yield sink
        finally:
            sink.close()
        return
    from drivelake.viewer.mcap_file import McapSink

    with path.open("xb") as file:
        yield McapSink(file, about)
