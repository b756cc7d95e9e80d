"""Configuration turned into domain objects. Belongs here: what Dagster hands to assets and sensors. Never: logic."""

from resources.lake import LakeResource

__all__ = ["LakeResource"]
