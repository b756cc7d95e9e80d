"""Laws of the lineage drawing: well-formed, the same for the same chain, every drive counted, those left out dashed."""

import re
from xml.etree import ElementTree as ET

import pytest

from drivelake.evidence.drawing import ROWS_MAX, left_out, lineage_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(chain):
    artefact, versions = chain.build()
    return lineage_svg(versions, artefact)


def texts(svg):
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


def names(count):
    return tuple(f"drive_{number:03d}" for number in range(count))


def test_the_same_chain_gives_the_same_drawing_whatever_the_order_of_its_versions(descent):
    artefact, versions = descent().build()
    backwards = dict(reversed(versions.items()))
    assert lineage_svg(versions, artefact) == lineage_svg(backwards, artefact)


def test_every_version_of_a_small_chain_is_named_by_its_digest(descent):
    chain = descent(drives=names(4))
    shown = texts(drawn(chain))
    assert {version.digest[:16] for version in chain.versions.values()} <= set(shown)


def test_columns_stand_in_the_order_the_data_flows(descent):
    wanted = ["raw_logs", "signals", "sensor_frames", "curated_datasets", "checkpoints", "soc_artefacts"]
    assert [text for text in texts(drawn(descent())) if text in wanted] == wanted


@pytest.mark.parametrize("count", [1, ROWS_MAX, ROWS_MAX + 1, 40])
def test_rows_and_the_stack_together_stand_for_every_drive(descent, count):
    shown = texts(drawn(descent(drives=names(count))))
    rows = [text for text in shown if re.fullmatch(r"drive_\d+", text)]
    more = [int(text[1:].removesuffix(" more")) for text in shown if text.startswith("+")]
    assert len(rows) <= 3 * ROWS_MAX
    assert len(rows) + sum(more) == 3 * count
    assert bool(more) == (count > ROWS_MAX)


def test_a_drawing_does_not_grow_with_the_number_of_drives(descent):
    few, many = (ET.fromstring(drawn(descent(drives=names(count)))) for count in (ROWS_MAX + 1, 60))
    assert few.get("height") == many.get("height")
    assert len(list(few.iter())) == len(list(many.iter()))


def test_a_drive_that_was_left_out_is_dashed_and_the_others_are_not(descent):
    assert "stroke-dasharray" not in drawn(descent())
    root = ET.fromstring(drawn(descent(excluded={"b": "no camera"})))
    dashed = [box for box in root.iter(f"{SVG}rect") if box.get("stroke-dasharray")]
    labels = {(text.get("x"), text.get("y")): text.text for text in root.iter(f"{SVG}text")}
    assert [labels[f"{float(box.get('x')) + 10:g}", f"{float(box.get('y')) + 15:g}"] for box in dashed] == ["b", "b", "b"]


def test_drives_left_out_are_seen_even_among_many(descent):
    svg = drawn(descent(drives=names(60), excluded={"drive_059": "no camera"}))
    assert "drive_059" in texts(svg)
    assert "stroke-dasharray" in svg


def test_reasons_to_leave_a_drive_out_come_from_frames_and_dataset(descent):
    chain = descent(excluded={"b": "no camera"})
    chain.facts["curated_datasets", "lane"] = {"left_out": {"b": "no camera", "c": "the selection keeps none of its frames"}}
    _, versions = chain.build()
    assert left_out(versions.values()) == {"b": "no camera", "c": "the selection keeps none of its frames"}


def test_inputs_from_further_left_are_one_line_with_their_number(descent):
    shown = texts(drawn(descent(drives=names(5))))
    assert "5 versions read directly" in shown
    assert "1 version read directly" in shown


def test_nothing_lies_outside_of_the_picture(descent):
    for count in (1, 5, 40):
        root = ET.fromstring(drawn(descent(drives=names(count))))
        width, height = float(root.get("width")), float(root.get("height"))
        for box in root.iter(f"{SVG}rect"):
            assert float(box.get("x", 0)) + float(box.get("width")) <= width
            assert float(box.get("y", 0)) + float(box.get("height")) <= height


def test_a_name_cannot_bring_markup_into_the_drawing(descent):
    hostile = '<script>alert("x")</script>&'
    chain = descent()
    artefact, versions = chain.build()
    version = versions[artefact.digest]
    renamed = version.manifest.model_copy(update={"partition": hostile})
    changed = type(version)(manifest=renamed, commit=version.commit, files=version.files)
    svg = lineage_svg({**versions, changed.digest: changed}, changed)
    assert "<script" not in svg
    assert hostile in ET.fromstring(svg).find(f"{SVG}title").text
