"""`bin/bench` finds benchmarks by their file, prints ratios and writes JSON."""

import json
import sys
import types

import pytest

from benchmarks import __main__ as command
from benchmarks import report as reports
from benchmarks.report import BenchOptions, Report, Row


@pytest.fixture
def made_up(monkeypatch):
    """A benchmark that exists for this test only; the options it was given are appended to the list."""
    given = []

    def run(options):
        given.append(options)
        report = Report("made_up", notes=["The note."])
        report.add("cost", 5, "ms", reference=10, against="limit")
        report.add("speed", 200, "/s", reference=300, against="limit", better="more")
        report.add("told", 7, "nodes")
        return report

    module = types.ModuleType("benchmarks.bench_made_up", "Measures nothing.\n\nMore.")
    module.run = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(reports, "names", lambda: ["made_up"])
    return given


def test_it_prints_ratios_and_writes_json(made_up, tmp_path, capsys):
    assert command.main(["made_up", "--results", str(tmp_path), "--sizes", "10,20"]) == 0
    assert made_up == [BenchOptions(sizes=(10, 20))]
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("0.50×", "0.67×", "✓ kept", "✗ missed", "The note."))
    written = json.loads((tmp_path / "made_up.json").read_text())
    assert [(row["ratio"], row["ok"]) for row in written["rows"]] == [
        (0.5, True),
        (pytest.approx(2 / 3), False),
        (None, None),
    ]
    assert written["ok"] is False
    assert written["machine"]["cores"] >= 1
    assert written["machine"]["options"]["sizes"] == [10, 20]


def test_strict_fails_when_a_bound_is_missed(made_up, tmp_path):
    assert command.main(["--strict", "--results", str(tmp_path)]) == 1


def test_one_that_cannot_run_is_told_and_the_others_go_on(made_up, monkeypatch, tmp_path, capsys):
    module = types.ModuleType("benchmarks.bench_broken", "Breaks.")
    module.run = lambda options: (_ for _ in ()).throw(RuntimeError("worker ended: [why]"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(reports, "names", lambda: ["broken", "made_up"])
    assert command.main(["--results", str(tmp_path)]) == 1
    assert "broken could not be measured: worker ended: [why]" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["made_up.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no benchmark is called nothing; there are made_up"),
        (["--sizes", "0"], "--sizes"),
        (["--sizes", "many"], "--sizes"),
        (["--repeat", "-1"], "--repeat"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(made_up, arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err
    assert made_up == []


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        (Row("less", 1, "", reference=1), True),
        (Row("less", 1.5, "", reference=1, within=1.5), True),
        (Row("less", 1.6, "", reference=1, within=1.5), False),
        (Row("more", 1, "", reference=2, better="more"), False),
        (Row("more", 2, "", reference=2, better="more"), True),
        (Row("none", 1, "", reference=2, within=None), None),
        (Row("none", 1, ""), None),
    ],
)
def test_a_bound_is_on_the_ratio(row, ok):
    assert row.ok is ok


def test_every_benchmark_says_what_it_measures():
    assert "fleet" in reports.names()
    for name in reports.names():
        run, line = reports.load(name)
        assert callable(run)
        assert line.endswith((".", ":"))
