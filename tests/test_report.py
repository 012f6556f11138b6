"""Reports: complete, self-contained, readable, and the same figures everywhere."""

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

pytest.importorskip("jinja2", reason="reports need the extra: pip install 'convopt[bench]'")
pytest.importorskip("matplotlib", reason="reports need the extra: pip install 'convopt[bench]'")
pytest.importorskip("typer", reason="the command line's extras are not installed: pip install 'convopt[cli]'")

from planted import planted_results

from convopt.bench import report, results, tables
from convopt.bench.pictures import all_pictures
from convopt.bench.theme import COLOURS
from convopt.shape import ConvShape

README = f"# Title\n\nbefore\n\n{report.BEGIN}\nold figures\n{report.END}\n\nafter\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return results.read(planted_results(tmp_path_factory.mktemp("results"), noise=0.02))


@pytest.fixture(scope="module")
def pictures(found):
    return all_pictures(found)


@pytest.fixture(scope="module")
def page(found, pictures):
    return report.html(found, pictures)


class Checker(HTMLParser):
    """Collects what may go wrong in a page."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, page):
        super().__init__()
        self.open, self.ids, self.links, self.external = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href", "srcset", "data", "action", "poster"):
                (self.links if value.startswith("#") else self.external).append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_nothing_external_is_referenced(page):
    checked = Checker(page)
    assert checked.external == []
    assert not re.findall(r"@import|url\((?!#)", page)
    # The only addresses are names of XML's vocabularies.
    assert set(re.findall(r"https?://[^\"'\s<>]+", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(page.encode()) < 2 << 20


def test_the_page_is_well_formed(page):
    checked = Checker(page)
    assert checked.open == []
    assert len(checked.ids) == len(set(checked.ids))
    assert {link[1:] for link in checked.links} <= set(checked.ids)


def test_every_picture_has_words(pictures, page):
    names = ["layers-1", "layers-2", "engines", "networks", "map", "roofline", "growth", "scaling", "errors", "memory"]
    assert [each.name for each in pictures] == names
    for picture in pictures:
        root = ElementTree.fromstring(picture.svg)
        title = next(iter(root))
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == title.get("id")
        assert len(title.text) > 40
        assert picture.caption in unescape(page)


def test_pictures_follow_the_theme(pictures):
    for picture in pictures:
        used = set(re.findall(r"var\(--([\w-]+)\)", picture.svg))
        assert used <= {*COLOURS, "font"}
        assert "ink" in used
        assert not re.findall(r"#[0-9a-f]{6}\b", re.sub(r'="#[^"]*"|url\(#[^)]*\)', "", picture.svg)), "a colour that no theme changes"


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast_is_enough_to_read(theme):
    """WCAG: 4.5 for text, of which some is in an algorithm's colour or on it."""
    backdrop = COLOURS["page"][theme]
    for role, colours in COLOURS.items():
        if role not in ("page", "grid"):
            assert contrast(colours[theme], backdrop) >= 4.5, role
    assert contrast(COLOURS["faint"][theme], ("#f4f6f8", "#1d232a")[theme]) >= 4.5


def test_figures_are_the_same_everywhere(found, pictures, page, tmp_path):
    text = report.markdown(found, pictures)
    readme = tmp_path / "README.md"
    readme.write_text(README)
    report.update_readme(readme, found, tmp_path / "pictures")
    for headline in tables.headlines(found):
        figure = f"{headline.geomean:.2f}x"
        assert figure in page
        assert figure in text
        assert figure in readme.read_text()
    for threads in found.threads:
        for line in tables.lines(found, threads):
            assert f"{line.ratio:.2f}" in page
            assert f"| {line.layer} | {line.choice} |" in text


def test_tables_hold_every_engine_and_layer(found, page):
    assert page.count('<th scope="row"') >= 2 * 12
    for name in ("PyTorch NCHW", "PyTorch channels_last", "PyTorch prepacked"):
        assert f'<th scope="col">{name}</th>' in page
    assert "broke &lt;down&gt;" in page, "reasons are escaped"
    assert "not installed: No module" in page


def test_layers_have_a_share_of_what_the_machine_allows(found, page):
    """Of the peak where a layer has much to compute; of the nearest cache's bandwidth where it has little."""
    about = found.about | {
        "limits": {"1": {"gflops": 100.0, "bandwidth": [{"level": "L2", "gbps": 50.0}, {"level": "memory", "gbps": 10.0}]}},
        "caches": {"L2": 1 << 20},
    }
    measured = replace(found, about=about)
    compute = ConvShape(1, 14, 14, 256, 256, 3, 3, pads=((1, 1), (1, 1)))
    assert tables.allowed(measured, compute, 1) == 100.0
    near, far = (ConvShape(1, size, size, 32, 32, 1, 1, groups=32) for size in (56, 112))
    for shape, bandwidth in ((near, 50.0), (far, 10.0)):
        assert tables.allowed(measured, shape, 1) == pytest.approx(bandwidth * shape.flops / tables.traffic(shape))
    assert tables.allowed(measured, compute, 2) is None
    assert "of the limit" in page


def test_sums_serve_whole_networks(found, page):
    sums = tables.totals(found, 1)
    assert sums[0]["engine"] == "convopt"
    assert {each["engine"] for each in sums} == {"convopt", "PyTorch NCHW", "PyTorch channels_last", "PyTorch prepacked"}
    rows = found.of("convopt", 1)
    assert {each["engine"]: each["seconds"] for each in sums}["convopt"] == pytest.approx(sum(row.seconds for row in rows.values()))
    assert "All layers together" in page


def test_regret_is_the_guess_over_the_best(found, page):
    for each in tables.tuner(found):
        assert (each["layers"], each["right"]) == (12, 0)
        assert each["geomean"] == each["worst"] == pytest.approx(1.3)
        assert each["seconds"] == pytest.approx(12 * 0.25)
    assert "0 of 12" in page


def test_memory_is_compared_with_im2col(found):
    by_layer = {each["layer"]: each for each in tables.memory(found, 1)}
    each = by_layer["resnet50_3x3_64@56"]
    assert each["im2col"] == 56 * 56 * 9 * 64 * 4
    assert each["filters"] == 9 * 64 * 64 * 4
    assert each["workspace"] == 4096


def test_what_came_before_the_first_call_pays_off(found, page):
    for each in tables.payback(found, 1):
        assert each["packing"] == pytest.approx(0.2 * each["seconds"], rel=0.03)
        # The peer that takes filters with each call takes half as long again.
        assert each["packed_calls"] == 1
        assert each["tuned_calls"] == math.ceil(0.25 / (0.3 * each["seconds"])) or each["tuned_calls"] > 10
    assert "paid off after calls" in page


def test_calls_read_as_people_say_them():
    assert [report._calls(count) for count in (None, math.inf, 1, 950, 12345)] == ["", "never", "1", "950", "12,000"]


def test_tuner_figures_are_shown_where_they_were_kept(tmp_path):
    path = planted_results(tmp_path, threads=(1,))
    (tmp_path / "tuner").mkdir()
    (tmp_path / "tuner" / "ski_rental.json").write_text('{"date": "2026-01-01", "figures": {"regret <median>": 0.01234, "problems": 7}}')
    (tmp_path / "tuner" / "broken.json").write_text("{")
    read = results.read(path)
    assert [each["name"] for each in tables.tuner_figures(read)] == ["ski rental"]
    page = report.html(read, [])
    assert "regret &lt;median&gt;" in page
    assert "0.0123" in page
    assert "- problems: 7" in report.markdown(read, [])


def test_figures_of_the_tuner_are_no_runs(tmp_path):
    folder = tmp_path / "results" / "cpu"
    folder.mkdir(parents=True)
    planted_results(folder, "2026-01-01-a", threads=(1,))
    (folder / "tuner_regret.json").write_text('{"date": "2026-01-01", "figures": {}}')
    found, skipped = results.latest(tmp_path / "results")
    assert found.path.name == "2026-01-01-a.json"
    assert skipped == []


def test_markdown_tables_are_regular(found, pictures):
    rows = [line for line in report.markdown(found, pictures).splitlines() if line.startswith("|")]
    blocks = re.split(r"\n\n+", report.markdown(found, pictures))
    found_tables = [block.strip().splitlines() for block in blocks if block.strip().startswith("|")]
    assert sum(map(len, found_tables)) == len(rows), "a table has nothing but its rows"
    assert [len(each) - 2 for each in found_tables] == [2, 12, 12, 4, 12, 4]
    for each in found_tables:
        assert len({row.count("|") for row in each}) == 1, each[0]


def test_convopt_alone_is_a_report_too(tmp_path):
    alone = results.read(planted_results(tmp_path, peers=(), threads=(1,)))
    pictures = all_pictures(alone)
    assert [each.name for each in pictures] == ["networks", "map", "roofline", "growth", "errors", "memory"]
    page = report.html(alone, pictures)
    assert "No peers" in page
    assert Checker(page).open == []
    assert "about convopt alone" in report.markdown(alone, pictures)


def test_report_command(cli, tmp_path):
    path = planted_results(tmp_path, "2026-01-01-abc")
    result = cli("report", path)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "2026-01-01-abc"
    names = {file.name for file in folder.iterdir()}
    assert {"report.html", "report.md", "layers-1.png", "map.png"} <= names
    assert (folder / "layers-1.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "README.md").write_text(README)
    assert cli("report", path, "--readme", "README.md").exit_code == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Title\n\nbefore\n\n")
    assert text.endswith(f"{report.END}\n\nafter\n")
    assert "old figures" not in text
    for name in ("layers-1.png", "layers-1-dark.png"):
        assert f'"2026-01-01-abc/{name}"' in text
        assert (folder / name).exists()
    assert "| VGG-16 | 1 | 2 | 4, PyTorch NCHW | **2.00x** |" in text
    again = cli("report", path, "--readme", "README.md", "--json")
    assert again.exit_code == 0
    assert (tmp_path / "README.md").read_text() == text


def test_report_finds_the_newest_and_skips_the_broken(cli, tmp_path):
    folder = tmp_path / "results" / "cpu"
    folder.mkdir(parents=True)
    planted_results(folder, "2026-01-01-a", threads=(1,))
    (folder / "2026-01-02-b.json").write_text("{")
    result = cli("report")
    assert result.exit_code == 0, result.output
    assert "skipped" in result.stderr
    assert "2026-01-02-b.json" in result.stderr
    assert (folder / "2026-01-01-a" / "report.html").exists()


def test_report_refuses_mistakes(cli, tmp_path):
    for words, said in (
        (("report",), "there are no results below"),
        (("report", "absent.json"), "absent.json: cannot be read"),
    ):
        result = cli(*words)
        assert result.exit_code == 2
        assert said in result.stderr
    path = planted_results(tmp_path, threads=(1,))
    (tmp_path / "README.md").write_text("no marks\n")
    result = cli("report", path, "--readme", "README.md")
    assert result.exit_code == 2
    assert "lacks the lines" in result.stderr
