"""A whole small grid: run, interrupted, resumed, shared, reported, and never run twice."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from avpea import measure
from avpea.cli import main
from avpea.compare import Comparison, compare, load_sweep
from avpea.compare.results import by_video
from avpea.compare.summary import _per_class
from avpea.errors import AvpeaError, ExperimentError, TrainingError
from avpea.evaluate import SplitResult, evaluate
from avpea.files import write_json
from avpea.labels import EventSample
from avpea.tasks import Task
from avpea.train import train
from tests.tiny import elsewhere

pytest.importorskip("matplotlib")
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def sweep(tiny_experiment: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    recipe = folder / "tiny.yaml"
    recipe.write_text(tiny_experiment(**{"train.epochs": 2}).to_yaml(), encoding="utf-8")
    rows = {
        "nothing": {"recipe": str(recipe), "adapter": {"streams": "none"}, "published": {"accuracy": 72.01}},
        "LAVISH | $x$": {"recipe": str(recipe), "adapter": {"name": "lavish"}},
        "<b>AV-PEA</b>": {"recipe": str(recipe)},
    }
    quoted = {"DPNet": {"accuracy": 79.68, "why": "no official code"}}
    file = folder / "grid.yaml"
    values = {"title": "A & B", "seeds": [0, 1], "rows": rows, "reference": "<b>AV-PEA</b>", "quoted": quoted}
    file.write_text(yaml.safe_dump({**values, "published_where": "AVE"}, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def finished(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[str]]:
    folder = tmp_path_factory.mktemp("finished")
    said: list[str] = []
    peaks: list[float] = []
    measured = measure.peak_mb

    def peak_of_the_first(*words: str) -> float:
        """A process for each row would show nothing more."""
        if not peaks:
            peaks.append(measured(*words))
        return peaks[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "peak_mb", peak_of_the_first)
        done = compare(sweep, runs=folder / "runs", out=folder / "out", progress=False, say=said.append)
    return folder, done, said


def stored(out: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))}


def test_one_result_for_each_run(finished: tuple[Path, Comparison, list[str]]) -> None:
    folder, done, said = finished
    assert not done.failed
    assert not done.missing
    assert next(line for line in said if line.startswith("[")) == "[1/6] nothing, seed 0"
    found = stored(folder / "out")
    assert len(found) == 6
    for name, result in found.items():
        run = folder / "runs" / name
        assert result["epochs"] == [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        predictions = [json.loads(line) for line in (run / "predictions-test.jsonl").read_text().splitlines()]
        shares = {
            p["key"]: sum(a == b for a, b in zip(p["target"], p["prediction"], strict=True)) / 3 for p in predictions
        }
        assert result["test_videos"] == pytest.approx(shares, abs=1e-6)
        mean = sum(shares.values()) / len(shares)
        assert result["test"]["segment_accuracy"] == pytest.approx(mean)
        assert result["environment"] == json.loads((run / "environment.json").read_text())
    # Nothing that belongs to this machine's folders.
    assert str(folder) not in json.dumps(found)
    assert str(Path.home()) not in json.dumps(found)


def test_figures_of_the_summary(finished: tuple[Path, Comparison, list[str]]) -> None:
    folder, done, _ = finished
    assert done.summary is not None
    rows = {row.label: row for row in done.summary.rows}
    reference = rows["<b>AV-PEA</b>"]
    assert reference.difference is None
    assert reference.interval is None
    for label, row in rows.items():
        own = [r for r in stored(folder / "out").values() if r["row"] == label]
        accuracies = [r["test"]["segment_accuracy"] for r in own]
        assert row.test == tuple(accuracies)
        assert row.test_mean == pytest.approx(sum(accuracies) / 2)
        assert row.test_std == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
        if row is not reference:
            assert row.difference == pytest.approx(row.test_mean - reference.test_mean)
            assert row.difference is not None
            assert row.interval is not None
            assert row.interval[0] <= row.difference <= row.interval[1]
        assert row.step is not None
        assert row.step["step_seconds"] > 0
        assert row.step["peak_mb"] >= 0
    assert reference.step is not None
    assert 0.5 < reference.step["over_reference"]["median"] < 2
    assert rows["nothing"].adapters == 0
    assert done.summary.remarks == ("2 seeds: too few to judge the variance between seeds.",)


def test_the_report_in_both_forms(finished: tuple[Path, Comparison, list[str]]) -> None:
    folder, done, _ = finished
    report = folder / "out" / "grid"
    assert done.page == report / "index.html"
    assert done.page is not None
    assert done.summary is not None
    page, text = done.page.read_text(encoding="utf-8"), (report / "report.md").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;AV-PEA&lt;/b&gt;" in page
    assert "LAVISH \\| \\$x\\$" in text
    assert len(re.findall('src="data:image/png;base64,', page)) == 4
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == {path.name for path in report.glob("*.png")}
    for row in done.summary.rows:
        cell = f"{100 * row.test_mean:.2f} ± {100 * (row.test_std or 0):.2f}"
        assert cell in page
        assert cell in text
    for both in (page, text):
        assert "72.01" in both
        assert "DPNet (quoted)" in both
        assert "DPNet is only quoted: no official code." in both
        assert "AVE" in both
    written = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(done.summary.to_dict()))


def test_what_is_done_is_never_repeated(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done, _ = finished

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ran again")

    for name in ("train", "evaluate", "measure_costs"):
        monkeypatch.setattr(f"avpea.compare.grid.{name}", refuse)
    again = compare(sweep, runs=folder / "runs", out=folder / "out", progress=False)
    assert again.summary == done.summary
    # Neither runs nor data are needed for a report.
    alone = compare(sweep, {"data.root": ""}, runs="nowhere", out=folder / "out", run=False)
    assert alone.summary == done.summary


def test_a_lost_result_is_made_again_from_the_finished_run(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path
) -> None:
    folder, _, _ = finished
    shutil.copytree(folder / "out", tmp_path / "out")
    lost = sorted((tmp_path / "out").glob("*.json"))[0]
    before = lost.read_text(encoding="utf-8")
    lost.unlink()
    model = folder / "runs" / lost.stem / "model.safetensors"
    changed = model.stat().st_mtime_ns
    compare(sweep, runs=folder / "runs", out=tmp_path / "out", progress=False)
    assert lost.read_text(encoding="utf-8") == before
    assert model.stat().st_mtime_ns == changed  # nothing was trained


@pytest.mark.slow
def test_interrupted_and_gone_on_with(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = finished
    original, calls = evaluate, 0

    def stop_at_third(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr("avpea.compare.grid.evaluate", stop_at_third)
    places: dict[str, Any] = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        compare(sweep, **places, cost=False, progress=False)
    assert len(stored(tmp_path / "out")) == 2
    compare(sweep, **places, cost=False, progress=False)

    def timeless(found: dict[str, dict[str, Any]]) -> str:
        for result in found.values():
            for epoch in result["epochs"]:
                epoch |= {"seconds": 0, "waited_seconds": 0}
        return json.dumps(found)

    assert timeless(stored(tmp_path / "out")) == timeless(stored(folder / "out"))


def test_a_run_that_another_process_holds_is_left_to_it(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path
) -> None:
    folder, _, _ = finished
    shutil.copytree(folder / "out", tmp_path / "out")
    lost = sorted((tmp_path / "out").glob("*.json"))[0]
    lost.unlink()
    with elsewhere(folder / "runs" / lost.stem):
        done = compare(sweep, runs=folder / "runs", out=tmp_path / "out", progress=False)
    assert done.missing == (lost.stem,)
    assert done.summary is not None
    assert any(remark.startswith("Not finished: 1 run has no result") for remark in done.summary.remarks)
    assert "different seeds" in " ".join(done.summary.remarks)


def test_one_failure_does_not_stop_the_others(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = train

    def fail_for_lavish(experiment: Any, *arguments: Any, **options: Any) -> Any:
        if experiment.adapter.name == "lavish":
            raise TrainingError("The loss became nan.")
        return original(experiment, *arguments, **options)

    monkeypatch.setattr("avpea.compare.grid.train", fail_for_lavish)
    done = compare(sweep, runs=tmp_path / "r", out=tmp_path / "o", seeds=[0], cost=False, progress=False)
    assert list(done.failed.values()) == ["The loss became nan."]
    assert done.summary is not None
    assert [row.label for row in done.summary.rows] == ["nothing", "<b>AV-PEA</b>"]
    assert len(done.missing) == 1


def test_any_exception_is_one_rows_and_its_traceback_is_kept(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(experiment: Any, *some: Any, **named: Any) -> Any:
        if experiment.adapter.name == "lavish":
            raise KeyError("what an extension forgot")
        return train(experiment, *some, **named)

    monkeypatch.setattr("avpea.compare.grid.train", broken)
    words = ["compare", str(sweep), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--seeds", "0", "--no-cost"]) == 1
    said = capsys.readouterr().err
    (traced,) = (tmp_path / "out" / "grid").glob("failed-*.txt")
    assert str(traced) in said
    assert "KeyError: 'what an extension forgot'" in said
    assert "Traceback" not in said
    assert traced.read_text(encoding="utf-8").startswith("Traceback (most recent call last):")
    assert len(stored(tmp_path / "out")) == 2  # the other rows
    monkeypatch.setattr("avpea.compare.grid.train", train)
    assert main([*words, "--seeds", "0", "--no-cost"]) == 0
    assert not traced.exists()


def test_latex_and_csv_say_what_the_summary_says(finished: tuple[Path, Comparison, list[str]]) -> None:
    folder, done, _ = finished
    assert done.summary is not None
    with (folder / "out" / "grid" / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = (folder / "out" / "grid" / "report.tex").read_text(encoding="utf-8")
    assert [row["row"] for row in rows] == [row.label for row in done.summary.rows]
    for row, known in zip(rows, done.summary.rows, strict=True):
        assert float(row["test_mean"]) == known.test_mean
        assert (row["difference"] == "") == (known.difference is None)
        assert int(row["adapter_parameters"]) == known.adapters
        assert float(row["class: background"]) == known.per_class["background"]
        assert f"{100 * known.test_mean:.2f} $\\pm$ {100 * (known.test_std or 0):.2f}" in text
    assert "LAVISH \\textbar{} \\$x\\$ & " in text
    assert "\\textless{}b\\textgreater{}AV-PEA\\textless{}/b\\textgreater{}" in text
    assert "\\caption{A \\& B: Result}" in text
    inside, columns = False, 0
    for line in map(str.strip, text.splitlines()):  # every row has as many cells as its table has columns
        if line.startswith(r"\begin{tabular}"):
            columns = len(line.rpartition("{")[2]) - 1
        inside = (inside or line == r"\toprule") and line != r"\bottomrule"
        if inside and line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    for command in ("toprule", "midrule", "bottomrule", "begin{table}", "end{table}", "end{tabular}"):
        assert text.count(f"\\{command}") == text.count(r"\begin{tabular}")


def test_results_and_runs_of_other_settings_are_refused(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path
) -> None:
    folder, _, _ = finished
    with pytest.raises(ExperimentError, match=r"result of other settings \(train.epochs is 2, not 3\)") as caught:
        compare(sweep, {"train.epochs": 3}, runs=folder / "runs", out=folder / "out")
    assert "12 entries that cannot run" in str(caught.value)  # six results, and six runs
    (tmp_path / "broken").mkdir()
    name = sorted(path.name for path in (folder / "out").glob("*.json"))[0]
    (tmp_path / "broken" / name).write_text("{", encoding="utf-8")
    with pytest.raises(AvpeaError, match=rf"{name} is no result of avpea compare; remove it"):
        compare(sweep, runs=folder / "runs", out=tmp_path / "broken")


def test_different_test_videos_are_compared_on_what_they_share(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path
) -> None:
    folder, _, _ = finished
    shutil.copytree(folder / "out", tmp_path / "out")
    path = sorted((tmp_path / "out").glob("*.json"))[0]
    result = json.loads(path.read_text(encoding="utf-8"))
    result["test_videos"].popitem()
    write_json(path, result)
    again = compare(sweep, runs=folder / "runs", out=tmp_path / "out", run=False)
    assert again.summary is not None
    assert again.summary.videos == 2
    assert "Differences are over the 2 test videos that all runs answered, of up to 3." in again.summary.remarks


def test_a_file_in_the_place_of_a_folder(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AvpeaError, match=r"file cannot be used as a folder \(Not a directory\); choose another one"):
        compare(sweep, runs=tmp_path / "runs", out=tmp_path / "file")
    with pytest.raises(AvpeaError, match=r"below cannot be used as a folder \(Not a directory\)"):
        compare(sweep, runs=tmp_path / "file" / "below", out=tmp_path / "out")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_without_results(sweep: Path, tmp_path: Path) -> None:
    done = compare(sweep, runs=tmp_path, out=tmp_path / "out", run=False)
    assert done.summary is None
    assert done.page is None
    assert len(done.missing) == 6
    assert not (tmp_path / "out").exists()


def test_on_the_command_line(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avpea.cli import main

    folder, done, _ = finished
    words = ["compare", str(sweep), "--runs", str(folder / "runs"), "--out", str(folder / "out")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "A & B" in printed.out
    assert "DPNet" not in printed.err
    assert f"Report: {done.page}" in printed.out
    assert done.summary is not None
    for row in done.summary.rows:
        assert f"{100 * row.test_mean:.2f} ± {100 * (row.test_std or 0):.2f}" in printed.out
    assert main([*words, "--json", "--report", "--only", "nothing"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["label"] for row in rows] == ["nothing", "<b>AV-PEA</b>"]
    # A report on some rows does not replace the whole one.
    assert (folder / "out" / "grid--nothing-b-AV-PEA-b" / "index.html").is_file()
    assert json.loads((folder / "out" / "grid" / "summary.json").read_text()) == json.loads(
        json.dumps(done.summary.to_dict())
    )
    assert main(["compare"]) == 0
    assert "paper/table1" in capsys.readouterr().out
    assert main(["compare", str(sweep), "--report", "--out", str(tmp_path)]) == 1
    assert "holds no result" in capsys.readouterr().err
    assert main([*words, "--adapter.reduction", "7"]) == 1
    assert "nothing was started" in capsys.readouterr().err


@pytest.mark.slow
def test_a_last_epoch_was_not_chosen(tiny_experiment: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = {"train.keep": "last", "train.select_on": "test", "train.epochs": 1}
    (tmp_path / "tiny.yaml").write_text(tiny_experiment(**kept).to_yaml(), encoding="utf-8")
    rows = {"a": str(tmp_path / "tiny.yaml"), "b": {"recipe": str(tmp_path / "tiny.yaml"), "adapter": {"reduction": 4}}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"rows": rows, "seeds": [0]}), encoding="utf-8")
    root = Path(tiny_experiment().data.root)
    (tmp_path / "data").symlink_to(root)
    again: dict[str, Any] = {"runs": tmp_path / "runs", "out": tmp_path / "out", "cost": False, "progress": False}
    done = compare(tmp_path / "s.yaml", {"data.root": "~/data"}, **again)
    assert not done.failed
    assert done.summary is not None
    assert done.summary.last == ("a", "b")
    assert not any("selected on the test split" in remark for remark in done.summary.remarks)
    report = (tmp_path / "out" / "s" / "report.md").read_text(encoding="utf-8")
    assert "test videos; the last epoch was kept. Segment" in report
    for file in (tmp_path / "out").glob("*-seed0.json"):  # as earlier versions wrote it
        result = json.loads(file.read_text())
        assert result.pop("kept") == "last"
        if result["row"] == "b":
            result["kept"] = "best"
        write_json(file, result)
    monkeypatch.undo()
    summary = compare(tmp_path / "s.yaml", {"data.root": str(root)}, run=False, **again).summary
    assert summary is not None
    assert summary.last == ("a",)


def test_questions_are_compared_by_their_own_accuracy(tiny_asking: Make, tmp_path: Path) -> None:
    recipe = tmp_path / "asking.yaml"
    recipe.write_text(tiny_asking(**{"train.epochs": 1}).to_yaml(), encoding="utf-8")
    rows = {"blind": {"recipe": str(recipe), "head": {"name": "question_only"}}, "AVST": {"recipe": str(recipe)}}
    file = tmp_path / "asked.yaml"
    file.write_text(
        yaml.safe_dump({"rows": rows, "seeds": [0], "reference": "AVST"}, sort_keys=False), encoding="utf-8"
    )
    done = compare(file, runs=tmp_path / "runs", out=tmp_path / "out", progress=False)
    assert not done.failed
    assert done.summary is not None
    assert done.summary.figure.metric == "overall_accuracy"
    found = stored(tmp_path / "out")
    for row, result in zip(done.summary.rows, sorted(found.values(), key=lambda r: r["row"] == "AVST"), strict=True):
        assert row.test_mean == result["test"]["overall_accuracy"]
        assert set(result["test_weights"].values()) == {3}
        assert set(row.per_class) == {"Audio Existential", "Audio-Visual Temporal", "Visual Existential"}
    report = (tmp_path / "out" / "asked" / "report.md").read_text(encoding="utf-8")
    assert "Overall accuracy in percent" in report
    assert "## Types of questions" in report
    assert done.summary.rows[0].step is not None


@pytest.mark.parametrize(
    ("changed", "run", "said"),
    [
        (6, True, r"has a stored result on other data than .* holds now \(fingerprint 000000000000, not \w{12}\)"),
        (6, False, r"has a stored result on other data than .* holds now \(fingerprint 000000000000, not \w{12}\)"),
        (1, False, "The stored results are of different data: "),
    ],
)
def test_results_of_other_data_are_not_compared(
    finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path, changed: int, run: bool, said: str
) -> None:
    folder, _, _ = finished
    shutil.copytree(folder / "out", tmp_path / "out")
    for path in sorted((tmp_path / "out").glob("*.json"))[:changed]:
        result = json.loads(path.read_text(encoding="utf-8"))
        assert result["data"].keys() == {"reader", "root", "fingerprint", "rows"}
        write_json(path, {**result, "data": {**result["data"], "fingerprint": "0" * 64}})
    with pytest.raises(ExperimentError, match=said):
        compare(sweep, runs=folder / "runs", out=tmp_path / "out", run=run)


def test_a_report_needs_no_data(finished: tuple[Path, Comparison, list[str]], sweep: Path, tmp_path: Path) -> None:
    folder, done, _ = finished
    changes = {"data.root": str(tmp_path / "elsewhere")}
    again = compare(sweep, changes, runs=folder / "runs", out=folder / "out", run=False)
    assert again.summary is not None
    assert again.missing == done.missing
    with pytest.raises(ExperimentError, match="elsewhere"):
        compare(sweep, changes, runs=folder / "runs", out=folder / "out")


def test_a_sweep_that_was_read_has_its_options(tmp_path: Path) -> None:
    """They would be dropped, and other runs trained than were asked for."""
    for some in ({"changes": {"train.epochs": 1}}, {"seeds": [7]}):
        with pytest.raises(ExperimentError, match="give changes and seeds to load_sweep"):
            compare(load_sweep("mini/table4"), **some, runs=tmp_path, out=tmp_path)


def test_classes_that_only_some_seeds_have_are_in_the_table() -> None:
    seeds: Any = [{"a": 1.0}, {"a": 0.5, "b": 1.0}]
    for some in (seeds, seeds[::-1]):
        assert _per_class(some) == {"a": 0.75, "b": 1.0}


def test_a_process_that_imports_the_script_does_not_run_the_grid(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    one = multiprocessing.get_context('spawn').Process(target=print)\n"
        "    one.start()\n"
        "    one.join()\n"
        "    raise SystemExit(one.exitcode)\n"
        "from avpea.compare import compare\n"
        "compare('mini/table1', say=print)\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "guard its start with `if __name__ == '__main__':`" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["unguarded.py"]


def test_a_video_without_an_answer_has_no_score(tmp_path: Path) -> None:
    samples = [EventSample(key, key, tmp_path, 0.0, 1, "test", labels=(0,)) for key in ("a", "b")]
    task: Any = Task
    tested = SplitResult(tuple(samples), (None, None), ((1.0, 3), (0.0, 0)), {}, task)
    assert by_video(tested) == {"test_videos": {"a": 0.333333}, "test_weights": {"a": 3}}
