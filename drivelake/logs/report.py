"""What a log is found to hold, and what passes out of the readers. Belongs here: the types, what damage has
cost, which silences are worth a note.

Never here: a format, a library that reads one, a file that is opened, the statistics of stamps (stamps), what is done
about damage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import JsonValue, TypeAdapter

from drivelake.logs.findings import Findings

__all__ = [
    "ChannelReport",
    "Leftovers",
    "LogBatch",
    "LogReport",
    "Recovery",
    "recovered_share",
    "recoveries",
    "silences",
    "unusable",
]

STEADY_MESSAGES_MIN = 20
STEADY_MEDIANS_MAX = 2
SILENCE_MEDIANS = 50
SILENCE_NS_MIN = 5_000_000_000

Verdict = Literal["sound", "salvaged", "lost"]


@dataclass(frozen=True)
class Recovery:
    """What of one channel could be read.

    Attributes:
        channel: topic, or name of the channel group.
        expected: messages that the log promises; None where it promises none.
        recovered: messages read.
        lost: messages known to be lost; None where damage may have cost some and nothing tells how many.
        why: what cost them, at most 8 sentences.
    """

    channel: str
    expected: int | None
    recovered: int
    lost: int | None
    why: tuple[str, ...]


def recoveries(findings: Findings, messages: Mapping[str, int]) -> tuple[Recovery, ...]:
    """What the findings of a log say about each of its channels.

    Args:
        findings: as the reader left them.
        messages: readable ones by channel; a channel that only the findings know has none.
    """
    told = {sentence for reasons in findings.reasons.values() for sentence in reasons}
    # what is bound to no channel may have cost any of them
    anywhere = not told.issuperset(findings.sentences)
    found = []
    for name in sorted({*messages, *findings.expected, *findings.reasons}):
        expected, recovered = findings.expected.get(name), messages.get(name, 0)
        known, why = findings.lost.get(name, 0), tuple(findings.reasons.get(name, ()))
        lost: int | None
        if expected is not None:
            lost = max(expected - recovered, known)
        elif known:
            lost = known
        else:
            lost = None if why or anywhere else 0
        found.append(Recovery(name, expected, recovered, lost, why))
    return tuple(found)


def recovered_share(found: Iterable[Recovery]) -> float | None:
    """Recovered of promised messages, 0 to 1, over the channels that promise some; None where none does."""
    promising = [channel for channel in found if channel.expected]
    expected = sum(channel.expected or 0 for channel in promising)
    return sum(min(channel.recovered, channel.expected or 0) for channel in promising) / expected if expected else None


def unusable(damage: Sequence[str], found: Collection[Recovery], keep_share: float) -> str:
    """Why nothing of a damaged log may be used; empty for a sound one, and for one of which enough was recovered.

    Args:
        damage: what is wrong with the log.
        found: what was recovered of its channels.
        keep_share: the least share of the promised messages that is enough, 0 to 1. Where none were promised, any is.
    """
    if not damage:
        return ""
    recovered = sum(channel.recovered for channel in found)
    share = recovered_share(found)
    if not recovered:
        return damage[0]
    if share is not None and share < keep_share:
        return f"{damage[0]} {share:.1%} of the promised messages could be read, at least {keep_share:.1%} are declared."
    return ""


@dataclass(frozen=True)
class ChannelReport:
    """One topic or channel group, its messages in the order they were logged.

    Attributes:
        name: topic, or name of the channel group.
        type: schema of the message, ``mdf.group`` or ``can.frames``; empty where damage hides it.
        messages: readable ones.
        first_ns: the earliest receive stamp, UTC ns; None without messages.
        last_ns: the latest receive stamp, UTC ns.
        rate_hz: one over the median gap between neighbours as logged, backward steps left out; None below two messages.
        mean_hz: gaps between messages over the time from the first to the last; far below ``rate_hz`` where messages come in
            bursts, or not all the time. None where there is no such time.
        gap_ms_max: the largest forward step between neighbours as logged.
        backward_steps: how many stamps run backwards.
        gaps: forward steps longer than five times the median, and than 50 ms: at least four messages in a row are absent,
            and the scheduling of no recorder explains it.
        backward_ms_max: the largest backward step; None without one.
        backward_jumps: backward steps of 128 ms or more, from where on NTP steps a clock and no longer slews it: the clock
            was set back, or messages were logged far out of order. A clock set forward cannot be told from silence by one
            stamp; it is counted as a gap.
        expected: messages that the log promises; None where it promises none.
        lost: as in :class:`Recovery`.
        why: as in :class:`Recovery`.
    """

    name: str
    type: str
    messages: int
    first_ns: int | None
    last_ns: int | None
    rate_hz: float | None
    gap_ms_max: float | None
    backward_steps: int
    gaps: int = 0
    backward_ms_max: float | None = None
    backward_jumps: int = 0
    expected: int | None = None
    lost: int | None = 0
    why: tuple[str, ...] = ()
    mean_hz: float | None = None

    @property
    def recovery(self) -> Recovery:
        """The part of the report that speaks of damage."""
        return Recovery(self.name, self.expected, self.messages, self.lost, self.why)


@dataclass(frozen=True)
class LogReport:
    """What one log holds and what is wrong with it.

    Attributes:
        name: path of the log inside its drive.
        format: ``mcap``, ``mdf4``, ``mdf3``, ``rosbag1``, ``rosbag2``, or ``unknown`` when the first bytes are none of them.
        bytes: size of the file.
        channels: sorted by name; for a damaged log what can be read of them.
        damage: one sentence for each contradiction, with offsets and numbers.
        notes: what limits the use of a sound log, or the reach of its checks.
    """

    name: str
    format: str
    bytes: int
    channels: tuple[ChannelReport, ...]
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether nothing contradicts the format."""
        return not self.damage

    @property
    def messages(self) -> int:
        """Readable messages of all channels."""
        return sum(channel.messages for channel in self.channels)

    @property
    def recovered_share(self) -> float | None:
        """As :func:`recovered_share` of its channels."""
        return recovered_share(channel.recovery for channel in self.channels)

    def unusable(self, keep_share: float) -> str:
        """As :func:`unusable`."""
        return unusable(self.damage, [channel.recovery for channel in self.channels], keep_share)

    @property
    def verdict(self) -> Verdict:
        """``sound``; ``salvaged``: damage, and messages that can be read; ``lost``: damage, and none that can."""
        if not self.damage:
            return "sound"
        return "salvaged" if self.messages else "lost"

    def as_dict(self) -> dict[str, JsonValue]:
        """The report as JSON values; ``readable``, ``verdict`` and ``recovered_share`` included."""
        return TypeAdapter(dict[str, JsonValue]).validate_python(
            {
                **asdict(self),
                "channels": [{**asdict(channel), "why": list(channel.why)} for channel in self.channels],
                "damage": list(self.damage),
                "notes": list(self.notes),
                "readable": self.readable,
                "verdict": self.verdict,
                "recovered_share": self.recovered_share,
            }
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, JsonValue]) -> LogReport:
        """The report that :meth:`as_dict` told.

        Raises:
            pydantic.ValidationError: it is no report.
        """
        return TypeAdapter(cls).validate_python(told)


class LogBatch(NamedTuple):
    """Consecutive rows of one channel.

    Attributes:
        channel: topic, name of a channel group, or name of a CAN message.
        type: as in :class:`ChannelReport`, or ``can.message``.
        batch: the rows; the schema is the same in every batch of a channel.
        last: no batch of this channel follows; False where the reader cannot know.
    """

    channel: str
    type: str
    batch: pa.RecordBatch
    last: bool = False


@dataclass
class Leftovers:
    """What a log holds and no table does, so that nothing is dropped in silence.

    Attributes:
        unsupported: reason by channel.
        frames: CAN frames that no database decodes, by (bus, ``0x`` id, reason).
    """

    unsupported: dict[str, str] = field(default_factory=dict)
    frames: Counter[tuple[int, str, str]] = field(default_factory=Counter)


def silences(channels: Iterable[ChannelReport]) -> list[str]:
    """A note for each silence of a channel that spoke steadily: at the begin of the log, at its end, or between.

    No byte proves that anything is missing there, so it is no damage. Steady is a channel of at least 20 messages whose steps,
    the longest left out, are on average at most twice their median: what comes in bursts or on events has no rate to miss.
    A silence is longer than 50 medians and than 5 s. Of silences in between the longest counts; ``gaps`` tells of others.
    """
    known = [channel for channel in channels if channel.first_ns is not None and channel.last_ns is not None]
    if not known:
        return []
    first, last = min(c.first_ns or 0 for c in known), max(c.last_ns or 0 for c in known)
    notes = []
    for channel in known:
        if not (median_ns := _steady_step_ns(channel)):
            continue
        late_ns, early_ns = (channel.first_ns or 0) - first, last - (channel.last_ns or 0)
        for silent_ns, words in (
            (late_ns, "begins {:.1f} s after the log does"),
            ((channel.gap_ms_max or 0) * 1e6, "is silent for {:.1f} s between two messages"),
            (early_ns, "ends {:.1f} s before the log does"),
        ):
            if silent_ns > max(SILENCE_NS_MIN, SILENCE_MEDIANS * median_ns):
                told = words.format(silent_ns / 1e9)
                notes.append(f"Channel {channel.name!r}, steady at {1e9 / median_ns:.4g} Hz, {told}.")
    return notes


def _steady_step_ns(channel: ChannelReport) -> float:
    """The median step of a channel whose steps are much alike; 0 for others."""
    if channel.messages < STEADY_MESSAGES_MIN or not channel.rate_hz:
        return 0
    longest_ns = (channel.gap_ms_max or 0) * 1e6
    rest_ns = (channel.last_ns or 0) - (channel.first_ns or 0) - longest_ns
    median_ns = 1e9 / channel.rate_hz
    return median_ns if rest_ns <= STEADY_MEDIANS_MAX * median_ns * (channel.messages - 2) else 0
