"""The policy: who may state what, and what an artefact needs. Belongs here: its fields, its defaults, its file.

Never here: checking a statement against it. It is pinned in the trust folder, outside of any bundle that is verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drivelake.errors import Conflict, NotFound, VerificationFailed
from drivelake.evidence.keys import PUBLIC_SUFFIX, PublicKey, create_once

__all__ = ["APPROVAL", "INVENTORY", "POLICY_FILE", "PROVENANCE", "TEST_RESULT", "Policy"]

# The names of the two foreign predicate types are given by SLSA 1.0 and in-toto; ours claim no web site.
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
INVENTORY: Final = "urn:drivelake:predicate:ingest-inventory:v1"
APPROVAL: Final = "urn:drivelake:predicate:approval:v1"

POLICY_FILE = "policy.json"

# A word that nobody knows would silently demand nothing: each must be one of these.
Role = Literal["runner", "logger", "log", "approver"]
Kind = Literal[
    "https://slsa.dev/provenance/v1",
    "https://in-toto.io/attestation/test-result/v0.1",
    "urn:drivelake:predicate:ingest-inventory:v1",
    "urn:drivelake:predicate:approval:v1",
]
Judged = Literal["checkpoints", "soc_artefacts"]
Gate = Literal["checkpoint", "artefact"]


class Policy(BaseModel):
    """Which role may sign which predicate type, where the log comes from, and what an artefact needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    # C2SP signed-note: a key name holds neither spaces nor a plus sign
    log_origin: str = Field(pattern=r"^[^\s+]{1,200}$", description="first line of the log's checkpoints")
    roles: dict[Kind, tuple[Role, ...]] = Field(description="predicate type -> roles whose keys may sign it")
    gates: dict[Judged, tuple[Gate, ...]] = Field(default_factory=dict, description="asset -> gates that must have PASSED")
    key_ids: dict[Role, str] = Field(default_factory=dict, description="role -> id of the one key that may speak for it")
    approvals: tuple[Judged, ...] = Field(default=(), description="assets that need a signed approval")

    @model_validator(mode="after")
    def _separates_making_from_approving(self) -> Policy:
        making = {*self.roles.get(PROVENANCE, ()), *self.roles.get(TEST_RESULT, ())}
        both = sorted(making & {*self.roles.get(APPROVAL, ())})
        if both:
            raise ValueError(f"role {both[0]!r} may both make and approve")
        return self

    @classmethod
    def default(cls, origin: str = "drivelake/evidence", *, keys: Mapping[str, PublicKey] | None = None) -> Policy:
        """Runner makes and measures, logger takes in, approver approves; checkpoints and artefacts need their gate."""
        return cls(
            log_origin=origin,
            key_ids={role: key.keyid for role, key in (keys or {}).items()},  # type: ignore[misc]  # checked on construction
            roles={PROVENANCE: ("runner",), TEST_RESULT: ("runner",), INVENTORY: ("logger",), APPROVAL: ("approver",)},
            gates={"checkpoints": ("checkpoint",), "soc_artefacts": ("artefact",)},
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical policy (RFC 8785): what a report names as the policy it judged by."""
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()

    @classmethod
    def load(cls, trust_folder: Path) -> Policy:
        """The policy in ``trust_folder``.

        Raises:
            NotFound: there is none.
            VerificationFailed: it is not a policy; the message names the key.
        """
        path = trust_folder / POLICY_FILE
        try:
            raw = path.read_bytes()
            policy = cls.model_validate_json(raw)
        except FileNotFoundError:
            raise NotFound(f"There is no policy at {path}.", next_step="create the keys, or name the trust folder") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise VerificationFailed(
                f"{path} is not a policy: {'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}.",
                next_step="restore the pinned policy",
            ) from None
        if policy.as_bytes() != raw:
            raise VerificationFailed(f"{path} is not in the form it is written in.", next_step="restore the pinned policy")
        return policy

    def require_keys(self, keys: Mapping[str, PublicKey]) -> None:
        """Pass only keys that are the pinned ones, where any is pinned for their role.

        Raises:
            VerificationFailed: names the file of the first that is not.
        """
        for role, keyid in self.key_ids.items():
            found = keys[role].keyid if role in keys else "none"
            if found != keyid:
                raise VerificationFailed(
                    f"trust/{role}{PUBLIC_SUFFIX} holds key {found[:12]}, the policy pins {keyid[:12]}.",
                    next_step="restore the trust folder from your own copy",
                )

    def as_bytes(self) -> bytes:
        """The file: sorted keys, two spaces, a line end; any other byte in it is a change somebody made."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    def save(self, trust_folder: Path) -> Path:
        """Pin the policy in ``trust_folder``; saving the same one again changes nothing.

        Raises:
            Conflict: another policy is pinned there.
        """
        path = trust_folder / POLICY_FILE
        if not create_once(path, self.as_bytes()) and (pinned := Policy.load(trust_folder)) != self:
            raise Conflict(
                f"{path} pins policy {pinned.digest[:12]}, expected {self.digest[:12]}.",
                next_step="change the policy by hand, so that the change is somebody's decision; nothing was changed",
            )
        return path
