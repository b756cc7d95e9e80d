"""The command line: results on standard output, words on standard error, stable exit codes, no dagster where none is needed."""

import json
import os
import shutil

import pytest

from drivelake.evidence.lineage import find_version
from drivelake.lake import Lake
from tests.drivelake.cli.running import drivelake, process
from tests.drivelake.logs.making import IMU, imu, rechunk, write_mcap

COMMANDS = ["demo", "ingest", "inspect", "look", "salvage", "trace", "impact", "verify", "report", "doctor"]
# runs the command line with dagster and the network out of reach
ISOLATED = """
import socket, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dagster", "definitions", "assets", "sensors", "resources"}:
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
def refuse(*a, **k): raise OSError("the network was asked for")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
sys.argv[0] = "drivelake"
from drivelake.cli import main
main()
"""


def test_help_names_every_command():
    shown = process("--help").stdout
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_json(command):
    assert "--json" in drivelake(command, "--help").stdout


@pytest.mark.parametrize("words", [["verify"], ["trace"], ["impact", "signals_01"], ["inspect", "signals_01"]])
def test_questions_need_neither_dagster_nor_a_network(chain, words):
    done = process(*words, "--lake", chain.root, "--json", code=ISOLATED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_verify_says_verified_and_what_it_did(chain):
    done = drivelake("verify", "--lake", chain.root)
    assert done.returncode == 0
    assert "VERIFIED  soc_artefacts/steering@portable" in done.stdout
    assert "12 raw logs" in done.stdout


def test_verify_of_a_damaged_lake_names_the_file_and_exits_with_5(chain_copy):
    weights = chain_copy.head("checkpoints", "steering").path("weights.pt")
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = drivelake("verify", "--lake", chain_copy.root)
    assert done.returncode == 5
    assert weights.relative_to(chain_copy.root).as_posix() in done.stdout
    assert "NOT VERIFIED" in done.stdout
    as_json = drivelake("verify", "--lake", chain_copy.root, "--json")
    assert as_json.returncode == 5
    assert json.loads(as_json.stdout)["verified"] is False


def test_the_lake_is_found_by_option_environment_or_folder(chain, tmp_path):
    assert drivelake("trace", "--lake", chain.root).returncode == 0
    assert drivelake("trace", DRIVELAKE_LAKE=str(chain.root)).returncode == 0
    assert drivelake("trace", cwd=chain.root).returncode == 0
    lost = drivelake("trace", cwd=tmp_path)
    assert lost.returncode == 4
    assert "make demo" in lost.stderr


def test_trace_ends_at_the_raw_bytes(chain):
    shown = drivelake("trace", "--lake", chain.root).stdout
    digest = next(e.sha256 for e in chain.head("raw_logs", "signals_01").manifest.files if e.path == "logs/camera.mcap")
    assert f"sha256 {digest[:16]}" in shown


def test_impact_lists_what_contains_a_drive_and_what_left_it_out(chain):
    found = json.loads(drivelake("impact", "signals_04", "--lake", chain.root, "--json").stdout)
    assert [f["asset"] for f in found] == ["raw_logs", "signals", "sensor_frames", "curated_datasets"]
    assert found[-1]["left_out"]


@pytest.fixture
def camera_log(generated, tmp_path):
    """A camera log in many small chunks."""
    log = tmp_path / "camera.mcap"
    shutil.copy(generated / "inbox" / "signals_01" / "camera.mcap", log)
    rechunk(log)
    return log


def test_inspect_of_a_cut_log_exits_with_3_and_says_what_is_damaged_and_what_is_left(camera_log):
    os.truncate(camera_log, camera_log.stat().st_size // 2)
    done = drivelake("inspect", camera_log)
    assert done.returncode == 3
    assert "DAMAGED" in done.stdout
    (report,) = json.loads(drivelake("inspect", camera_log, "--json").stdout)
    assert (report["verdict"], report["readable"], report["recovered_share"]) == ("salvaged", False, None)
    messages = sum(channel["messages"] for channel in report["channels"])
    assert f"SALVAGED {messages} messages can be read, how many there were cannot be known" in done.stdout


def test_inspect_tells_what_each_channel_lost(camera_log):
    data = bytearray(camera_log.read_bytes())
    data[len(data) // 2] ^= 1
    camera_log.write_bytes(data)
    (report,) = json.loads(drivelake("inspect", camera_log, "--json").stdout)
    assert 0.9 < report["recovered_share"] < 1
    assert any(c["lost"] for c in report["channels"])
    for channel in report["channels"]:
        assert channel["expected"] == channel["messages"] + channel["lost"]
        assert bool(channel["why"]) is bool(channel["lost"])
    assert f"{report['recovered_share']:.2%} of those that it promises" in drivelake("inspect", camera_log).stdout


def test_inspect_of_a_log_that_holds_nothing_readable_says_lost(generated):
    done = drivelake("inspect", generated / "inbox" / "signals_04" / "camera.mcap")
    assert done.returncode == 3
    assert "LOST     no message can be read" in done.stdout


def test_inspect_needs_no_lake(generated, tmp_path):
    done = drivelake("inspect", generated / "inbox" / "signals_01", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    channels = {c["name"] for log in json.loads(done.stdout) for c in log["channels"]}
    assert {"/camera/front/image/compressed", "/imu/data"} <= channels


def test_inspect_of_less_memory_than_its_libraries_need_is_refused(generated):
    done = drivelake("inspect", generated / "inbox" / "signals_01", "--memory-mb", "100")
    assert done.returncode == 2
    assert "memory-mb" in done.stderr


def test_a_name_that_is_nothing_says_so_with_and_without_a_lake(chain, tmp_path):
    lost = drivelake("inspect", "nofile.mcap", cwd=tmp_path)
    assert lost.returncode == 4
    assert "There is no file or folder nofile.mcap" in lost.stderr
    assert "No lake here" in lost.stderr
    lost = drivelake("inspect", "nofile.mcap", "--lake", chain.root)
    assert lost.returncode == 4
    assert "There is no file or folder nofile.mcap" in lost.stderr
    assert f"There is no drive 'nofile.mcap' in {chain.inbox}" in lost.stderr


def test_a_table_that_no_terminal_shows_keeps_a_channel_on_a_line(tmp_path):
    topic = "/" + "/".join(["a_long_name"] * 12)
    (tmp_path / "a.mcap").write_bytes(write_mcap([(topic, "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(30)])]))
    shown = process("inspect", tmp_path / "a.mcap", COLUMNS="80").stdout.splitlines()
    (line,) = (line.split() for line in shown if topic in line)
    assert line == [topic, "sensor_msgs/msg/Imu", "30", "0", "100", "100", "0", "10", "0", "0"]
    assert max(map(len, shown)) < 300, "as wide as it is long"


def test_inspect_tells_of_a_channel_that_dies(tmp_path):
    topics = [(topic, "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(n)]) for topic, n in (("/on", 900), ("/off", 100))]
    (tmp_path / "a.mcap").write_bytes(write_mcap(topics))
    done = drivelake("inspect", tmp_path / "a.mcap")
    assert done.returncode == 0
    assert "NOTE     Channel '/off', steady at 100 Hz, ends 8.0 s before the log does." in done.stdout


def test_a_sound_log_that_lost_its_last_record_is_not_said_to_be_whole(shared_data):
    done = drivelake("inspect", shared_data / "corner_derived" / "mdf" / "truncated_unfinalised.MF4")
    assert done.returncode == 0
    assert "no damage found" not in done.stdout
    assert "SOUND    3189 messages, lost: 1 of " in done.stdout


def test_an_empty_folder_is_no_drive(tmp_path):
    done = drivelake("inspect", tmp_path)
    assert done.returncode == 3
    assert "holds no log" in done.stderr


def test_report_writes_one_file(chain, tmp_path):
    done = drivelake("report", "--lake", chain.root, "--out", tmp_path / "r.html", "--json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert json.loads(done.stdout)["report"] == str(tmp_path / "r.html")


def test_an_error_as_json_carries_its_code(tmp_path):
    done = drivelake("verify", "--lake", tmp_path, "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["error"] == "NotFound"
    assert json.loads(done.stdout)["exit_code"] == 4


def test_doctor_says_what_a_target_lacks_and_how_to_get_it(chain):
    found = json.loads(drivelake("doctor", "--lake", chain.root, "--json").stdout)
    assert {t["name"] for t in found["tools"]} >= {"dagster", "torch", "onnxruntime-qnn"}
    assert found["targets"] == {"portable": "ready"}


def test_ingest_lands_a_named_drive_and_again_says_that_nothing_changed(chain_copy, generated):
    shutil.copytree(generated / "inbox" / "signals_01", chain_copy.inbox / "signals_77")
    first = drivelake("ingest", "signals_77", "--lake", chain_copy.root, "--json")
    assert first.returncode == 0, first.stderr
    assert [o["status"] for o in json.loads(first.stdout)] == ["made"]
    again = drivelake("ingest", "signals_77", "--lake", chain_copy.root, "--json")
    assert [o["status"] for o in json.loads(again.stdout)] == ["current"]


def test_ingest_of_an_unreadable_drive_fails_with_its_words_and_touches_nothing(chain_copy):
    before = chain_copy.store.resolve("main")
    (chain_copy.inbox / "signals_78").mkdir()
    done = drivelake("ingest", "signals_78", "--lake", chain_copy.root)
    assert done.returncode == 1
    assert "holds 0 file(s) and no log" in done.stderr
    assert chain_copy.store.resolve("main") == before


def test_a_demo_again_makes_nothing_and_says_so(chain_copy):
    declaration = chain_copy.root / "lakehouse.yaml"
    done = drivelake("demo", "--lake", chain_copy.root, "--drives", chain_copy.inbox, "--declaration", declaration, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {o["status"] for o in said["outcomes"]} == {"current"}
    assert said["verified"] is True
    assert find_version(chain_copy, None).name == said["artefact"]


def test_another_declaration_in_the_same_lake_sets_the_first_aside_and_takes_only_its_own_drives(chain_copy, generated, tmp_path):
    recorded = tmp_path / "recorded"
    for number in (1, 2, 3):
        shutil.copytree(generated / "inbox" / f"{'bus' if number == 2 else 'signals'}_0{number}", recorded / f"tour_{number}")
    other = (chain_copy.root / "lakehouse.yaml").read_text().replace("lakehouse: demo", "lakehouse: tours")
    other = other.replace("drives: signals_*", "drives: tour_[13]").replace("drives: bus_*", "drives: tour_2")
    (tmp_path / "tours.yaml").write_text(other)

    done = drivelake("demo", "--lake", chain_copy.root, "--drives", recorded, "--declaration", tmp_path / "tours.yaml", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verified"] is True
    dataset = Lake(chain_copy.root).head("curated_datasets", "lane_keeping")
    assert {i.partition for i in dataset.manifest.inputs} == {"tour_1", "tour_2", "tour_3"}
    assert "lakehouse: demo" in (chain_copy.root / "lakehouse.demo.yaml").read_text()


def test_wrong_words_are_an_error_as_json_too():
    done = drivelake("veryfy", "--json")
    assert done.returncode == 2
    assert "veryfy" in json.loads(done.stdout)["message"]


@pytest.mark.parametrize("words", [["verify", "--witness", "/nowhere"], ["demo", "--declaration", "/nowhere"]])
def test_a_file_that_is_not_there_is_named(words):
    done = drivelake(*words)
    assert done.returncode == 2
    assert "/nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_named_drive_that_is_not_there_is_no_success(chain):
    done = drivelake("ingest", "nosuch", "--lake", chain.root, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["reason"] == "it is not in the inbox"


def test_a_report_of_an_older_artefact_is_refused(chain_copy):
    from compile.stage import SOC_ARTEFACTS
    from drivelake.evidence.notary import LakeNotary
    from drivelake.stage import materialise

    file = chain_copy.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("parity_rows: 16", "parity_rows: 8"))
    lake = Lake(chain_copy.root)
    materialise(SOC_ARTEFACTS, lake, "steering@portable", LakeNotary(lake))
    done = drivelake("report", "--lake", chain_copy.root)
    assert done.returncode == 4
    assert "The evidence at main is of" in done.stderr
