"""Laws of small documents: well-formed whatever is written into them, everything inside, equal values equal text."""

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake import svg
from drivelake.svg import Axis, Key, Plot

# surrogates and control characters included: what a file name or a log may bring
WORDS = st.text(max_size=80)
VALUES = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20)
ELEMENTS = {"svg", "title", "rect", "text", "polyline", "g", "circle"}
NUMBER = re.compile(r"-?\d+(\.\d)?")


def plot(words="loss", values=(0.0, 1.0), keys=1):
    across, up = Axis.around(values, words), Axis.around(values, words)
    return Plot(words, across, up, tuple(Key(words, svg.ACCENT) for _ in range(keys)))


def drawn(made, values=(0.0, 1.0)):
    points = [made.at(value, value) for value in values]
    return made.document([svg.line(points, svg.ACCENT), svg.dots(points, svg.ACCENT)])


@settings(deadline=None)
@given(WORDS, VALUES)
def test_any_words_and_values_give_a_document_that_parses_and_can_be_encoded(words, values):
    document = drawn(plot(words, values), values)
    root = ET.fromstring(document.encode())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {child.tag.rpartition("}")[2] for child in root.iter()} <= ELEMENTS
    assert document == drawn(plot(words, values), values)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff"), max_size=80))
def test_words_are_read_back_as_they_were_written(words):
    root = ET.fromstring(svg.document(words, [svg.text(0, 0, words)]))
    assert (root.findtext("{*}title"), root.findtext("{*}text")) == (words, words)


def test_markup_and_what_xml_cannot_carry_do_not_get_through():
    made = svg.text(0, 0, '</text><script a="b">&\x00\ud800')
    assert "<script" not in made
    assert ET.fromstring(made).text == '</text><script a="b">&\ufffd\ufffd'


@given(VALUES)
def test_ticks_lie_inside_the_axis_and_are_told_apart_by_their_words(values):
    axis = Axis.around(values)
    ticks = axis.ticks()
    slack = 1e-8 * (axis.high - axis.low)
    assert 2 <= len(ticks) <= 7
    assert all(axis.low - slack <= value <= axis.high + slack for value, _ in ticks)
    assert len({words for _, words in ticks}) == len(ticks)
    for value, words in ticks:
        assert float(words) == pytest.approx(value, rel=1e-6, abs=slack)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (-0.021, 0.021, ["-0.02", "-0.01", "0.00", "0.01", "0.02"]),
        (0, 0.3, ["0.00", "0.05", "0.10", "0.15", "0.20", "0.25", "0.30"]),
        (0, 300000, ["0", "50000", "100000", "150000", "200000", "250000", "300000"]),
        (5400000, 5400110, ["5400000", "5400020", "5400040", "5400060", "5400080", "5400100"]),
        (-0.0004, 0.0004, ["-0.0004", "-0.0002", "0.0000", "0.0002", "0.0004"]),
        (0, 5e6, ["0", "1e+06", "2e+06", "3e+06", "4e+06", "5e+06"]),
        (-1e-6, 1e-6, ["-1e-06", "-5e-07", "0", "5e-07", "1e-06"]),
    ],
)
def test_ticks_are_round_numbers_with_as_many_digits_as_they_need(low, high, expected):
    assert [words for _, words in Axis(low, high).ticks()] == expected


@pytest.mark.parametrize(("high", "expected"), [(1.05, [0, 1]), (2.1, [0, 1, 2]), (30, [0, 5, 10, 15, 20, 25, 30])])
def test_what_is_counted_has_whole_ticks(high, expected):
    assert [value for value, _ in Axis(0, high, step_min=1).ticks()] == expected


@pytest.mark.parametrize("values", [[], [math.nan], [0.0, math.inf], [1.0, math.nan, 2.0], [-1.7e308, 1.7e308]])
def test_an_axis_refuses_what_has_no_finite_range(values):
    with pytest.raises(ValueError, match="finite"):
        Axis.around(values)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0)])
def test_an_axis_goes_from_the_smaller_to_the_larger_value(low, high):
    with pytest.raises(ValueError, match="smaller value first"):
        Axis(low, high)


@settings(deadline=None)
@given(VALUES, st.integers(0, 12))
def test_everything_lies_inside_the_document_whatever_the_legend(values, keys):
    root = ET.fromstring(drawn(plot("a clock: RMS 0.98 ms", values, keys), values))
    width, height = float(root.get("width")), float(root.get("height"))
    places = [(e.get("cx"), e.get("cy")) for e in root.findall(".//{*}circle")] + [
        (e.get("x"), e.get("y")) for e in root.findall(".//{*}text")
    ]
    places += [point.split(",") for e in root.findall(".//{*}polyline") for point in e.get("points").split()]
    assert len(places) > 2 * len(values) + 2 * keys
    assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in places)
    assert all(NUMBER.fullmatch(pixel) for place in places for pixel in place)


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=10))
def test_the_words_at_the_ticks_lie_inside_too_and_beside_the_label(values):
    label, *texts = reversed(ET.fromstring(plot(values=values).document([])).findall(".//{*}text"))
    room = {"middle": 0.5, "end": 1.0}
    for words in texts:
        left = float(words.get("x")) - svg.LETTER * svg.SIZE * len(words.text) * room.get(words.get("text-anchor"), 0.0)
        assert left >= 0
        assert left + svg.LETTER * svg.SIZE * len(words.text) <= svg.WIDTH + 0.1
        assert words.get("text-anchor") != "end" or left >= float(label.get("x"))


def test_a_legend_of_one_row_keeps_the_size_and_further_rows_push_the_frame_down():
    one, three = plot(keys=1), plot("a rather long name of a clock", keys=3)
    assert f'width="{svg.WIDTH}" height="{svg.HEIGHT}"' in one.document([])
    rows = {y for y in (e.get("y") for e in ET.fromstring(three.document([])).findall(".//{*}text")) if 30 < float(y) < 80}
    assert len(rows) == 3
    assert three.at(1, 1)[1] == one.at(1, 1)[1] + 2 * svg.ROW
    assert f'height="{svg.HEIGHT + 2 * svg.ROW}"' in three.document([])


@given(st.text(max_size=200), st.integers(20, 600))
def test_fitted_words_are_no_wider_than_their_room(words, width):
    shown = svg.fitted(words, width, 10)
    assert len(shown) * svg.LETTER * 10 <= max(width, svg.LETTER * 10)
    assert shown == words or (shown.endswith("…") and words.startswith(shown[:-1]))


def test_a_long_title_is_cut_where_it_is_drawn_and_whole_where_it_is_read():
    title = "loss by epoch " * 12
    root = ET.fromstring(plot(title).document([]))
    assert root.findtext("{*}title") == title
    assert root.findtext("{*}text").endswith("…")


def test_wrapped_words_say_when_rows_are_left_out():
    words = "cut short " * 30
    assert " ".join(svg.wrapped(words, 300, rows=50)) == words.strip()
    assert len(svg.wrapped(words, 300, rows=2)) == 2
    assert svg.wrapped(words, 300, rows=2)[-1].endswith("…")


def test_a_document_brings_its_own_ground_and_takes_no_colour_from_the_page():
    document = drawn(plot())
    assert ET.fromstring(document)[1].attrib == {"width": str(svg.WIDTH), "height": str(svg.HEIGHT), "fill": "#ffffff"}
    assert "currentColor" not in document
    assert "href" not in document
