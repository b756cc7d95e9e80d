from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from compile.plots import histogram, parity_figures, scatter
from drivelake.svg import HEIGHT, WIDTH

SVG = "{http://www.w3.org/2000/svg}"


def values(reference, compiled, unit="m/s"):
    return {"unit": unit, "truth": reference, "float": reference, "compiled": compiled}


def test_every_target_gets_both_figures_and_the_same_text_twice(snapdragon):
    report = json.loads((snapdragon.folder / "parity.json").read_text())
    figures = parity_figures(report)
    assert set(figures) == {"speed_mps_scatter", "speed_mps_histogram", "curvature_1pm_scatter", "curvature_1pm_histogram"}
    assert figures == parity_figures(json.loads(json.dumps(report)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2), min_size=1, max_size=30))
def test_every_row_is_drawn_inside_the_figure(rows):
    reference, compiled = map(list, zip(*rows, strict=True))
    key, *circles = ET.fromstring(scatter("speed_mps", values(reference, compiled))).iter(f"{SVG}circle")
    assert key.get("r") == "3"
    assert len(circles) == len(rows)
    assert all(0 <= float(c.get("cx")) <= WIDTH and 0 <= float(c.get("cy")) <= HEIGHT for c in circles)
    ground, *bars = ET.fromstring(histogram("speed_mps", values(reference, compiled))).iter(f"{SVG}rect")
    assert (ground.get("width"), ground.get("height")) == (str(WIDTH), str(HEIGHT))
    assert 1 <= len(bars) <= len(rows)
    assert all(float(bar.get("width")) > 0 and float(bar.get("height")) > 0 for bar in bars)


def test_words_from_the_declaration_are_escaped():
    drawn = scatter("a<b", values([1.0], [1.0], unit="<m>"))
    assert "a&lt;b" in drawn
    assert [t.text for t in ET.fromstring(drawn).iter(f"{SVG}text")][-2:] == ["float [<m>]", "compiled [<m>]"]


def test_a_target_without_unit_has_no_brackets():
    assert "[" not in scatter("speed_mps", values([1.0], [1.0], unit=None))
