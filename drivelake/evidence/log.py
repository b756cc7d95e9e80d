"""The append-only log of envelopes, tamper-evident. Belongs here: its two files, their order of writing, their checks.

Never here: what the envelopes say, and whether their signatures hold (statements open them).

    log.jsonl    one envelope a line, in the order they were appended
    checkpoint   signed note over origin, number of lines, Merkle root over the lines

Lines are durable before the checkpoint that covers them, and the checkpoint is replaced by a rename. A kill leaves at
most lines past the checkpoint, which the next append adopts, and half a line, which it cuts. Covered lines are never
touched. A checkpoint of size 0 stands before the first line, so lines without a checkpoint were not left by a kill.
What the two files alone cannot show is that both were put back to an earlier state, or rewritten with the log's own
key: that takes a checkpoint that was kept elsewhere (``consistent_with``, ``witness``).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from drivelake.errors import NotFound, StoreError, VerificationFailed
from drivelake.evidence.checkpoint import Checkpoint
from drivelake.evidence.keys import PublicKey, Signer, sync_folder
from drivelake.evidence.predicates import TestResult
from drivelake.evidence.statements import parse_envelope, payload_holds
from drivelake.manifest import merkle_root

__all__ = ["EvidenceLog"]

LOG_FILE = "log.jsonl"
CHECKPOINT_FILE = "checkpoint"
Lines = Callable[[], Iterator[bytes]]
RESTORE = "compare the evidence folder with a copy, find out what changed it, and restore it"


class EvidenceLog:
    """A folder with the log's two files. Safe for many processes; an append needs memory for one line."""

    def __init__(
        self,
        folder: Path,
        *,
        origin: str,
        public_keys: Mapping[str, PublicKey],
        signer: Signer | None = None,
        witness: Path | None = None,
    ) -> None:
        """Name the log; nothing is read yet.

        Args:
            folder: exists.
            origin: first line of every checkpoint, from the policy.
            public_keys: trusted keys by role; ``log`` is the one that counts here.
            signer: the private key of ``log``; without it the log is only read.
            witness: a file outside of ``folder``, e.g. beside the private key, in which every append keeps its checkpoint.
                A log that was put back to before it is refused, and never signed on top of.

        Raises:
            NotFound: no trusted key for ``log``.
            VerificationFailed: the signer's key is not the trusted one.
        """
        if "log" not in public_keys:
            raise NotFound("There is no trusted key for role 'log'.", next_step="name the trust folder that holds log.pub.pem")
        if signer is not None and signer.public != public_keys["log"]:
            raise VerificationFailed(
                f"The log's private key is {signer.public.keyid[:12]}, trusted is {public_keys['log'].keyid[:12]}.",
                next_step="use the private key that belongs to the trusted one",
            )
        self.folder, self.origin, self.witness = folder, origin, witness
        self._key, self._signer = public_keys["log"], signer

    def append(self, envelopes: Sequence[bytes]) -> int:
        """Append envelopes, all covered by one new checkpoint; one that is in the log already is not appended again.

        Also finishes what a kill left behind; appending nothing does only that.

        Returns:
            The number of lines in the log.

        Raises:
            StoreError: no signer, or the folder cannot be written.
            VerificationFailed: not an envelope, or the log does not agree with its checkpoint; nothing was written.
        """
        if self._signer is None:
            raise StoreError("The evidence log was opened without its private key.", next_step="append where the key is")
        for position, envelope in enumerate(envelopes, start=1):
            parse_envelope(envelope, where=f"Envelope {position} of {len(envelopes)}")
        with self._locked(write=True) as handle:
            return self._append(handle, envelopes, self._signer)

    def read(self) -> list[bytes]:
        """Every envelope in order; none where no log was begun. The signatures of the envelopes are not checked here.

        With a signer, lines that a kill left past the checkpoint are adopted first; without one they are refused.

        Raises:
            VerificationFailed: the checkpoint's signature, the number of lines or their root is wrong; names the file.
            StoreError: the folder cannot be read.
        """
        covered, past = self._read()
        if past and self._signer is not None:
            self.append(())
            covered, past = self._read()
        if past:
            raise VerificationFailed(
                f"{LOG_FILE} line {len(covered) + 1} is past the checkpoint, which covers {len(covered)} lines.",
                next_step="if an append was killed, append again where the log's key is; otherwise find out who added it",
            )
        return covered

    def about(self, subject_sha256: str) -> list[bytes]:
        """The envelopes that speak of a digest, oldest first; the log is verified, the envelopes are for the caller to open."""
        # most lines do not even hold the digest; parsing those in full would cost a hundred times as much
        candidates = (raw for raw in self.read() if payload_holds(raw, subject_sha256))
        return [raw for raw in candidates if any(s.digest.sha256 == subject_sha256 for s in parse_envelope(raw).subject)]

    def find(self, subject_sha256: str, predicate_type: str, *, gate: str = "") -> bytes | None:
        """The newest envelope of a type about a digest (and, if named, of a gate); None for none. As :meth:`about`."""
        for raw in reversed(self.about(subject_sha256)):
            statement = parse_envelope(raw)
            of_gate = not gate or (isinstance(statement.predicate, TestResult) and statement.predicate.gate == gate)
            if statement.predicate_type == predicate_type and of_gate:
                return raw
        return None

    def checkpoint(self) -> str:
        """The newest checkpoint as text, its signature checked: what to hand to an outside witness.

        Raises:
            NotFound: no log was begun.
            VerificationFailed: it is damaged.
        """
        with self._locked(write=False) as handle:
            checkpoint = self._load_checkpoint(handle)
            if checkpoint is not None:
                return (self.folder / CHECKPOINT_FILE).read_text(encoding="utf-8")
        raise NotFound(f"There is no evidence log in {self.folder}.", next_step="materialise an asset first")

    def consistent_with(self, earlier: str) -> None:
        """Check that the log only grew since an earlier checkpoint, e.g. one that an outside party kept.

        Args:
            earlier: its text; signatures that witnesses added to it are not looked at.

        Raises:
            VerificationFailed: not a checkpoint of this log, or the log was cut or rewritten since.
        """
        checkpoint = Checkpoint.open_cosigned(earlier, self.origin, self._key, where="The earlier checkpoint")
        lines = self.read()
        _check_grew(checkpoint, len(lines), lambda: iter(lines), "the earlier checkpoint")

    def _append(self, handle: BinaryIO, envelopes: Sequence[bytes], signer: Signer) -> int:
        """Under the lock. The whole log is read, so that nothing is ever signed on top of lines that were changed.

        Subtree roots in a side file would make this constant, and be one more file that can disagree. With 10 000
        lines of 2.5 KiB an append takes 0.13 s, little beside any stage.
        """
        kept = self._load_witness()
        found = self._load_checkpoint(handle)
        checkpoint = found or self._empty()
        _check_covered(checkpoint, lambda: _complete_lines(handle))
        _check_kept(kept, checkpoint, lambda: _complete_lines(handle))
        if found is None:
            self._publish(checkpoint, signer)
        fresh = dict.fromkeys(envelopes)
        end = size = 0
        for line in _complete_lines(handle):
            end, size = end + len(line) + 1, size + 1
            if size > checkpoint.size:
                parse_envelope(line, where=f"{LOG_FILE} line {size}, past the checkpoint,")
            fresh.pop(line, None)
        # what follows is half a line: its writer was killed before it could say that anything was appended
        handle.truncate(end)
        handle.writelines(envelope + b"\n" for envelope in fresh)
        handle.flush()
        os.fsync(handle.fileno())
        size += len(fresh)
        if size > checkpoint.size:
            self._publish(Checkpoint(self.origin, size, merkle_root(_complete_lines(handle))), signer)
        return size

    def _publish(self, checkpoint: Checkpoint, signer: Signer) -> None:
        """Replace the checkpoint, then what the witness holds, so that the witness is never ahead of the log."""
        note = checkpoint.sign(signer).encode()
        for path in (self.folder / CHECKPOINT_FILE, self.witness):
            if path is not None:
                fresh = path.with_name(f"{path.name}.new")
                with fresh.open("wb") as handle:
                    handle.write(note)
                    handle.flush()
                    os.fsync(handle.fileno())
                fresh.replace(path)
                sync_folder(path.parent)

    def _read(self) -> tuple[list[bytes], bool]:
        """The covered lines, verified, and whether anything stands past them."""
        # read first: a log that grows meanwhile is ahead of what the witness kept, never behind it
        kept = self._load_witness()
        checkpoint, lines, half = None, list[bytes](), False
        if (self.folder / LOG_FILE).exists() or (self.folder / CHECKPOINT_FILE).exists():
            with self._locked(write=False) as handle:
                checkpoint = self._load_checkpoint(handle)
                lines = list(_complete_lines(handle))
                half = handle.tell() < handle.seek(0, os.SEEK_END)
        # without a checkpoint there is no log, or one whose first writer has not got to its first line
        checkpoint = checkpoint or self._empty()
        _check_covered(checkpoint, lambda: iter(lines))
        _check_kept(kept, checkpoint, lambda: iter(lines))
        return lines[: checkpoint.size], half or len(lines) > checkpoint.size

    @contextmanager
    def _locked(self, *, write: bool) -> Iterator[BinaryIO]:
        """The log's file, locked. It is its own lock: it is never replaced, only appended to."""
        log = self.folder / LOG_FILE
        # the checkpoint is asked first, since it is always written second
        if (self.folder / CHECKPOINT_FILE).exists() and not log.exists():
            raise VerificationFailed(f"{LOG_FILE} is missing while there is a {CHECKPOINT_FILE}.", next_step=RESTORE)
        try:
            with log.open("a+b" if write else "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
                yield handle
        except FileNotFoundError:
            raise NotFound(f"There is no evidence log in {self.folder}.", next_step="materialise an asset first") from None
        except OSError as error:
            raise StoreError(
                f"The evidence log in {self.folder} cannot be {'written' if write else 'read'}: {error.strerror}.",
                next_step="check rights and space, then do it again; nothing that was covered is lost",
            ) from None

    def _load_checkpoint(self, handle: BinaryIO) -> Checkpoint | None:
        """The checkpoint, its signature checked; None for a log that was not begun."""
        try:
            note = (self.folder / CHECKPOINT_FILE).read_bytes()
        except FileNotFoundError:
            if size := os.fstat(handle.fileno()).st_size:
                raise VerificationFailed(
                    f"{CHECKPOINT_FILE} is missing while {LOG_FILE} holds {size} bytes.", next_step=RESTORE
                ) from None
            return None
        return Checkpoint.open(note, self.origin, self._key, where=CHECKPOINT_FILE)

    def _load_witness(self) -> Checkpoint | None:
        if self.witness is None or not self.witness.exists():
            return None
        return Checkpoint.open(self.witness.read_bytes(), self.origin, self._key, where=f"The witness {self.witness.name}")

    def _empty(self) -> Checkpoint:
        return Checkpoint(self.origin, 0, merkle_root(()))


def _complete_lines(handle: BinaryIO) -> Iterator[bytes]:
    """Lines from the start of the file, without their ends; stops before a half-written one."""
    handle.seek(0)
    end = 0
    for line in handle:
        if not line.endswith(b"\n"):
            break
        end += len(line)
        yield line[:-1]
    handle.seek(end)


def _check_covered(checkpoint: Checkpoint, lines: Lines) -> None:
    """The first lines are those that the checkpoint was signed over."""
    count = 0

    def covered() -> Iterator[bytes]:
        nonlocal count
        for line in islice(lines(), checkpoint.size):
            count += 1
            yield line

    root = merkle_root(covered())
    if count != checkpoint.size:
        raise VerificationFailed(
            f"{LOG_FILE} has {count} full lines, its {CHECKPOINT_FILE} covers {checkpoint.size}.", next_step=RESTORE
        )
    if root != checkpoint.root:
        raise VerificationFailed(
            f"{LOG_FILE} has root {root.hex()[:16]} over {count} lines, "
            f"its {CHECKPOINT_FILE} signs {checkpoint.root.hex()[:16]}; {_first_suspect(islice(lines(), checkpoint.size))}.",
            next_step=RESTORE,
        )


def _check_kept(kept: Checkpoint | None, checkpoint: Checkpoint, lines: Lines) -> None:
    """Refuse a log that was put back to before the checkpoint that the witness kept."""
    if kept is not None and kept != checkpoint:
        _check_grew(kept, checkpoint.size, lines, "the witness")


def _check_grew(earlier: Checkpoint, size: int, lines: Lines, name: str) -> None:
    """The log holds what an earlier checkpoint covers, and holds it unchanged."""
    if earlier.size > size:
        raise VerificationFailed(
            f"{LOG_FILE} was cut: {name} covers {earlier.size} lines, its {CHECKPOINT_FILE} covers {size}.", next_step=RESTORE
        )
    root = merkle_root(islice(lines(), earlier.size))
    if root != earlier.root:
        raise VerificationFailed(
            f"{LOG_FILE} was rewritten: its first {earlier.size} lines have root {root.hex()[:16]}, "
            f"{name} has {earlier.root.hex()[:16]}.",
            next_step=RESTORE,
        )


def _first_suspect(lines: Iterator[bytes]) -> str:
    """A root alone does not say which line was changed; the first that is no envelope does."""
    for count, line in enumerate(lines, start=1):
        try:
            parse_envelope(line, where=f"{LOG_FILE} line {count}")
        except VerificationFailed as error:
            return error.message.removesuffix(".")
    return "every line is an envelope, so one was exchanged, moved or left out"
