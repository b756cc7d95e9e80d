"""Laws of the report: one file that fetches nothing, the same for the same summary, says what is not shown, escapes names."""

import base64
import datetime as dt
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from drivelake.evidence.drawing import lineage_svg
from drivelake.evidence.keys import create_keys, load_signer
from drivelake.evidence.report import ROWS_MAX, amount, render, shown
from drivelake.evidence.statements import CodeState, provenance, sign
from drivelake.evidence.summary import STATEMENT, summarise
from drivelake.evidence.verify import Problem

FORBIDDEN = ("complian", "certif", "tamper-proof", "qualified", "unbiased", "complete")
HOSTILE = '"><script>alert(1)</script>'
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What the tests ask of a page; fails where tags do not close in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words, self.cells, self.headings = [], [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.headings.append((self.open[-1], data.strip()))

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def summary_of(chain, **verification):
    artefact, versions = chain.build()
    return summarise(artefact, versions, chain.verification(**verification))


def report_of(chain, **verification):
    return render(summary_of(chain, **verification), {"lineage": lineage_svg(chain.versions, chain.artefact)})


def section(html, anchor):
    """Words of one section."""
    found = re.search(rf'<section aria-labelledby="{anchor}">(.*?)</section>', html, re.DOTALL)
    return Page(found[1]).text


def test_equal_summaries_give_equal_reports_whatever_the_order_of_keys(descent):
    summary, pictures = summary_of(descent()), {"scatter": "<svg/>", "lineage": "<svg/>"}
    first = render(summary, pictures)
    assert render(summary, dict(reversed(pictures.items()))) == first
    assert render(json.loads(json.dumps(summary, sort_keys=True)), pictures) == first


def test_a_report_is_well_formed_and_fetches_and_executes_nothing(descent):
    page = Page(report_of(descent()))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert all(attributes[key].startswith(("#", "data:")) for key in ("href", "src") if key in attributes)
        assert not [key for key in attributes if key.startswith("on")]
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_a_style_sheet_fetches_nothing_either(descent):
    style = re.search(r"<style>(.*?)</style>", report_of(descent()), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def luminance(colour):
    """Relative luminance of WCAG 2.1."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_keeps_the_contrast_of_wcag_aa_in_light_dark_and_print(descent):
    themes = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", report_of(descent()), re.DOTALL)
    ]
    assert len(themes) == 3
    pairs = [(ink, ground) for ink in ("ink", "muted", "accent") for ground in ("page", "soft")]
    pairs += [(verdict, f"{verdict}-soft") for verdict in ("good", "bad", "none")]
    for theme in themes:
        for ink, ground in pairs:
            dark, light = sorted((luminance(theme[ink]), luminance(theme[ground])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_every_link_of_the_contents_leads_to_a_heading(descent):
    page = Page(report_of(descent()))
    anchors = {a["id"] for t, a in page.tags if "id" in a}
    links = [a["href"][1:] for t, a in page.tags if t == "a"]
    assert len(links) >= 13
    assert set(links) <= anchors
    assert [level for level, _ in page.headings].count("h1") == 1


def test_every_table_has_a_caption_and_every_picture_an_alternative_text(descent):
    tags = Page(render(summary_of(descent()), {"learning_curve": "<svg/>", "unforeseen": "<svg/>"})).tags
    assert sum(tag == "table" for tag, _ in tags) == sum(tag == "caption" for tag, _ in tags)
    pictures = [attributes for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 2
    assert all(picture["alt"] for picture in pictures)


@pytest.mark.parametrize("problems", [[], [Problem("raw_logs/a", "is missing")]])
def test_words_that_claim_too_much_never_appear(descent, problems):
    html = report_of(descent(excluded={"b": "no camera"}), problems=problems).lower()
    readable = re.sub(r"base64,[a-z0-9+/=]+", "", html)
    assert [word for word in FORBIDDEN if word in readable] == []
    assert STATEMENT.lower() in html


def test_names_and_tags_cannot_bring_markup_into_the_report(descent):
    chain = descent()
    chain.facts["raw_logs", "a"] = {"vehicle": HOSTILE, "tags": {HOSTILE: HOSTILE}}
    chain.files["raw_logs", "a"]["health.json"]["quarantined"] = {HOSTILE: HOSTILE}
    dataset = chain.files["curated_datasets", "lane"]["card.json"]
    dataset["slices"] = {HOSTILE: {HOSTILE: {"train": 1, "validation": 1, "test": 1}}}
    dataset["left_out"] = {HOSTILE: HOSTILE}
    chain.parameters["curated_datasets"]["sql"] = HOSTILE
    html = render(summary_of(chain, problems=[Problem(HOSTILE, HOSTILE)]), {HOSTILE: "<svg/>"})
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=20))
def test_any_text_comes_out_escaped_and_leaves_the_page_well_formed(descent, name):
    if not hasattr(descent, "summary"):
        descent.summary = summary_of(descent())
    drive = {**descent.summary["drives"][0], "drive": name, "vehicle": name, "tags": [{"name": name, "value": name}]}
    html = render({**descent.summary, "drives": [drive]}, {})
    Page(html)
    assert f'<th scope="row">{escape(name)}</th>' in html


def test_a_picture_is_inlined_as_it_was_handed_in(descent):
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><title>µ & ü</title></svg>'
    html = render(summary_of(descent()), {"learning_curve": svg})
    sources = re.findall(r'src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)"', html)
    assert [base64.b64decode(source).decode() for source in sources] == [svg]


def test_figures_stand_in_their_sections_and_a_missing_one_reads_not_shown(descent):
    pictures = dict.fromkeys(["lineage", "sync", "curvature_scatter", "curvature_histogram", "unforeseen"], "<svg/>")
    html = render(summary_of(descent()), pictures)
    assert "Figure NOT SHOWN : Training and validation loss" in section(html, "training")
    assert "(curvature_scatter)" in section(html, "compile")
    assert "(curvature_histogram)" in section(html, "compile")
    assert "unforeseen" in section(html, "metrics")
    assert "Figure NOT SHOWN" not in section(html, "made-of") + section(html, "time") + section(html, "compile")


def test_a_chain_that_does_not_verify_reads_not_verified_and_says_where(descent):
    words = section(report_of(descent(), problems=[Problem("store/files/md5/ab/cd", "has other bytes")]), "verification")
    assert "NOT VERIFIED when this report was written" in words
    assert "store/files/md5/ab/cd has other bytes" in words


def test_empty_cells_few_rows_and_absent_slices_are_marked(descent):
    html = report_of(descent())
    assert "(none) 20 EMPTY EMPTY" in section(html, "dataset")
    metrics = section(html, "metrics")
    assert "night 60 12 12 0.7 0.04 0.03 few rows" in metrics
    assert "(none) 20 EMPTY EMPTY NOT SHOWN NOT SHOWN NOT SHOWN NOT SHOWN" in metrics


def test_numbers_that_no_file_holds_read_not_shown(descent):
    chain = descent()
    for files in chain.files.values():
        for name in ("metrics.json", "parity.json", "sync.json", "card.json", "health.json", "build.json", "contract.json"):
            files.pop(name, None)
    html = report_of(chain)
    assert "None" not in Page(html).text
    for anchor in ("drives", "time", "dataset", "metrics", "compile", "gates"):
        assert "NOT SHOWN" in section(html, anchor)
    assert "PASS" not in section(html, "gates")


def test_the_confidence_in_tools_is_left_to_people(descent):
    assert "torch 2.13.0 checkpoints, soc_artefacts NOT SHOWN NOT SHOWN" in section(report_of(descent()), "tools")


def test_limits_speak_of_this_chain(descent):
    words = section(report_of(descent()), "limits")
    assert "ONNX Runtime CPU" in words
    assert "Greatest 95th percentile of the residuals of this chain: 1.7 ms" in words
    assert "Compared for this report: NOT SHOWN" in words
    assert "Compared for this report: yes." in section(report_of(descent(), witnessed=True), "limits")


def test_a_long_table_is_cut_and_says_by_how_much(descent):
    summary = summary_of(descent())
    (one,) = summary["drives"][:1]
    summary["drives"] = [{**one, "drive": f"drive {number}"} for number in range(ROWS_MAX + 7)]
    words = section(render(summary, {}), "drives")
    assert "7 more rows stand in summary.json." in words
    assert f"drive {ROWS_MAX - 1} " in words
    assert f"drive {ROWS_MAX} " not in words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"), (1234567, "1,234,567"), (12345.6, "12,346"), (-0.00012, "-0.00012"), (0.0, "0"),
        (True, "yes"), ("text", "text"), ([1, 3.5], "1, 3.5"), ([], "none"),
        (["<b>", None], "&lt;b&gt;, " + str(shown(None))),
    ],
)  # fmt: skip
def test_values_are_written_for_people(value, text):
    assert shown(value) == text


def test_bytes_are_written_in_powers_of_1000():
    assert [amount(size) for size in (0, 999, 1000, 12_345_678, 5 * 10**15)] == ["0 B", "999 B", "1.0 kB", "12.3 MB", "5000.0 TB"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is absent")
def test_the_commands_of_the_report_check_signatures_without_us(descent, tmp_path):
    chain = descent()
    html = report_of(chain)
    commands = Page(re.search(r'<pre id="signatures">.*?</pre>', html, re.DOTALL)[0]).words
    create_keys(tmp_path / "keys", tmp_path / "trust")
    runner, now = load_signer(tmp_path / "keys", "runner"), dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    lines = [
        sign(provenance(v.manifest, run_id="r", started=now, finished=now, code=CodeState("0" * 64)), runner)
        for v in chain.versions.values()
    ]
    statements = tmp_path / "statements.jsonl"
    statements.write_bytes(b"".join(line + b"\n" for line in lines))
    checked = subprocess.run(["sh", "-c", "".join(commands)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.stdout.splitlines() == ["Signature Verified Successfully"], checked.stderr

    at = len(lines[-1]) - 40  # a digit of the last signature
    forged = lines[-1][:at] + (b"A" if lines[-1][at : at + 1] != b"A" else b"B") + lines[-1][at + 1 :]
    statements.write_bytes(b"".join(line + b"\n" for line in (*lines[:-1], forged)))
    refused = subprocess.run(["sh", "-c", "".join(commands)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verified" not in refused.stdout
