"""Aims are judged, results are kept by case, and both show in the page and the plot."""

import math
import xml.etree.ElementTree
from pathlib import Path

from bench import plot, report, result
from bench.case import Aim, Behaviour, Case
from bench.result import Book, Result

CASE = Case(
    name="rpm_smooth_told",
    title="3,000 requests <a minute>",
    lines=5_000,
    behaviour=Behaviour(),
    aims=(Aim(figure="over_ideal", at_most=1.05), Aim(figure="rate", at_least=950), Aim(figure="recovery", at_most=30)),
)


def _result(**changes: object) -> Result:
    mine = {"seconds": 41.0, "ideal": 40.5, "quota_used": 0.98, "refused": 3.0, "lost": 0.0, "server_busy": 0.1}
    theirs = {"seconds": 20.0, "ideal": 40.5, "quota_used": 2.02, "refused": 7_000.0, "lost": 2_500.0}
    fields = {
        "case": CASE.name,
        "title": CASE.title,
        "lines": CASE.lines,
        "runs": 3,
        "server": "simulator",
        "measured_at": "2026-11-21",
        "machine": "Linux",
        "figures": {"gristmill": mine, "cookbook": theirs},
        "failures": {"openai_sdk": "not done after 300 s"},
        "verdicts": result.verdicts(CASE, {"over_ideal": 1.012, "rate": 900.0, "recovery": math.inf}),
    }
    return Result(**(fields | changes))  # type: ignore[arg-type]


def test_an_aim_is_met_missed_or_not_judged() -> None:
    assert result.verdicts(CASE, {"over_ideal": 1.012, "rate": 900.0, "recovery": math.inf}) == {
        "over_ideal ≤ 1.05": "met: 1.01",
        "rate ≥ 950": "missed: 900",
        "recovery ≤ 30": "missed: never",
    }
    assert set(result.verdicts(CASE, {}).values()) == {"not judged"}
    assert not _result().is_met
    assert _result(verdicts={"lost ≤ 0": "met: 0"}).is_met
    assert not _result(verdicts={"lost ≤ 0": "met: 0"}, failures={"gristmill": "it ended"}).is_met


def test_numbers_have_three_digits() -> None:
    assert [result.number(value) for value in (None, 0.0, 0.48123, 12.345, 12_345.6)] == [
        "-",
        "0",
        "0.481",
        "12.3",
        "12,346",
    ]


def test_a_case_that_is_measured_again_replaces_itself_and_no_other(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.write(_result(), _result(case="zero"))
    book.write(_result(runs=5))
    held = book.read()
    assert {name: one.runs for name, one in held.items()} == {"rpm_smooth_told": 5, "zero": 3}
    assert held["zero"] == _result(case="zero")


def test_figures_without_end_are_kept_as_nothing(tmp_path: Path) -> None:
    Book(tmp_path).write(_result(figures={"gristmill": {"recovery": math.inf}}))
    assert Book(tmp_path).read()["rpm_smooth_told"].figures == {"gristmill": {"recovery": None}}


def test_the_page_shows_every_client_and_every_aim(tmp_path: Path) -> None:
    report.write(tmp_path, Book(tmp_path).write(_result()))
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| gristmill | 41 | 40.5 | 0.98 | - | 3 | 0 |" in page
    assert "| cookbook | 20 | 40.5 | 2.02 | 0.488 | 7,000 | 2,500 |" in page
    assert "| openai_sdk | did not end |" in page
    assert "Runs of openai_sdk that did not end well: not done after 300 s." in page
    assert "over_ideal ≤ 1.05: met: 1.01; rate ≥ 950: missed: 900" in page
    assert "server simulator (at most 10% of a core)" in page


def test_the_plot_is_an_image_that_names_whom_it_shows() -> None:
    cpu = _result(case="zero", figures={"gristmill": {"cpu_ms": 0.5}, "cookbook": {"cpu_ms": 0.43}})
    drawn = plot.draw({"zero": cpu, "rpm_smooth_told": _result()})
    texts = ["".join(node.itertext()) for node in xml.etree.ElementTree.fromstring(drawn).iter()]
    assert "98%, 3 429s" in texts
    assert "202%, 2,500 lost, 7,000 429s" in texts
    assert any("3,000 requests <a minute>" in text for text in texts)


def test_nothing_measured_is_an_empty_plot() -> None:
    assert "<svg" in plot.draw({})
