"""What must hold of a damaged log, whatever the damage.

Belongs here: reading it in every way, and comparing. Never here: damage (mutations), processes (reader, run).

The laws: nothing but a DrivelakeError is raised; of a log that inspecting and reading find sound, they count the same; strict
reading of an MCAP ends well only if inspecting finds it sound; and where a checksum covers what was changed, every value that
is given is the value of the same message in the sound log.
"""

import time
import traceback
from collections import Counter, defaultdict
from pathlib import Path

from drivelake.errors import DrivelakeError
from drivelake.logs.findings import Findings
from drivelake.logs.opening import inspect_log, read_log
from drivelake.logs.report import Leftovers
from drivelake.logs.salvage import salvage_log, salvaged_name

SECONDS_MAX = 10.0
# pointers into the file move with what stands before them
POINTERS = frozenset({"payload_chunk", "payload_offset"})


class Oracle:
    """Judges damaged versions of one seed.

    Args:
        seed: the sound log.
        folder: for files.
    """

    def __init__(self, seed, folder):
        self.seed = seed
        self.path = folder / seed.name
        self.databases = []
        for name, data in seed.beside.items():
            (folder / name).write_bytes(data)
            self.databases.append(folder / name)
        self.path.write_bytes(seed.data)
        self.truth, _ = self._read(Findings(strict=True))
        assert self.truth, f"{seed.name} gives no rows"
        assert not inspect_log(self.path).damage, f"{seed.name} is not sound"

    def judge(self, damaged, *, salvage):
        """Every law that does not hold, a sentence each."""
        self.path.write_bytes(damaged.data)
        covered = not damaged.foreign and (
            self.seed.covers(damaged.begin, damaged.end) if damaged.in_place else self.seed.covers(0, len(self.seed.data))
        )
        began = time.monotonic()
        broken = []
        try:
            broken += self._laws(covered=covered)
            broken += self._salvage() if salvage else ()
        except Exception as error:  # noqa: BLE001 - to see whatever comes is what this is for
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = Path(place.filename).name
            broken.append(f"{type(error).__name__} at {name}:{place.lineno}: {str(error)[:200]}")
        if (seconds := time.monotonic() - began) > SECONDS_MAX:
            broken.append(f"it took {seconds:.1f} s")
        return broken

    def _laws(self, *, covered):
        report, findings = inspect_log(self.path), Findings()
        found, counts = self._read(findings)
        if not self.databases and not report.damage and not findings.sentences:
            told = {channel.name: channel.messages for channel in report.channels}
            for name, count in counts.items():
                if told.get(name, 0) != count:
                    yield f"inspecting counts {told.get(name, 0)} messages of {name!r}, reading gives {count}"
        if covered:
            yield from self._wrong(found)
        try:
            strict, _ = self._read(Findings(strict=True))
        except DrivelakeError:
            return
        if report.damage and report.format == "mcap":
            yield f"strict reading ends well, inspecting tells: {report.damage[0]}"
        if covered and strict != self.truth:
            yield "strict reading ends well and gives other rows"

    def _wrong(self, found):
        for name, rows in found.items():
            truth = self.truth.get(name, {})
            for key, values in rows.items():
                if not values <= truth.get(key, set()):
                    yield f"{name!r} at {key}: {min(values)[:150]}, the sound log has {sorted(truth.get(key, set()))[:1]}"
                    return

    def _read(self, findings):
        """Rows by table and stamps, and their number by table."""
        rows, counts = defaultdict(lambda: defaultdict(set)), Counter()
        try:
            for found in read_log(self.path, databases=self.databases, leftovers=Leftovers(), findings=findings):
                counts[found.channel] += found.batch.num_rows
                for row in found.batch.to_pylist():
                    kept = {name: value for name, value in row.items() if name not in POINTERS}
                    rows[found.channel][row["t_ns"], row.get("publish_ns")].add(repr(kept))
        except DrivelakeError:
            if findings.strict:
                raise
        return {name: dict(found) for name, found in rows.items()}, counts

    def _salvage(self):
        """What is salvaged is sound, and salvaging it again changes nothing."""
        out = self.path.with_name(f"out-{salvaged_name(self.path)}")
        again = out.with_name(f"again{out.suffix}")
        try:
            first = salvage_log(self.path, out)
        except DrivelakeError:
            return
        try:
            second = salvage_log(out, again)
            if second.damage:
                yield f"what was salvaged is damaged: {second.damage[0]}"
            # a channel without messages leaves no trace in what is made of a bag
            once, twice = ({c.channel: c.recovered for c in made.channels if c.recovered} for made in (first, second))
            if once != twice:
                yield f"salvaging twice gives {twice}, salvaging once {once}"
        finally:
            out.unlink()
            again.unlink(missing_ok=True)
