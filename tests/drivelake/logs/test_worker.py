"""What a log does to the process that reads it costs that log only, and the report says so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from asammdf import Signal

from drivelake.errors import DrivelakeError, InputError, LogDamaged
from drivelake.logs import Caps, ReaderProcess, in_readers, inspect_log, isolation
from tests.drivelake.logs.making import write_mdf

# A worker whose "logs" say what reading them does to it.
MISBEHAVING = """
import os, re, resource, signal, sys, time
import numpy as np
from drivelake.errors import InputError
from drivelake.logs import worker

served = []

def inspect(path, name, threads):
    word = open(path).read()
    served.append(word)
    if word == "segfault" or (word == "second" and len(served) > 1):
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "abort":
        os.abort()
    if word == "sleep":
        time.sleep(1000)
    if word == "hold the lock of the interpreter":
        re.match("(a+)+b", "a" * 100)
    if word == "bomb":
        held = [np.ones(10_000_000) for _ in range(1000)]
    if word.startswith("fork"):
        if child := os.fork():
            open(path + ".child", "w").write(str(child))
            if word == "fork and crash":
                os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(1000)
    if word == "close":
        os.closerange(3, 100)
        time.sleep(1000)
    if word == "raise":
        raise KeyError("never expected")
    if word == "import":
        import no_such_library
    if word == "refuse":
        raise InputError("The bus is wrong.", next_step="take another")
    if word == "talk":
        print("x" * 200_000)
        print("y" * 200_000, file=sys.stderr)
        os.write(1, b"not JSON")
    limits = {k: resource.getrlimit(getattr(resource, k))[0] for k in ("RLIMIT_DATA", "RLIMIT_CORE")}
    return {"pid": os.getpid(), "served": list(served), "threads": threads, "group": os.getpgid(0), **limits}

worker.main(sys.argv[1:], {"inspect": inspect})
"""
# A process that reads one log, and says which process does so for it.
PARENT = """
import sys
from pathlib import Path
from drivelake.logs import ReaderProcess
with ReaderProcess(command=(sys.executable, sys.argv[1])) as reader:
    print(reader.ask("inspect", Path(sys.argv[2]), {"path": sys.argv[2], "name": ""})["pid"], flush=True)
    reader.ask("inspect", Path(sys.argv[3]), {"path": sys.argv[3], "name": ""})
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("script") / "misbehaving.py"
    file.write_text(MISBEHAVING)
    return file


@pytest.fixture(scope="module")
def misbehaving(script):
    """One reader for all: what it went through in one test must not matter in the next."""
    with ReaderProcess(command=(sys.executable, str(script))) as reader:
        yield reader


@pytest.fixture
def ask(misbehaving, tmp_path):
    """Ask about a log that holds the given word."""

    def asked(word, seconds=20.0):
        misbehaving.caps = Caps(memory_mb=300, seconds=seconds)
        log = tmp_path / "log.mcap"
        log.write_text(word)
        return misbehaving.ask("inspect", log, {"path": str(log), "name": "log.mcap"})

    return asked


def gone(pid, seconds=10):
    """Whether a process ends within a time, or is a zombie by then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_report_is_the_same_as_without_a_process(tmp_path):
    log = write_mdf(tmp_path / "a.mf4", [("g", [Signal(np.arange(40.0), np.arange(40.0), name="x")])])
    damaged = tmp_path / "b.mf4"
    damaged.write_bytes(log.read_bytes()[:-100])
    with ReaderProcess() as reader:
        for path in (log, damaged):
            assert reader.inspect(path, name="in/drive.mf4") == inspect_log(path, name="in/drive.mf4")


def test_one_process_reads_all_logs_of_a_drive(ask):
    first, second = ask("a"), ask("b")
    assert first["pid"] == second["pid"] != os.getpid()
    assert second["served"][-2:] == ["a", "b"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("segfault", "The reader died of SIGSEGV on it."),
        ("abort", "The reader died of SIGABRT on it."),
        ("raise", "The reader failed with KeyError on it."),
        ("bomb", "Reading it takes more than 300 MB of memory, the declared cap."),
    ],
)
def test_a_log_that_ends_its_reader_is_damaged_and_the_next_one_is_read(ask, word, sentence):
    with pytest.raises(LogDamaged) as caught:
        ask(word)
    assert caught.value.message == sentence
    assert ask("sound")["served"] == ["sound"], "a fresh process"


@pytest.mark.parametrize("word", ["sleep", "hold the lock of the interpreter"])
def test_a_log_that_is_read_for_ever_ends_at_the_cap(ask, word):
    before, begun = ask("sound"), time.monotonic()
    with pytest.raises(LogDamaged, match=r"did not end within 0\.5 s"):
        ask(word, seconds=0.5)
    assert time.monotonic() - begun < 10
    assert gone(before["pid"])


@pytest.mark.parametrize("word", ["fork", "fork and crash"])
def test_no_process_outlives_the_reader_that_made_it(ask, tmp_path, word):
    with pytest.raises(LogDamaged):
        ask(word, seconds=2.0)
    assert gone(int((tmp_path / "log.mcap.child").read_text()))


def test_the_cap_on_time_grows_with_the_log():
    caps = Caps(seconds=120, seconds_per_gb=600)
    assert [caps.seconds_for(size) for size in (0, 10**8, 10**9, 10**10)] == [120, 120, 600, 6000]


def test_a_reader_that_closes_its_output_and_goes_on_is_ended(ask, monkeypatch):
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.2)
    with pytest.raises(LogDamaged, match="closed its output"):
        ask("close")


def test_a_reader_that_says_too_much_is_ended(ask, monkeypatch):
    monkeypatch.setattr(isolation, "ANSWER_BYTES_MAX", 100)
    with pytest.raises(LogDamaged, match="says more than"):
        ask("x" * 200)


def test_what_an_earlier_log_did_to_the_process_does_not_condemn_the_next(ask):
    ask("first")
    assert ask("second")["served"] == ["second"], "it crashed in the used process, and was read in a fresh one"


def test_a_reader_stopped_from_outside_blames_no_log(ask):
    with pytest.raises(DrivelakeError, match="stopped from outside, with SIGKILL") as caught:
        ask("killed")
    assert not isinstance(caught.value, LogDamaged)


def test_a_library_that_is_not_there_blames_no_log(ask):
    with pytest.raises(
        DrivelakeError, match="not installed well: ModuleNotFoundError: No module named 'no_such_library'"
    ) as caught:
        ask("import")
    assert not isinstance(caught.value, LogDamaged)


def test_an_error_of_the_domain_arrives_under_its_own_name(ask):
    with pytest.raises(InputError) as caught:
        ask("refuse")
    assert (type(caught.value), caught.value.message, caught.value.next_step) == (InputError, "The bus is wrong.", "take another")
    assert ask("sound")["served"][-2:] == ["refuse", "sound"], "it goes on in the same process"


def test_what_libraries_print_is_no_answer(ask):
    assert ask("talk")["served"][-1] == "talk"
    assert ask("sound")["served"][-2:] == ["talk", "sound"]


def test_the_process_is_capped(ask, misbehaving):
    misbehaving.close()
    found = ask("sound")
    assert (found["RLIMIT_DATA"], found["RLIMIT_CORE"]) == (300_000_000, 0)
    assert found["group"] == found["pid"]


def test_the_process_ends_with_its_reader(script, tmp_path):
    log = tmp_path / "a.mcap"
    log.write_text("sound")
    with ReaderProcess(command=(sys.executable, str(script))) as reader:
        pid = reader.ask("inspect", log, {"path": str(log), "name": ""})["pid"]
    assert gone(pid, seconds=0.5)


@pytest.mark.parametrize("word", ["sleep", "hold the lock of the interpreter"])
def test_the_process_ends_when_its_parent_is_killed(script, tmp_path, word):
    sound, hanging = tmp_path / "a.mcap", tmp_path / "b.mcap"
    sound.write_text("sound")
    hanging.write_text(word)
    command = [sys.executable, "-c", PARENT, str(script), str(sound), str(hanging)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_a_log_that_is_not_there_is_no_damage(tmp_path):
    with ReaderProcess() as reader, pytest.raises(FileNotFoundError):
        reader.inspect(tmp_path / "absent.mcap")


def test_a_log_that_never_gives_a_byte_is_told_in_its_report(tmp_path):
    os.mkfifo(tmp_path / "pipe.mcap")
    with ReaderProcess(Caps(seconds=1.0)) as reader:
        report = reader.inspect(tmp_path / "pipe.mcap")
    assert report.damage == ("Reading it did not end within 1 s, the declared cap.",)
    assert report.verdict == "lost"


def test_a_reader_that_cannot_start_says_what_it_said(tmp_path):
    log = tmp_path / "a.mcap"
    log.write_text("sound")
    command = (sys.executable, "-c", "raise SystemExit('the library is broken')")
    with ReaderProcess(command=command) as reader, pytest.raises(DrivelakeError, match="the library is broken") as caught:
        reader.inspect(log)
    assert not isinstance(caught.value, LogDamaged), "nothing is known of the log"


def test_several_readers_give_their_results_in_order(tmp_path):
    logs = []
    for rows in (30, 3, 20, 7):
        signals = [Signal(np.arange(float(rows)), np.arange(float(rows)), name="x")]
        logs.append(write_mdf(tmp_path / f"{rows}.mf4", [("g", signals)]))
    reports = in_readers(logs, lambda reader, log: reader.inspect(log))
    assert [report.messages for report in reports] == [30, 3, 20, 7]
