"""The Foxglove layout beside an MCAP file. Belongs here: which panels open, and on which topics.

Never here: writing topics. Only topics that were written are named. Lichtblick reads the same layouts.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from pydantic import JsonValue

from drivelake.viewer.scene import LOCAL_FRAME

__all__ = ["foxglove_layout"]

PICTURES = ("foxglove.CompressedImage", "foxglove.RawImage", "foxglove.CompressedVideo")
CLOUD, POSE, POSES, FIX = "foxglove.PointCloud", "foxglove.PoseInFrame", "foxglove.PosesInFrame", "foxglove.LocationFix"

Config = dict[str, JsonValue]


def foxglove_layout(
    schemas: Mapping[str, str], plots: Mapping[str, Sequence[str]], frame_ids: Mapping[str, str], mounted: Collection[str] = ()
) -> bytes:
    """A layout as Foxglove imports it.

    Args:
        schemas: schema of every topic that was written, by its name.
        plots: message paths of values by their unit; each unit gets a plot of its own.
        frame_ids: the frame of each payload's topic.
        mounted: frames that stand on the vehicle, so that clouds in them have a place beside the trajectory.

    Returns:
        JSON, UTF-8; the same topics give the same bytes.
    """
    clouds = [topic for topic, schema in schemas.items() if schema == CLOUD]
    ego = {topic: _motion(schema) for topic, schema in schemas.items() if schema in (POSE, POSES)}
    seen = [_picture(topic) for topic, schema in schemas.items() if schema in PICTURES]
    seen += [_space(topic, frame_ids[topic], {topic: _points()}) for topic in clouds]
    if ego:
        beside = {topic: _points() for topic in clouds if frame_ids[topic] in mounted}
        seen.append(_trajectory(ego | beside))
    fixes = [topic for topic, schema in schemas.items() if schema == FIX]
    if fixes:
        seen.append(
            ("map", {"layer": "map", "followTopic": fixes[0], "disabledTopics": [], "topicColors": {}, "customTileUrl": ""})
        )
    drawn = [_plot(unit, paths) for unit, paths in plots.items() if paths]
    panels: dict[str, JsonValue] = {}
    columns = []
    for column in (seen, drawn):
        names = [f"{kind}!drivelake{len(panels) + at}" for at, (kind, _) in enumerate(column)]
        panels.update({name: config for name, (_, config) in zip(names, column, strict=True)})
        if names:
            columns.append(_split(names, "column"))
    layout = {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _split(columns, "row") if columns else None,
    }
    return (json.dumps(layout, indent=1, ensure_ascii=False) + "\n").encode()


def _split(parts: Sequence[JsonValue], direction: str) -> JsonValue:
    """Parts of the same size, as the binary tree that layouts are."""
    first, *rest = parts
    if not rest:
        return first
    return {
        "direction": direction,
        "first": first,
        "second": _split(rest, direction),
        "splitPercentage": round(100 / len(parts), 2),
    }


def _picture(topic: str) -> tuple[str, Config]:
    return "Image", {"imageMode": {"imageTopic": topic}, "foxglovePanelTitle": topic}


def _points() -> Config:
    """Points coloured by their height."""
    return {"visible": True, "colorField": "z", "colorMode": "colormap", "colorMap": "turbo"}


def _motion(schema: str) -> Config:
    return {"visible": True, "type": "line", "lineWidth": 0.5} if schema == POSES else {"visible": True, "type": "arrow"}


def _space(title: str, frame_id: str, shown: Mapping[str, Config]) -> tuple[str, Config]:
    """Clouds in their own frame: without a calibration nothing says where their sensor stands."""
    return "3D", {"foxglovePanelTitle": title, "followMode": "follow-pose", "followTf": frame_id, "topics": dict(shown)}


def _trajectory(shown: Mapping[str, Config]) -> tuple[str, Config]:
    """The trajectory from above, east to the right."""
    kind, config = _space("trajectory", LOCAL_FRAME, shown)
    return kind, config | {
        "followMode": "follow-none",
        "layers": {"grid": {"layerId": "foxglove.Grid", "instanceId": "grid", "visible": True, "size": 200, "divisions": 20}},
        "cameraState": {"perspective": False, "distance": 200, "phi": 0, "thetaOffset": 0, "target": [0, 0, 0]},
    }


def _plot(unit: str, paths: Sequence[str]) -> tuple[str, Config]:
    """All values of one unit; time is that of the log, which is the aligned clock."""
    lines: list[JsonValue] = [
        {"value": path, "enabled": True, "timestampMethod": "receiveTime", "label": path.split("/")[-1].removesuffix(".value")}
        for path in paths
    ]
    return "Plot", {
        "foxglovePanelTitle": unit or "no unit",
        "paths": lines,
        "xAxisVal": "timestamp",
        "showLegend": True,
        "legendDisplay": "floating",
        "isSynced": True,
    }
