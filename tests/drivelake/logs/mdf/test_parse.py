import struct

import numpy as np
import pytest
from asammdf import MDF, Signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.check import check_blocks
from drivelake.logs.mdf.model import Conversion
from drivelake.logs.mdf.parse import ALL_INVALID, parse
from drivelake.logs.mdf.pieces import inflate, pieces_of
from tests.drivelake.logs.making import mdf_signals
from tests.drivelake.logs.mdf.mdf_blocks import (
    START_NS,
    Block,
    channel,
    conversion,
    data_group,
    equal_list,
    group,
    packed,
    plain,
    text,
    write_blocks,
)

RECORDED = [
    "can_nemodrive/candump_log.mf4",
    "corner_derived/mdf/dz_transposed_small_fragments.mf4",
    "corner_derived/mdf/duplicate_names_unicode_conversions.mf4",
    "corner_derived/mdf/invalidation_bits.mf4",
    "corner_derived/mdf/truncated_unfinalised.MF4",
    "drive_comma2k19_rav4/can.mf4",
    "mdf4/canedge_gnss_obd2_3BA199E2_00000165/00000006-60FFE42F.MF4",
    "mdf4/canedge_truck_j1939/00000001.MF4",
    "mdf4/corner/mdflib_empty_4.20.mf4",
    "mdf4/measurement/ASAP2_Demo_V161_4.00.mf4",
    "mdf4/measurement/ASAP2_Demo_V171.mf4",
    "mdf4/measurement/mdfr_test_basic.mf4",
    "mdf4/measurement/peak_dimensional_demo.mf4",
    "state_udacity_ch2/udacity_ch2_state.mf4",
]


def flat(channels):
    for one in channels:
        yield one
        yield from flat(one.members)


def groups_of(mdf):
    return [found for data_group in mdf.data_groups for found in data_group.groups]


def parsed(path, **options):
    findings = Findings(**options)
    with MdfFile(path) as file:
        return parse(file, findings), findings


def parsed_channels(tmp_path, channels, **options):
    """Channels and findings of a file with one group of 16 bytes a record."""
    found = group(channels, **{"record_bytes": 16, **options})
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group([found])))
    return groups_of(mdf)[0].channels, findings


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_files_have_the_groups_and_channels_that_asammdf_finds(shared_data, name):
    mdf, findings = parsed(shared_data / name)
    assert findings.sentences == ()
    groups = groups_of(mdf)
    with MDF(shared_data / name, process_bus_logging=False) as theirs:
        assert mdf.start_ns == theirs.header.abs_time
        assert [found.index for found in groups] == list(range(len(theirs.groups)))
        for ours, other in zip(groups, theirs.groups, strict=True):
            block = other.channel_group
            assert (ours.name, ours.record_id, ours.flags) == (block.acq_name or "", block.record_id, block.flags)
            assert ours.bus == (block.acq_source.bus_type if block.acq_source else 0)
            if not mdf.unfinalised:
                assert ours.cycles == block.cycles_nr
            for index, (one, cn) in enumerate(zip(flat(ours.channels), other.channels, strict=True)):
                expected = (cn.name, cn.channel_type, cn.sync_type, cn.data_type, cn.byte_offset, cn.bit_offset, cn.bit_count)
                found = (one.name, one.kind, one.sync, one.data_type, one.byte_offset, one.bit_offset, one.bit_count)
                assert found == expected
                unit = theirs.get_channel_unit(group=ours.index, index=index)
                # asammdf gives the XML around a unit as it stands
                assert one.unit == unit or f"<TX>{one.unit}</TX>" in unit


@pytest.mark.parametrize("name", RECORDED)
def test_the_streams_of_recorded_files_hold_their_records(shared_data, name):
    mdf, findings = parsed(shared_data / name)
    file = MdfFile(shared_data / name)
    for found in mdf.data_groups:
        size = sum(len(inflate(file, piece)) for piece in pieces_of(file, found.data, findings, "x"))
        if not found.id_bytes:
            (only,) = found.groups
            assert size == only.cycles * (only.record_bytes + only.invalid_bytes)
        elif not mdf.unfinalised:
            assert bool(size) == any(one.cycles for one in found.groups)
    assert findings.sentences == ()


def test_a_local_start_time_is_noted(tmp_path):
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group([]), time_flags=1))
    assert mdf.start_ns == START_NS
    assert findings.notes == ["The start time is local time of an unknown zone; it was taken as UTC."]


def test_a_start_behind_the_end_of_time_is_damage(tmp_path):
    with pytest.raises(LogDamaged, match="The measurement starts"):
        parsed(write_blocks(tmp_path / "log.mf4", data_group([]), start_ns=1 << 63))


def test_an_unfinalised_file_is_noted_and_no_damage(tmp_path):
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group([]), unfinalised=37), strict=True)
    assert mdf.unfinalised == 37
    assert findings.notes[0].startswith("The logger did not finalise the file (flags 0x0025, custom 0x0000)")


def test_a_conversion_is_read_with_what_it_refers_to(tmp_path):
    nested = conversion(1, [1.0, 2.0], unit=text("V"))
    table = conversion(7, [0.0, 1.0], [text("off"), nested, None])
    found, _ = parsed_channels(tmp_path, [channel("a", links={4: table, 6: text("mV")})])
    assert found[0].conversion == Conversion(7, (0.0, 1.0), ("off", Conversion(1, (1.0, 2.0), (), "V"), None), "V")
    assert found[0].unit == "V"


@pytest.mark.parametrize("values", [(0, ()), (1, (0.0, 1.0)), (2, (0, 3, 0, 0, 0, 3)), (2, (4, 0, 0, 0, 4, 0))])
def test_a_conversion_that_changes_nothing_leaves_its_unit_alone_behind(tmp_path, values):
    block = conversion(*values, unit=text("m"))
    found, findings = parsed_channels(tmp_path, [channel("a", links={4: block})])
    assert (found[0].conversion, found[0].unit, findings.sentences) == (None, "m", ())


def bad_conversions():
    ring = conversion(7, [1.0], [None, None])
    ring.links[4] = ring
    cut = conversion(1, [0.0, 2.0])
    cut.data = cut.data[:30]
    lying = conversion(4, [0.0, 1.0])
    lying.data = lying.data[:6] + struct.pack("<H", 65535) + lying.data[8:]
    return {
        "circle": ring,
        "cut": cut,
        "lying": lying,
        "three of two": conversion(1, [0.0, 1.0, 2.0]),
        "odd pairs": conversion(4, [0.0, 1.0, 2.0]),
        "no default": conversion(7, [1.0], [text("x")]),
        "no reference": conversion(3),
        "another block": text("x"),
        "outside": 1 << 40,
        "reference to a channel": conversion(7, [1.0], [channel("x"), None]),
    }


@pytest.mark.parametrize("name", bad_conversions())
def test_a_damaged_conversion_costs_its_channel_and_no_other(tmp_path, name):
    broken = channel("broken", links={4: bad_conversions()[name]})
    found, findings = parsed_channels(tmp_path, [channel("first"), broken, channel("last")])
    assert [one.name for one in found] == ["first", "last"]
    assert len(findings.sentences) == 1
    assert f"The channel at offset {broken.offset} of group 0 is left out" in findings.sentences[0]


@pytest.mark.parametrize(("link", "name"), [(2, "channel_1"), (6, "broken")])
@pytest.mark.parametrize("damaged", ["outside", "cut", "links"])
def test_a_damaged_label_is_told_and_costs_no_channel(tmp_path, link, name, damaged):
    label = text("a name of twenty byte")
    if damaged == "cut":
        label.length = 40
    elif damaged == "links":
        label = Block("TX", [0], b"of twenty byte\0")
    broken = channel("broken", links={link: 99_999 if damaged == "outside" else label})
    found, findings = parsed_channels(tmp_path, [channel("first"), broken, channel("last")])
    assert [one.name for one in found] == ["first", name, "last"]
    assert found[1].unit == ""
    (told,) = findings.sentences
    assert "of channel 1 of group 0 is damaged" in told


def test_a_damaged_name_or_source_costs_no_group(tmp_path):
    one = group([channel("a")], name=99_999, source=99_999)
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group([one])))
    assert [(found.name, found.bus, len(found.channels)) for found in groups_of(mdf)] == [("", 0, 1)]
    assert ["The name of group 0" in findings.sentences[0], "The source of group 0" in findings.sentences[1]] == [True, True]


@pytest.mark.parametrize("more", [8, 4096])
def test_a_block_that_reaches_into_the_next_one_is_told_and_read(tmp_path, more):
    one = group([channel("a"), channel("b")])
    one.length = one.size + more
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group([one]), last=[Block("TX", [], bytes(8192))]))
    assert [len(found.channels) for found in groups_of(mdf)] == [2]
    (told,) = findings.sentences
    assert f"has {32 + more} bytes of content, expected 32" in told


@pytest.mark.parametrize(
    "options",
    [{"at": 16}, {"at": 15, "bit": 1}, {"at": 15, "bits": 9}, {"bit": 8}, {"flags": 2, "invalid_at": 8}, {"at": (1 << 32) - 1}],
)
def test_a_channel_that_reaches_out_of_its_record_is_left_out(tmp_path, options):
    found, findings = parsed_channels(tmp_path, [channel("first"), channel("broken", **options)], invalid_bytes=1)
    assert [one.name for one in found] == ["first"]
    assert len(findings.sentences) == 1


def test_a_channel_that_ends_with_its_record_is_kept(tmp_path):
    channels = [channel("a", at=15), channel("b", kind=3, at=400), channel("c", at=15, bit=7, bits=1, flags=2, invalid_at=7)]
    found, findings = parsed_channels(tmp_path, channels, invalid_bytes=1)
    assert ([one.name for one in found], findings.sentences) == (["a", "b", "c"], ())


def test_invalidation_is_used_where_the_flags_say_so(tmp_path):
    flags = [0, 1, 2, 3]
    channels = [channel(str(flag), flags=flag, invalid_at=5) for flag in flags]
    found, _ = parsed_channels(tmp_path, channels, invalid_bytes=1)
    assert [one.invalid_bit for one in found] == [None, ALL_INVALID, 5, ALL_INVALID]


def test_members_of_a_structure_stand_inside_it(tmp_path):
    members = [channel("s.a"), channel("s.b", at=1)]
    members[0].links[0] = members[1]
    found, _ = parsed_channels(tmp_path, [channel("s", data_type=10, bits=16, links={1: members[0]}), channel("t")])
    assert [one.name for one in flat(found)] == ["s", "s.a", "s.b", "t"]
    assert [one.name for one in found[0].members] == ["s.a", "s.b"]


def test_structures_nested_too_deep_cost_what_is_inside(tmp_path):
    inner = channel("deep")
    for number in range(20):
        inner = channel(f"outer {number}", data_type=10, links={1: inner})
    found, findings = parsed_channels(tmp_path, [inner, channel("beside")])
    assert "beside" in [one.name for one in found]
    assert len(findings.sentences) == 1


def array(shape, *, kind=0, storage=0, flags=0, step=2, nested=None):
    fields = struct.pack(f"<BBHIiI{len(shape)}Q", kind, storage, len(shape), flags, step, 0, *shape)
    return Block("CA", [nested], fields)


@pytest.mark.parametrize(
    ("flags", "step", "strides"), [(0, 2, (4, 2)), (64, 2, (2, 6)), (0, 3, (6, 3))], ids=["rows", "columns", "gaps"]
)
def test_an_array_has_its_shape_and_strides(tmp_path, flags, step, strides):
    block = array((3, 2), flags=flags, step=step)
    found, findings = parsed_channels(tmp_path, [channel("a", data_type=2, bits=16, links={1: block})], record_bytes=20)
    assert findings.sentences == ()
    assert (found[0].shape, found[0].strides, found[0].unread) == ((3, 2), strides, "")


@pytest.mark.parametrize(
    "block",
    [array((2,), storage=1), array((2,), kind=2), array((2,), flags=1), array((2,), nested=array((2,)))],
    ids=["storage", "look-up", "dynamic", "nested"],
)
def test_other_arrays_are_left_to_another_reader(tmp_path, block):
    found, findings = parsed_channels(tmp_path, [channel("a", bits=16, links={1: block})])
    assert findings.sentences == ()
    assert found[0].unread.startswith("an array of")


@pytest.mark.parametrize("shape", [(1 << 62,), (1 << 40, 1 << 40), (9,)])
def test_an_array_that_its_record_cannot_hold_is_left_out(tmp_path, shape):
    found, findings = parsed_channels(tmp_path, [channel("a", bits=16, links={1: array(shape)})])
    assert found == ()
    assert len(findings.sentences) == 1


@pytest.mark.parametrize(
    ("options", "unread"),
    [
        ({"bits": 64}, False),
        ({"data_type": 2, "bits": 13, "bit": 3}, False),
        ({"data_type": 4, "bits": 16}, False),
        ({"data_type": 4, "bits": 24}, True),
        ({"data_type": 7, "bits": 24}, False),
        ({"data_type": 7, "bits": 12}, True),
        ({"bits": 65}, True),
        ({"data_type": 13, "bits": 56}, False),
        ({"data_type": 16, "bits": 48}, True),
        ({"data_type": 17}, True),
        ({"kind": 7}, True),
        ({"data_type": 7, "links": {4: conversion(1, [0.0, 2.0])}}, True),
        ({"links": {4: conversion(9, [0.0, 2.0], [None])}}, True),
    ],
)
def test_what_our_reader_does_not_read_says_why(tmp_path, options, unread):
    found, findings = parsed_channels(tmp_path, [channel("a", **options)])
    assert findings.sentences == ()
    assert bool(found[0].unread) == unread


def test_a_circle_of_channels_ends(tmp_path):
    channels = [channel("a"), channel("b")]
    found = group(channels)
    channels[1].links[0] = channels[0]
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group([found])))
    assert [one.name for one in groups_of(mdf)[0].channels] == ["a", "b"]
    assert "a second time" in findings.sentences[0]


def test_a_damaged_group_keeps_its_number(tmp_path):
    groups = [group([channel("a")]), group([channel("b")]), group([channel("c")])]
    groups[1].data = groups[1].data[:8]
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group(groups, id_bytes=1)))
    assert [found.index for found in groups_of(mdf)] == [0, 2]
    assert findings.sentences == (
        f"Group 1 is left out: The CG block at offset {groups[1].offset} has 8 bytes of content, its fields need 32.",
    )


@pytest.mark.parametrize("id_bytes", [0, 3, 255])
def test_groups_whose_records_cannot_be_told_apart_are_left_out(tmp_path, id_bytes):
    groups = [group([channel("a")]), group([channel("b")])]
    mdf, findings = parsed(write_blocks(tmp_path / "log.mf4", data_group(groups, id_bytes=id_bytes)))
    assert (mdf.data_groups, len(findings.sentences)) == ((), 1)


def test_the_size_of_a_vlsd_group_has_two_halves(tmp_path):
    found = group([], flags=1, record_bytes=5, invalid_bytes=2)
    mdf, _ = parsed(write_blocks(tmp_path / "log.mf4", data_group([found], id_bytes=1)))
    (only,) = groups_of(mdf)
    assert (only.vlsd_bytes, only.record_bytes, only.invalid_bytes) == (5 + (2 << 32), 0, 0)


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (packed(b"x" * 8), {}, ""),
        (packed(b"x" * 8, method=2), {}, "packed by method 2"),
        (equal_list([packed(b"x" * 8, method=5)], 8), {}, "packed by method 5"),
        (plain(b"x" * 8, "DV"), {}, ""),
        (plain(b"x" * 8, "DV"), {"invalid_bytes": 1}, "column storage"),
        (plain(b"x" * 8), {"flags": 8}, "column storage"),
        (text("no data"), {}, ""),
    ],
)
def test_data_that_our_reader_does_not_read_say_why(tmp_path, data, options, reason):
    mdf, _ = parsed(write_blocks(tmp_path / "log.mf4", data_group([group([], **options)], data)))
    assert reason in mdf.data_groups[0].unread
    assert bool(mdf.data_groups[0].unread) == bool(reason)


def test_strict_findings_raise(tmp_path):
    path = write_blocks(tmp_path / "log.mf4", data_group([group([channel("a", at=99)])]))
    with pytest.raises(LogDamaged, match="is left out"):
        parsed(path, strict=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small file with every kind of block that its writer knows; unsorted and unfinalised ones are in the other tests."""
    t = np.arange(50) * 0.01
    signals = [
        *mdf_signals(50),
        Signal(np.arange(100, dtype=np.float32).reshape(50, 2), t, name="pair"),
        Signal(np.arange(50, dtype=np.float64), t, name="shaky", invalidation_bits=np.arange(50) % 5 == 0),
    ]
    path = tmp_path_factory.mktemp("small") / "log.mf4"
    with MDF(version="4.11") as mdf:
        mdf.append(signals, acq_name="first")
        mdf.append([Signal(np.arange(7.0), np.arange(7.0), name="speed", unit="m/s")])
        mdf.attach(b"notes" * 20, file_name="notes.txt", compression=True)
        mdf.save(path, compression=2, overwrite=True)
    return path


def read_all(path):
    findings = Findings()
    try:
        with MdfFile(path) as file:
            check_blocks(file, findings)
            mdf = parse(file, findings)
            for found in mdf.data_groups:
                links = [found.data, *(one.data for each in found.groups for one in flat(each.channels) if one.data)]
                for link in links:
                    for piece in pieces_of(file, link, findings, "x"):
                        assert 0 < piece.size <= max(2**28, file.size)
                        try:
                            assert len(inflate(file, piece)) == piece.size
                        except LogDamaged as error:
                            findings.damaged(error.message)
    except LogDamaged as error:
        return None, (error.message,)
    return mdf, findings.sentences


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 24, 255])))
def test_no_changed_byte_makes_anything_but_findings(small, tmp_path, place, value):
    data = bytearray(small.read_bytes())
    data[int(place * len(data))] = value
    path = tmp_path / "changed.mf4"
    path.write_bytes(data)
    assert read_all(path) == read_all(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0, 1, exclude_max=True), flags=st.sampled_from([0, 5, 37, 127]))
def test_no_cut_makes_anything_but_findings(small, tmp_path, kept, flags):
    data = bytearray(small.read_bytes())
    data[60] = flags
    path = tmp_path / "cut.mf4"
    path.write_bytes(data[: int(kept * len(data))])
    _, sentences = read_all(path)
    if not flags:
        assert sentences != ()


def test_the_small_file_itself_is_sound(small):
    mdf, sentences = read_all(small)
    assert sentences == ()
    assert [len(found.channels) for found in groups_of(mdf)] == [7, 2]
