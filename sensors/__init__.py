"""When something runs: new drives, stale versions, or a person who wants all of it now. Never here: computing.

No module here may use ``from __future__ import annotations``: Dagster reads the annotations of its functions.
"""
