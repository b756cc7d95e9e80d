"""The domain: from raw drive logs to verified artefacts. Never imports dagster.

Rooms, in the order the data flows; a later room may import an earlier one, never the reverse:
``logs`` -> ``frames`` -> ``datasets`` -> ``learning`` -> ``gates`` -> ``evidence``.
Under all of them: ``errors``, ``declaration``, ``manifest``, ``versions``, ``lake``.
"""

__version__ = "0.1.0"
