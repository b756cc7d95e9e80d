"""The documentation says what the code does: keys, commands, options, exit codes, links, examples."""

import inspect
import json
import re
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import BaseModel

from drivelake import declaration, errors
from drivelake.cli import app
from drivelake.declaration import Declaration, parse_declaration
from drivelake.frames.transforms import parse_calibration
from drivelake.gates import lookup

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DECLARATION = (DOCS / "declaration.md").read_text(encoding="utf-8")
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands

# a fragment replaces top-level keys of this; what it refers to is here under the names that the page uses
MINIMAL = """
lakehouse: tiny
owner: team:perception
rigs:
  car:
    reference: camera_front
    sensors:
      camera_front: {log: camera.mcap, channel: /camera, kind: payload}
      speed_mps: {log: can.mf4, channel: Speed}
datasets: {lane_keeping: {sql: SELECT * FROM frames, payload: camera_front}}
models: {steering: {dataset: lane_keeping, targets: [speed_mps]}}
targets: {portable: {kind: portable}}
gates:
  checkpoint: [{value: test.network.r2, min: 0}]
  artefact: [{value: parity.mean_abs, max: 1}]
"""
FORBIDDEN = {"compliant", "certified", "tamper-proof", "qualified", "unbiased"}


def models() -> list[type[BaseModel]]:
    """Every model that the declaration is made of."""
    found = [getattr(declaration, name) for name in declaration.__all__]
    return [m for m in found if inspect.isclass(m) and issubclass(m, BaseModel)]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def sections() -> dict[str, str]:
    """Text of the command line's page by command."""
    parts = re.split(r"^## `drivelake (\w+)`$", CLI, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text: str) -> list[str]:
    """First cell of every table row."""
    return re.findall(r"^\| (.*?) \|", text, re.MULTILINE)


def test_the_schema_file_is_the_exported_one():
    exported = json.dumps(Declaration.model_json_schema(), sort_keys=True, indent=2) + "\n"
    written = (DOCS / "lakehouse.schema.json").read_text(encoding="utf-8")
    assert written == exported, "write docs/lakehouse.schema.json again from Declaration.model_json_schema()"


@pytest.mark.parametrize("model", models(), ids=lambda m: m.__name__)
def test_every_key_of_the_declaration_opens_a_row(model):
    keys = DECLARATION.split("## What a change makes stale")[0]
    explained = {key for cell in first_cells(keys) for key in re.findall(r"`([a-z0-9_]+)`", cell)}
    assert set(model.model_fields) - explained == set()


def test_every_yaml_example_parses_as_what_it_is_marked():
    seen = set()
    for block in blocks(DECLARATION, "yaml"):
        mark, loaded = block.split("\n", 1)[0], yaml.safe_load(block)
        seen.add(mark)
        if mark == "# full declaration":
            parse_declaration(block)
        elif mark == "# fragment":
            assert set(loaded) <= set(Declaration.model_fields), block
            parse_declaration(yaml.safe_dump({**yaml.safe_load(MINIMAL), **loaded}, sort_keys=False), where=block)
        elif mark == "# calibration.yaml":
            parse_calibration(block, where=mark)
        else:
            assert mark == "# drive.yaml", f"unmarked yaml block: {block}"
            assert set(loaded) <= {"vehicle", "tags", "logs"}
    assert seen == {"# full declaration", "# fragment", "# drive.yaml", "# calibration.yaml"}


def test_every_path_that_an_artefact_gate_can_name_is_measured():
    from compile.parity import measure

    rows = {"unit": None, "truth": [0.0, 1.0, 2.0], "float": [0.0, 1.0, 2.1], "compiled": [0.0, 1.1, 2.0]}
    measured = measure({"TARGET": rows})
    table = DECLARATION[DECLARATION.index("`artefact` can name") :].split("```", 1)[0]
    named = {path for cell in first_cells(table) for path in re.findall(r"`([\w.]+\.\w+)`", cell)}
    named |= {c["value"] for b in blocks(DECLARATION, "yaml") for c in yaml.safe_load(b).get("gates", {}).get("artefact", [])}
    assert len(named) > 8
    assert {path for path in named if lookup(measured, path) is None} == set()


def test_every_command_has_a_section_and_no_other_is_there():
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_options_of_a_command_are_those_of_its_table(command):
    taken = {opt for p in COMMANDS[command].params if p.param_type_name == "option" for opt in p.opts}
    told = {word for cell in first_cells(sections()[command]) for word in re.findall(r"--[a-z0-9-]+", cell)}
    assert told == taken - {"--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", sections()[command])) <= taken


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_no_page_names_a_command_that_is_not_there(page):
    named = set(re.findall(r"(?:\$ |`)drivelake ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= set(COMMANDS)


def test_the_exit_codes_are_those_of_the_error_tree():
    table = CLI[CLI.index("## Exit codes") : CLI.index("## `drivelake demo`")]
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", table, re.MULTILINE)
    told = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {name: getattr(errors, name).exit_code for name in errors.__all__}
    assert [int(code) for code, _ in rows] == sorted({0, *told.values()})


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "README.md"], ids=lambda p: p.name)
def test_every_relative_link_points_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert found.is_relative_to(REPOSITORY), f"{page.name} links out of the repository: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_every_decision_is_listed_with_its_page():
    listed = set(re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (DOCS / "adr" / "README.md").read_text(encoding="utf-8")))
    there = {p.name for p in (DOCS / "adr").glob("[0-9]*.md")}
    assert listed == there
    assert sorted(int(name[:4]) for name in there) == list(range(1, len(there) + 1))


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("[0-9]*.md")), ids=lambda p: p.name)
def test_a_decision_has_its_four_parts(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.name[:4]} ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Measured"]


def test_words_that_claim_too_much_stand_only_where_they_are_ruled_out():
    word = re.compile(rf"\b({'|'.join(sorted(FORBIDDEN))})\b", re.IGNORECASE)
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if word.search(line)]
    assert len(lines) == 1
    assert "never printed" in lines[0]
    assert {found.lower() for found in word.findall(lines[0])} == FORBIDDEN


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_the_python_examples_import_what_is_there(page):
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        compile(block, page.name, "exec")
        for line in block.splitlines():
            if line.startswith(("import ", "from ")):
                exec(line, {})  # the page's own import, nothing else
