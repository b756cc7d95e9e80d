"""Every command that the README shows does what it is shown for."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
MAKE = [c for c in COMMANDS if c.startswith("make")]
TAG = "sop-2026"
ASKED = [c for c in COMMANDS if c.startswith(".venv/bin/drivelake")]


def test_the_readme_shows_the_two_commands_first():
    assert COMMANDS[:2] == ["make demo", "make test"]
    assert set(COMMANDS) == {*MAKE, *ASKED}


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_what_to_do(command):
    done = subprocess.run([*shlex.split(command), "-n"], capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", ASKED)
def test_drivelake_answers(chain, command, tmp_path, request):
    words = [w.replace("lake/inbox", str(chain.inbox)) for w in shlex.split(command)[1:]]
    lake, place = chain, tmp_path / "here"
    place.mkdir()
    if TAG in words:  # a tag is made by one of the commands; the others find it
        lake = request.getfixturevalue("chain_copy")
        if words[0] != "tag":
            lake.store.tag(TAG, "main")
    code = "from drivelake.cli import main; main()"
    environment = {**os.environ, "DRIVELAKE_LAKE": str(lake.root)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=place, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_declaration_option_that_the_readme_names_exists():
    assert "--drives ../my_drives --declaration my.yaml --lake my_lake" in README
    shown = subprocess.run(
        [sys.executable, "-c", "from drivelake.cli import main; main()", "demo", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(option in shown.stdout for option in ("--drives", "--declaration", "--lake"))
