"""Frames for the tests of buses: from rows, from what asammdf reads of a recorded log, and decoded by cantools."""

from collections import Counter

import numpy as np

from drivelake.logs.buses.frames import Frames


def frames_from(rows):
    """Frames of ``(t_ns, bus, id, extended, payload)`` rows."""
    longest = max((len(row[4]) for row in rows), default=0)
    data = np.zeros((len(rows), 8 if longest <= 8 else 64), np.uint8)
    for line, row in zip(data, rows, strict=True):
        line[: len(row[4])] = list(row[4])
    lengths = np.array([len(row[4]) for row in rows], np.uint8)
    columns = [np.array([row[i] for row in rows], kind) for i, kind in enumerate((np.int64, np.uint8, np.uint32, bool))]
    return Frames(*columns, lengths, lengths, data)


def rows_from(frames):
    """The inverse of :func:`frames_from`."""
    payloads = [line.tobytes()[:length] for line, length in zip(frames.data, frames.length.tolist(), strict=True)]
    columns = (frames.t_ns, frames.bus, frames.id, frames.extended)
    return list(zip(*(column.tolist() for column in columns), payloads, strict=True))


def recorded_frames(path):
    """The CAN data frames of a recorded log, group by group, as asammdf reads them."""
    from asammdf import MDF

    found = []
    with MDF(path, process_bus_logging=False) as mdf:
        for index, group in enumerate(mdf.groups):
            names = {
                channel.name.rsplit(".", 1)[-1]: i
                for i, channel in enumerate(group.channels)
                if channel.name.startswith("CAN_DataFrame.")
            }
            if not {"ID", "DataBytes"} <= set(names) or not group.channel_group.cycles_nr:
                continue
            column = {n: mdf.get(group=index, index=i, samples_only=True)[0] for n, i in names.items()}
            seconds = mdf.get_master(index)
            raw = column["ID"].astype(np.uint32)
            extended = (raw >> 31).astype(bool) | (column["IDE"].astype(bool) if "IDE" in column else False)
            length = column.get("DataLength", column["DLC"]).astype(np.uint8)
            data = np.zeros((len(raw), 8 if length.max() <= 8 else 64), np.uint8)
            width = min(data.shape[1], column["DataBytes"].shape[1])
            data[:, :width] = column["DataBytes"][:, :width]
            data[np.arange(data.shape[1]) >= length[:, None]] = 0
            bus = column["BusChannel"].astype(np.uint8) if "BusChannel" in column else np.zeros(len(raw), np.uint8)
            stamps = mdf.header.abs_time + np.rint(seconds * 1e9).astype(np.int64)
            found.append(Frames(stamps, bus, raw & 0x1FFFFFFF, extended, column["DLC"].astype(np.uint8), length, data))
    return found


def counted(parts):
    """Frames by (bus, id, extended)."""
    seen = Counter()
    for frames in parts:
        seen.update(zip(frames.bus.tolist(), frames.id.tolist(), frames.extended.tolist(), strict=True))
    return seen
