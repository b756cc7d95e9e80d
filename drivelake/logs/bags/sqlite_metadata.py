"""``metadata.yaml`` beside a ROS 2 bag. Belongs here: reading it, as far as it can be held against the bag.

Never here: the bag.

Format: https://github.com/ros2/rosbag2, ``rosbag2_storage/bag_metadata.hpp``, versions 1 to 9.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, Field, ValidationError

from drivelake.logs.findings import Findings

__all__ = ["Metadata", "read_metadata"]

METADATA_BYTES_MAX = 16 << 20
REASON_CHARACTERS_MAX = 500


class _TopicMetadata(BaseModel):
    name: str
    type: str


class _TopicCount(BaseModel):
    topic_metadata: _TopicMetadata
    message_count: int


class _FileCount(BaseModel):
    path: str
    message_count: int


class Metadata(BaseModel):
    """``metadata.yaml``, as far as it can be held against a bag."""

    message_count: int
    topics_with_message_count: list[_TopicCount] = Field(default_factory=list)
    relative_file_paths: list[str] = Field(default_factory=list)
    files: list[_FileCount] = Field(default_factory=list)
    ros_distro: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Messages by topic."""
        counts: dict[str, int] = {}
        for topic in self.topics_with_message_count:
            counts[topic.topic_metadata.name] = counts.get(topic.topic_metadata.name, 0) + topic.message_count
        return counts

    @property
    def kinds(self) -> dict[str, str]:
        """Types by topic."""
        return {topic.topic_metadata.name: topic.topic_metadata.type for topic in self.topics_with_message_count}

    def of_file(self, name: str) -> int | None:
        """Messages of one file, where the metadata tell."""
        counts = [file.message_count for file in self.files if Path(file.path).name == name]
        return counts[0] if counts else self.message_count if len(self.relative_file_paths) == 1 else None


class _Document(BaseModel):
    rosbag2_bagfile_information: Metadata


def read_metadata(path: Path, findings: Findings) -> Metadata | None:
    """``metadata.yaml`` beside a bag, if it is there and speaks of this file."""
    beside = path.with_name("metadata.yaml")
    if not beside.is_file():
        findings.note("No metadata.yaml stands beside the bag, so nothing promises how many messages it has.")
        return None
    try:
        if beside.stat().st_size > METADATA_BYTES_MAX:
            raise ValueError(f"{beside.stat().st_size} bytes, at most {METADATA_BYTES_MAX} are read")  # noqa: TRY301
        found = _Document.model_validate(yaml.safe_load(beside.read_text(encoding="utf-8"))).rosbag2_bagfile_information
    except (yaml.YAMLError, ValueError, ValidationError, RecursionError) as error:
        reason = " ".join(str(error).split())[:REASON_CHARACTERS_MAX]
        findings.note(f"metadata.yaml beside the bag cannot be read, so its counts are not checked: {reason}")
        return None
    if path.name not in {Path(name).name for name in found.relative_file_paths}:
        findings.note(f"metadata.yaml beside the bag does not name {path.name}, so its counts are not checked.")
        return None
    return found
