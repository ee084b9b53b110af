"""The files of the ladder's report, from reports made by hand."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hybrid_nds.reconcile import Figure, Report, RungResult
from hybrid_nds.reconcile._pages import write_reports

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert('x')</script>"
VERSIONS = (("diffrax", "0.7.0"), ("OrdinaryDiffEq (Julia)", "6.98.0"))


class Page(HTMLParser):
    """Tags with their attributes, and the text of each table row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.text = [], [], []
        self.cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text.append(data)
        if self.cell:
            self.rows[-1][-1] += data

    def row(self, start):
        """The one row whose first cell starts with a text."""
        (row,) = [r for r in self.rows if r[0].startswith(start) and len(r) == 5]
        return [" ".join(cell.split()) for cell in row]


def figure(claim, measured, limit=1.0, at=None):
    return Figure(claim, measured, limit, f"the limit of {claim}", at)


def reports():
    """One problem that holds, one that fails, one with nothing to compare."""
    ladder = [figure("diffrax against truth", e, 10 * e, e) for e in (1e-4, 1e-8)]
    holds = Report(
        "good",
        (
            RungResult("L0", reason="no Julia results to compare with"),
            RungResult("L2", (*ladder, figure("the error falls", 0.0, 0.0))),
        ),
        "recorded",
        VERSIONS,
    )
    odd = (
        figure(f"a claim {HOSTILE} & more", 3.2),
        figure("no number", math.nan),
        figure("far out", 1234.0),
        figure("no end", math.inf, at=1e-4),
        figure("no room", 0.5, 0.0),
        figure("a tiny share", 1e-9),
        figure("a quarter", 0.25),
    )
    fails = Report("<b>bad & odd", (RungResult("L2", odd),), "absent", VERSIONS[:1])
    rest = Report(
        "idle", (RungResult("L3", reason="of no use", applies=False),), "recorded", ()
    )
    return [holds, fails, rest]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder") / "out"
    path = write_reports(reports(), folder, "recorded")
    return path, path.read_text()


def test_the_files_are_all_there_and_whole(written):
    path, _ = written
    folder = path.parent
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    plots = {f"plots/{report.name}.png" for report in reports()}
    assert found == {"report.html", "report.md", "report.json", *plots}
    data = json.loads((folder / "report.json").read_text())
    assert [r["name"] for r in data["reports"]] == ["good", "<b>bad & odd", "idle"]
    assert data["julia"] == "recorded"
    assert not data["passed"]
    assert (
        "| good | not compared | not climbed | passed | not climbed |"
        in (folder / "report.md").read_text()
    )
    with pytest.raises(ValueError, match="`reports` is empty"):
        write_reports([], folder, "recorded")


def test_a_failed_write_leaves_no_part(tmp_path, monkeypatch):
    def stop(*_):
        raise OSError("disk full")

    monkeypatch.setattr("hybrid_nds._core._files.os.replace", stop)
    with pytest.raises(OSError, match="disk full"):
        write_reports(reports(), tmp_path, "recorded")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_page_loads_nothing_and_runs_nothing(written):
    _, text = written
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "b"})
    sources = [a["src"] for _, a in page.tags if "src" in a]
    # A figure for each problem that has any: the third has none.
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert ids == {"good", "<b>bad & odd", "idle"}
    hrefs = [a["href"] for _, a in page.tags if "href" in a]
    assert hrefs == ["#good", "#%3Cb%3Ebad%20%26%20odd", "#idle"]
    assert HOSTILE in "".join(page.text)


def test_every_figure_stands_in_the_page_once(written):
    page = Page(written[1])
    good = [r for r in page.rows if r[0].startswith("diffrax against truth")]
    assert [r[0] for r in good] == [
        "diffrax against truth, relative tolerance 1e-04",
        "diffrax against truth, relative tolerance 1e-08",
    ]
    assert good[0][1:] == ["1.00e-04", "1.00e-03", "10 %", "holds"]
    assert page.row("the error falls")[1:] == ["0.00e+00", "0.00e+00", "0 %", "holds"]
    assert page.row("a claim")[0] == f"a claim {HOSTILE} & more"
    assert page.row("a claim")[1:] == ["3.20e+00", "1.00e+00", "3.2 ×", "fails"]
    assert page.row("far out")[3:] == ["1,234 ×", "fails"]
    assert page.row("no number")[3:] == ["not finite", "fails"]
    assert page.row("no end")[3:] == ["not finite", "fails"]
    assert page.row("no room")[3:] == ["limit is 0", "fails"]
    assert page.row("a tiny share")[3:] == ["< 0.1 %", "holds"]
    assert page.row("a quarter")[3:] == ["25 %", "holds"]
    text = "".join(page.text)
    for report in reports():
        for one in (f for rung in report.rungs for f in rung.figures):
            assert re.search(rf"L2: {re.escape(one.derivation)}\n", text)


def test_the_overview_says_what_holds(written):
    page = Page(written[1])
    text = " ".join("".join(page.text).split())
    assert "1 of 3 problems hold; <b>bad & odd fails; for 1 nothing was compared." in (
        text
    )
    assert "Julia's results are recorded, not live." in text
    # The one problem whose Julia results are not those of the page says so.
    assert (
        text.count(
            "No Julia results: Diffrax alone, against a reference if there is one."
        )
        == 1
    )
    assert "Python: diffrax 0.7.0" in text
    assert "Julia: OrdinaryDiffEq 6.98.0" in text
    head, *body = (r for r in page.rows if len(r) == 4)
    assert head == ["problem", "L0 field", "L2 solution", "L3 observable"]
    assert body[0] == ["good", "not compared", "holds10 %", "not climbed"]
    assert body[1][0] == "<b>bad & odd"
    assert body[1][2] == "failsnot finite"
    assert body[2] == ["idle", "not climbed", "not climbed", "not applicable"]
    assert "no Julia results to compare with" in text


def test_all_that_holds_is_said_in_one_sentence(tmp_path):
    good = reports()[0]
    text = write_reports([good], tmp_path, "live").read_text()
    assert "The one problem holds." in text
    assert "Julia ran live." in text
    assert ">fails<" not in text


def test_time_and_verdicts_yet_unknown_are_shown(tmp_path):
    class Timed(RungResult):
        @property
        def verdict(self):
            return "not <compared>"

    rung = Timed("L1", (figure("a quarter", 0.25),), seconds=12.34)
    report = Report("one", (rung,), "live", VERSIONS)
    page = Page(write_reports([report], tmp_path, "live").read_text())
    (row,) = (r for r in page.rows if r[0] == "one")
    assert row[1] == "not <compared>25 %, 12.3 s"


def test_the_page_explains_the_rungs_as_the_readme_does(written):
    rows = {" | ".join(r) for r in Page(written[1]).rows}
    readme = (ROOT / "README.md").read_text()
    said = re.findall(r"^\| (L\d \w+ \| .+ \| .+) \|$", readme, re.MULTILINE)
    assert len(said) == 4
    assert set(said) <= rows
