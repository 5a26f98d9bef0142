"""Self-contained pages: what is escaped, where charts put their numbers, and what a browser makes of both."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import look, needs_browser
from jinja2 import UndefinedError
from markupsafe import escape

import twil.evaluation
from twil.evaluation.pages.axes import Axis, Frame, axis_around, log_axis_around
from twil.evaluation.pages.bars import IntervalMark, bar_chart, interval_chart
from twil.evaluation.pages.chart import Chart, cut
from twil.evaluation.pages.document import POLICY, render_page, templates, write_page
from twil.evaluation.pages.heat import heat_map
from twil.evaluation.pages.lines import Line, histogram, line_chart, point_chart
from twil.evaluation.pages.numbers import format_number, round_ticks
from twil.evaluation.pages.tables import Table

NASTY = "<script>alert(1)</script> & \"comillas\" 'así' <img src=x onerror=alert(2)>"
ESCAPED = (
    "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;comillas&#34; &#39;así&#39; "
    "&lt;img src=x onerror=alert(2)&gt;"
)
LABELS = ["negativo", "neutro", NASTY]
PAGE = """{% extends "base.html" %}
{% from "parts.html" import fact, figures, note, numbers, section %}
{% block title %}{{ nasty }}{% endblock %}
{% block about %}{{ nasty }}{% endblock %}
{% block main %}
{% call section(nasty) %}{{ figures(charts) }}{{ note(nasty) }}{% endcall %}
{% call section("Datos") %}
<dl>{{ fact(nasty, nasty) }}{{ fact("rows", 1234) }}</dl>
{{ numbers(table) }}
{% endcall %}
{% endblock %}"""
TEMPLATES = Path(twil.evaluation.__file__).parent / "templates"


def written(table: Table) -> str:
    return str(templates().get_template("parts.html").module.table(table))  # type: ignore[attr-defined]


def drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(str(chart.drawing))


def of_class(chart: Chart, name: str) -> list[ElementTree.Element]:
    return [part for part in drawn(chart).iter() if name in part.get("class", "").split()]


def every_chart() -> list[Chart]:
    curve = [(float(epoch), 1 / epoch) for epoch in range(1, 6)]
    return [
        line_chart(NASTY, [Line(NASTY, curve), Line("dev", curve[1:])], across=NASTY, up=NASTY, best=3),
        point_chart(
            NASTY, [(0, 1), (2, 3)], Table([NASTY], [[NASTY]]), across=NASTY, up=NASTY, diagonal=True
        ),
        histogram(NASTY, [0, 1, 2], [3, 4], across=NASTY),
        bar_chart(NASTY, LABELS, {NASTY: [0.1, 0.5, 1], "F1": [0.2, math.nan, 0]}, across=NASTY),
        interval_chart(NASTY, [IntervalMark(NASTY, 0.5, 0.4, 0.7)], across=NASTY, zero=True),
        heat_map(NASTY, LABELS, [[3, 1, 0], [0, 0, 0], [1, 1, 9]], down=NASTY, across=NASTY),
    ]


def full_page() -> str:
    page = templates().from_string(PAGE)
    return render_page(page, nasty=NASTY, charts=every_chart(), table=Table([NASTY], [[NASTY]]))


def test_an_axis_of_equal_factors_has_ticks_at_1_2_and_5() -> None:
    across = log_axis_around("texts/s", [30, 1000])
    assert across.ticks == [20, 50, 100, 200, 500, 1000]
    frame = Frame(across, Axis("score", 0, 1))
    assert frame.x(100) - frame.x(50) == pytest.approx(frame.x(1000) - frame.x(500))


def test_the_area_of_a_mark_grows_with_its_count() -> None:
    chart = line_chart("c", [Line("p", [(0, 0), (1, 1)], counts=[25, 100])], across="x", up="y")
    small, large = (float(part.get("r", "0")) for part in of_class(chart, "mark"))
    assert large == pytest.approx(2 * small)


class TestEscaping:
    def test_texts_and_attributes_are_written_as_they_read(self) -> None:
        cell = templates().from_string('<td title="{{ text }}">{{ text }}</td>')
        assert cell.render(text=NASTY) == f'<td title="{ESCAPED}">{ESCAPED}</td>'

    def test_nothing_that_a_page_is_made_of_can_bring_an_element(self) -> None:
        page = full_page()
        tags = set(re.findall(r"<(\w+)", page))
        assert tags.isdisjoint({"script", "img", "comillas"})
        assert page.count(ESCAPED) > 20

    def test_what_no_file_can_hold_is_replaced(self) -> None:
        paragraph = templates().from_string("<p>{{ text }}</p>\n")
        text = render_page(paragraph, text="a\x00b\x1bc\ud83dd\x85e\tf\ng")
        assert text == "<p>a\ufffdb\ufffdc\ufffdd\ufffde\tf\ng</p>\n"
        text.encode()

    def test_places_of_a_drawing_have_two_decimals_at_most(self) -> None:
        assert templates().from_string("{{ 1.23456 | at }} {{ 2.0 | at }}").render() == "1.23 2"

    def test_a_style_is_left_as_it_is_and_cannot_end_early(self) -> None:
        style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
        assert style in full_page()
        assert "</" not in style

    def test_no_template_leaves_a_text_as_it_is(self) -> None:
        sources = [template.read_text(encoding="utf-8") for template in TEMPLATES.iterdir()]
        assert len(sources) > 5
        assert not any(re.search(r"\|\s*safe\b|autoescape", source) for source in sources)

    def test_a_name_that_a_template_is_not_given_is_an_error(self) -> None:
        with pytest.raises(UndefinedError, match="'other' is undefined"):
            render_page(templates().from_string("{{ other }}"))


class TestPage:
    def test_it_refers_to_nothing_outside(self) -> None:
        page = full_page()
        assert re.findall(r"""<[^<>]*\b(?:src|href|srcset|action|data)="([^"]*)""", page) == ["data:,"]
        assert not re.search(r"url\(|@import|://", page)
        assert f'content="{escape(POLICY)}"' in page

    def test_the_same_content_gives_the_same_file(self, tmp_path: Path) -> None:
        write_page(tmp_path / "a.html", full_page())
        write_page(tmp_path / "b.html", full_page())
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()

    def test_columns_of_numbers_stand_to_the_right(self) -> None:
        text = written(
            Table(["label", "rows", "F1", "file"], [["P", 1234, 0.5, "x"], ["N", 2, math.nan, None]])
        )
        assert re.findall(r'<th class="number" scope="row"|<td class="number">([^<]*)', text) == [
            *("1,234", "0.5000", "2", "–")
        ]

    @needs_browser
    @pytest.mark.parametrize("width", [390, 1200])
    def test_a_browser_shows_all_charts_and_complains_of_nothing(self, tmp_path: Path, width: int) -> None:
        (tmp_path / "site").mkdir()
        write_page(tmp_path / "site" / "page.html", full_page())
        seen = look(tmp_path / "site" / "page.html", tmp_path / "profile", width=width)
        assert (seen.console, seen.fetched, seen.scripts) == ([], [], 0)
        assert seen.width <= width
        assert len(seen.sizes) == len(every_chart())
        assert all(300 < wide <= width and high > 60 for wide, high in seen.sizes)
        assert NASTY in seen.text

    @needs_browser
    def test_a_browser_s_complaints_are_heard(self, tmp_path: Path) -> None:
        (tmp_path / "site").mkdir()
        page = full_page().replace("<main>", '<main><img src="outside.png"><script>alert(1)</script>')
        write_page(tmp_path / "site" / "page.html", page)
        seen = look(tmp_path / "site" / "page.html", tmp_path / "profile")
        assert len(seen.console) >= 2
        assert all("Content Security Policy" in line for line in seen.console)
        assert (seen.fetched, seen.scripts) == ([], 1)

    @needs_browser
    def test_it_is_dark_where_that_is_wished(self, tmp_path: Path) -> None:
        (tmp_path / "site").mkdir()
        write_page(tmp_path / "site" / "page.html", full_page())
        grounds = [
            look(tmp_path / "site" / "page.html", tmp_path / f"profile{dark}", dark=dark).ground
            for dark in (False, True)
        ]
        assert grounds == ["rgb(255, 255, 255)", "rgb(21, 24, 28)"]


class TestNumbers:
    def test_ticks_are_round(self) -> None:
        assert round_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
        assert round_ticks(0.0013, 0.0021) == [0.0014, 0.0016, 0.0018, 0.002]
        assert round_ticks(-7, 12) == [-5, 0, 5, 10]
        assert round_ticks(1, 3, whole=True) == [1, 2, 3]

    def test_what_is_no_number_is_a_dash(self) -> None:
        assert [format_number(value) for value in (math.nan, math.inf, -math.inf)] == ["–"] * 3

    def test_numbers_keep_the_digits_that_count(self) -> None:
        assert [format_number(value) for value in (1234, 0.0, 0.25, -0.5, 12345.678, 3e-5, -0.00012)] == [
            *("1,234", "0.0000", "0.2500", "-0.5000", "12,345.7", "3.00e-05", "-1.20e-04")
        ]

    @pytest.mark.parametrize(
        "values", [[], [math.nan], [5.0], [0.0, 0.0], [-3.0, -3.0], [1e-9, 2e-9], [1e300]]
    )
    @pytest.mark.parametrize("options", [{}, {"zero": True}, {"whole": True}])
    def test_every_axis_has_room_and_ticks(self, values: list[float], options: dict[str, bool]) -> None:
        axis = axis_around("x", values, **options)
        assert axis.low < axis.high
        assert axis.ticks
        assert all(axis.low <= value <= axis.high for value in values if math.isfinite(value))

    def test_a_long_text_is_cut_where_there_is_no_room(self) -> None:
        assert (cut("abcdef", 36), cut("abcdefg", 36)) == ("abcdef", "abcde…")


class TestCharts:
    def test_points_of_a_line_lie_where_the_axes_say(self) -> None:
        across, up = Axis("x", 0, 10), Axis("y", 0, 1)
        chart = line_chart("t", [Line("a", [(0, 0), (5, 0.5), (10, 1)])], across=across, up=up)
        frame = Frame(across, up)
        places = [(float(m.get("cx", "")), float(m.get("cy", ""))) for m in of_class(chart, "mark")]
        assert places[0] == pytest.approx((frame.left, frame.bottom))
        assert places[1] == pytest.approx(((frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2))
        assert places[2] == pytest.approx((frame.right, frame.top))

    def test_a_line_is_broken_where_it_has_no_number(self) -> None:
        points = [(1, 1.0), (2, 2.0), (3, math.nan), (4, 1.0), (5, 2.0), (6, math.inf), (7, 1.0)]
        chart = line_chart("t", [Line("a", points)], across="x", up="y")
        assert len(of_class(chart, "line")) == 2
        assert len(of_class(chart, "mark")) == 5

    def test_lines_differ_by_more_than_their_colours(self) -> None:
        lines = [Line(str(number), [(0, number), (1, number)]) for number in range(4)]
        chart = line_chart("t", lines, across="x", up="y")
        dashes = [line.get("stroke-dasharray") for line in of_class(chart, "line")]
        assert len(set(dashes)) == 4
        assert [name for _, name in chart.legend] == ["0", "1", "2", "3"]

    def test_the_numbers_of_lines_stand_by_their_place(self) -> None:
        lines = [Line("a", [(1, 0.5), (2, 0.25)]), Line("b", [(2, 0.75)])]
        cells = re.findall(
            r"<t[dh]\b[^>]*>([^<]*)", written(line_chart("t", lines, across="x", up="y").numbers)
        )
        assert cells == ["x", "a", "b", "1", "0.5000", "–", "2", "0.2500", "0.7500"]

    def test_a_cell_is_as_dark_as_its_share_of_the_row(self) -> None:
        chart = heat_map("t", ["a", "b"], [[3, 1], [0, 0]], down="true", across="answer")
        assert [float(cell.get("fill-opacity", "")) for cell in of_class(chart, "cell")] == pytest.approx(
            [0.56, 0.19, 0, 0]
        )

    def test_many_labels_widen_a_heat_map_in_place_of_shrinking_it(self) -> None:
        names = [f"etiqueta {number}" for number in range(20)]
        chart = heat_map("t", names, [[1] * 20] * 20, down="true", across="answer")
        assert drawn(chart).get("class") == "wide"
        assert float(drawn(chart).get("width", "")) > 20 * 30

    def test_a_table_of_more_columns_than_paper_has_room_for_lists_them(self) -> None:
        names = [f"e{number}" for number in range(13)]
        counts = [[2 if row == column else 0 for column in range(13)] for row in range(13)]
        counts[0][5], counts[12] = 1234, [0] * 13
        text = written(heat_map("t", names, counts, down="true", across="answer").numbers)
        cells = re.findall(r"<td>([^<]*)", text)
        assert (cells[0], cells[1], cells[12]) == ("e5 1,234, e0 2", "e1 2", "–")

    def test_bars_are_as_long_as_their_figures(self) -> None:
        chart = bar_chart("t", ["a", "b"], {"F1": [0.5, 1.0]}, across=Axis("score", 0, 1))
        short, long = (float(bar.get("width", "")) for bar in of_class(chart, "area"))
        assert long == pytest.approx(2 * short, abs=0.01)
        assert chart.legend == ()

    def test_a_figure_that_is_no_number_has_no_bar(self) -> None:
        chart = bar_chart("t", ["a"], {"F1": [math.nan]}, across="score")
        assert of_class(chart, "area") == []
        chart = interval_chart("t", [IntervalMark("a", math.nan, math.nan, math.nan)], across="score")
        assert of_class(chart, "mark") == []

    def test_the_zero_of_differences_is_drawn(self) -> None:
        figures = [IntervalMark("a − b", 0.03, 0.01, 0.05)]
        assert of_class(interval_chart("t", figures, across="x", zero=True), "reference")
        assert not of_class(interval_chart("t", figures, across="x"), "reference")

    def test_every_chart_says_what_it_shows(self) -> None:
        for chart in every_chart():
            assert drawn(chart).get("aria-label") == NASTY
            assert drawn(chart).get("role") == "img"
            assert "<table>" in written(chart.numbers)
