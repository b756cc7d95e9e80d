"""The conformance suite of the format: 416 files of a reference writer, each with the records it holds."""

import json

import pytest

from drivelake.logs.findings import Findings
from drivelake.logs.mcap.log import inspect_mcap
from drivelake.logs.mcap.sound import records, sound_records

FILES = {"NoData": 6, "OneAttachment": 14, "OneMessage": 154, "OneMetadata": 14, "OneSchemalessMessage": 74, "TenMessages": 154}


def plain(value):
    if isinstance(value, bytes):
        return [str(byte) for byte in value]
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    return str(value)


def described(found):
    """Records as the suite writes them down; it leaves out message indexes."""
    rows = [(type(record).__name__, {name: plain(value) for name, value in vars(record).items()}) for record in found]
    return [row for row in rows if row[0] != "MessageIndex"]


def expected(path):
    rows = json.loads(path.with_suffix(".json").read_text())["records"]
    return [(row["type"], dict(row["fields"])) for row in rows]


@pytest.fixture(params=FILES)
def files(request, shared_data):
    found = sorted((shared_data / "mcap_conformance" / request.param).glob("*.mcap"))
    assert len(found) == FILES[request.param]
    return found


def test_every_file_holds_exactly_the_expected_records(files):
    for path in files:
        assert described(records(path)) == expected(path), path.name


def test_every_file_is_sound_and_has_the_expected_channels_and_counts(files):
    for path in files:
        findings = Findings(strict=True)
        _, channels = inspect_mcap(path, findings)
        rows = expected(path)
        topics = {fields["topic"] for kind, fields in rows if kind == "Channel"}
        assert {channel.name for channel in channels} == topics, path.name
        assert sum(channel.messages for channel in channels) == sum(kind == "Message" for kind, _ in rows), path.name


def test_what_is_sound_of_a_sound_file_is_all_of_it(files):
    kinds = ("Header", "Message", "Attachment", "Metadata")
    for path in files:
        found = [row for row in described(sound_records(path, Findings(strict=True))) if row[0] in kinds]
        assert found == [row for row in expected(path) if row[0] in kinds], path.name
