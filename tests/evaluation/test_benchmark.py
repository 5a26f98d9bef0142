"""The benchmark: what is timed and in which order, what the figures say, and what is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from bundles import TOKENS, make_tokenizer, write_bundle
from typer.testing import CliRunner

from twil.bundle import providers as nvidia
from twil.cli.benchmark import command
from twil.cli.main import guard
from twil.core.errors import ConfigError, MissingExtraError, ModelError, ProviderError
from twil.core.installation import install_command
from twil.core.machine import peak_memory
from twil.core.storage import write_json
from twil.data.batching import Batch
from twil.evaluation.benchmark import benchmark as benchmark_module
from twil.evaluation.benchmark.benchmark import (
    BenchmarkProgress,
    BenchmarkStarted,
    Contestant,
    benchmark,
    make_names,
    turn_order,
)
from twil.evaluation.benchmark.chart import draw_report
from twil.evaluation.benchmark.report import BenchmarkOptions, BenchmarkReport, Configuration, Measurement
from twil.evaluation.benchmark.timing import SETTLE_SECONDS, Facts, Shape, Subject, Timer, random_batch
from twil.evaluation.benchmark.worker import Opening, Worker, answers
from twil.scores.intervals import Latencies

RUNNER = CliRunner()
APP = typer.Typer()
APP.command("benchmark")(guard(command))
APP.callback()(lambda: None)  # a group, so that the command keeps its name
QUICK = ("--batch", "1,2", "--length", "4,8", "--rounds", "2", "--runs", "2", "--warmup", "1")


def facts(**changes: Any) -> Facts:
    known = {"engine": "onnxruntime", "version": "1", "provider": "cpu", "reason": "", "device": ""}
    known |= {"precision": "fp32", "kind": "classifier", "threads": 1, "max_length": 16, "tokens": 50}
    return Facts(**{**known, **changes})


class Clock:
    """A clock that stands still but while something is computed."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Machine:
    """Computes nothing, takes as long as it is told, and remembers what it was given."""

    def __init__(self, seconds: Callable[[int], float] = lambda _: 0.5, **changes: Any) -> None:
        self.clock = Clock()
        self.shapes: list[tuple[int, ...]] = []
        self.subject = Subject(self.run, facts(**changes))
        self._takes = seconds

    def run(self, batch: Batch) -> None:
        self.shapes.append(batch.input_ids.shape)
        self.clock.now += self._takes(len(self.shapes))

    def timer(self) -> Timer:
        return Timer(self.subject, seed=0, clock=self.clock)


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    return [write_bundle(tmp_path / "bundle"), write_bundle(tmp_path / "encoder", None, max_length=16)]


def call(*arguments: object) -> Any:
    return RUNNER.invoke(APP, ["benchmark", *map(str, arguments)])


class TestFigures:
    def test_percentiles_are_those_of_all_runs(self) -> None:
        seconds = np.arange(101).reshape(101, 1)[::-1] / 1000  # 0 to 100 ms, in any order
        assert Latencies(seconds.tolist(), seed=0).percentiles() == pytest.approx((0.050, 0.090, 0.099))

    def test_equal_times_leave_no_doubt(self) -> None:
        found = Latencies([[0.25] * 3] * 4, seed=0)
        assert found.rate(8) == pytest.approx((32, 32, 32))
        assert found.mean == 0.25
        assert found.speedup(Latencies([[0.5] * 3] * 4, seed=0)) == pytest.approx((2, 2, 2))

    def test_rate_is_rows_over_all_the_time(self) -> None:
        assert Latencies([[0.1, 0.3], [0.2, 0.4]], seed=0).rate(5).value == pytest.approx(20)

    def test_interval_holds_what_two_rounds_can_give(self) -> None:
        # Of two rounds a sample is twice the one, twice the other, or both: with 1/4, 1/4 and 1/2.
        rate = Latencies([[0.1], [0.3]], seed=3).rate(1)
        assert rate == pytest.approx((5, 1 / 0.3, 10))

    def test_interval_is_about_that_of_the_normal_distribution(self) -> None:
        seconds = 1 + 0.1 * np.random.default_rng(1).normal(size=(400, 1))
        rate = Latencies(seconds.tolist(), seed=0).rate(1)
        half = 1.96 * seconds.std() / np.sqrt(400)
        assert (rate.value - rate.low, rate.high - rate.value) == pytest.approx((half, half), rel=0.15)

    def test_rounds_are_drawn_and_not_runs(self) -> None:
        # All doubt lies between the runs of a round, and every round is like the others.
        rate = Latencies([[0.1, 0.9]] * 5, seed=0).rate(1)
        assert rate.low == pytest.approx(rate.high)

    def test_the_seed_decides_the_interval(self) -> None:
        seconds = np.random.default_rng(2).uniform(1, 2, size=(6, 2)).tolist()
        first, same, other = (Latencies(seconds, seed=seed).rate(1) for seed in (0, 0, 1))
        assert first == same
        assert first != other

    def test_drift_that_hits_both_alike_leaves_the_speedup_alone(self) -> None:
        drift = np.random.default_rng(3).uniform(1, 5, size=(9, 1))
        slow, fast = (Latencies((drift * base).tolist(), seed=4) for base in (0.3, 0.1))
        assert fast.speedup(slow) == pytest.approx((3, 3, 3))
        assert fast.rate(1).high > 1.2 * fast.rate(1).low

    def test_a_few_runs_that_were_held_up_hardly_change_the_speedup(self) -> None:
        held_up = [[0.1, 0.1, 7.0], *[[0.1] * 3] * 8]
        assert Latencies(held_up, seed=0).speedup(Latencies([[0.2] * 3] * 9, seed=0)).value == 2


class TestTimer:
    def test_first_runs_are_none_of_those_that_are_timed(self) -> None:
        machine = Machine(lambda number: 10.0 if number <= 4 else 0.5)  # three of warm-up, one to settle
        timer = machine.timer()
        assert timer.warm_up(Shape(2, 7), 3) == [10.0] * 3
        assert timer.time(Shape(2, 7), 5) == [0.5] * 5
        assert machine.shapes == [(2, 7)] * 9

    def test_quick_runs_are_repeated_before_a_turn_until_the_machine_has_settled(self) -> None:
        machine = Machine(lambda _: SETTLE_SECONDS / 4)
        timer = machine.timer()
        timer.warm_up(Shape(1, 1), 1)
        timer.time(Shape(1, 1), 2)
        assert 1 + 4 + 2 <= len(machine.shapes) <= 1 + 5 + 2

    def test_a_shape_is_never_timed_cold(self) -> None:
        timer = Machine().timer()
        timer.warm_up(Shape(2, 7), 1)
        with pytest.raises(AssertionError, match="not warm"):
            timer.time(Shape(2, 8), 1)

    def test_batches_have_no_pads_known_tokens_and_come_from_the_seed(self) -> None:
        batch = random_batch(Shape(3, 40), 50, seed=1)
        assert batch.input_ids.shape == (3, 40)
        assert (batch.attention_mask.min(), batch.segment_ids.max()) == (1, 0)
        assert 0 <= batch.input_ids.min() <= batch.input_ids.max() < 50
        np.testing.assert_array_equal(batch.input_ids, random_batch(Shape(3, 40), 50, seed=1).input_ids)
        assert (batch.input_ids != random_batch(Shape(3, 40), 50, seed=2).input_ids).any()


class FakeWorker:
    """A worker within this process, that writes down what it was asked."""

    asked: list[tuple[str, str, Shape]]
    longest = 16

    def __init__(self, module: str, opening: Opening) -> None:
        self.name = Path(opening.folder).name
        self.peak_memory = 7

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def facts(self) -> Facts:
        return facts(max_length=self.longest)

    def warm_up(self, shape: Shape, runs: int) -> list[float]:
        self.asked.append(("warm_up", self.name, shape))
        return [1.0] * runs

    def time(self, shape: Shape, runs: int) -> list[float]:
        self.asked.append(("time", self.name, shape))
        return [{"a": 0.2, "b": 0.1}[self.name]] * runs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Shape]]:
    monkeypatch.setattr(benchmark_module, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "asked", [], raising=False)
    return FakeWorker.asked


class TestOrder:
    def test_everything_is_warm_before_anything_is_timed(self, asked: list[tuple[str, str, Shape]]) -> None:
        list(benchmark([Contestant(Path("a")), Contestant(Path("b"))], BenchmarkOptions([1, 2], [4, 8])))
        cold = [entry for entry in asked if entry[0] == "warm_up"]
        assert asked[: len(cold)] == cold
        assert len(set(cold)) == len(cold) == 2 * 4
        timed = {(name, shape) for do, name, shape in asked if do == "time"}
        assert timed == {(name, shape) for _, name, shape in cold}

    def test_contestants_take_turns_at_every_shape_of_every_round(
        self, asked: list[tuple[str, str, Shape]]
    ) -> None:
        options = BenchmarkOptions([1], [4, 8], rounds=2, runs=3)
        list(benchmark([Contestant(Path("a")), Contestant(Path("b"))], options))
        timed = [(name, shape.length) for do, name, shape in asked if do == "time"]
        assert timed == [
            *(("a", 4), ("b", 4), ("a", 8), ("b", 8)),
            *(("b", 4), ("a", 4), ("b", 8), ("a", 8)),
        ]

    @pytest.mark.parametrize("contestants", [1, 2, 3, 5])
    def test_each_is_the_first_as_often_as_the_others(self, contestants: int) -> None:
        shapes = [Shape(1, 4), Shape(2, 4)]
        turns = list(turn_order(2 * contestants, shapes, contestants))
        firsts = [number for _, number in turns[::contestants]]
        assert {firsts.count(number) for number in range(contestants)} == {2 * len(shapes)}
        for start in range(0, len(turns), contestants):
            together = turns[start : start + contestants]
            assert len({shape for shape, _ in together}) == 1
            assert {number for _, number in together} == set(range(contestants))

    def test_lengths_that_no_model_reads_are_left_out_and_told(
        self, asked: list[tuple[str, str, Shape]]
    ) -> None:
        events = list(benchmark([Contestant(Path("a"))], BenchmarkOptions([1], [8, 16, 17, 99, 17])))
        assert isinstance(events[0], BenchmarkStarted)
        assert (events[0].dropped, events[0].longest) == ((17, 99), 16)
        assert {shape.length for _, _, shape in asked} == {8, 16}
        assert isinstance(events[-1], BenchmarkReport)
        assert events[-1].as_dict()["dropped_lengths"] == [17, 99]
        with pytest.raises(ConfigError, match="up to 16 tokens"):
            list(benchmark([Contestant(Path("a"))], BenchmarkOptions([1], [17])))

    def test_progress_counts_every_turn(self, asked: list[tuple[str, str, Shape]]) -> None:
        events = list(benchmark([Contestant(Path("a"))], BenchmarkOptions([1], [4], rounds=3)))
        timing = [
            event for event in events if isinstance(event, BenchmarkProgress) and event.doing == "timing"
        ]
        assert [(event.done, event.turns) for event in timing] == [(0, 3), (1, 3), (2, 3)]

    def test_the_report_compares_with_the_first(self, asked: list[tuple[str, str, Shape]]) -> None:
        options = BenchmarkOptions([4], [8], rounds=2, runs=3, seed=5)
        *_, report = benchmark([Contestant(Path("a")), Contestant(Path("b"))], options)
        assert isinstance(report, BenchmarkReport)
        found = report.as_dict()
        first, second = found["configurations"]
        assert first["shapes"][0]["speedup"] is None
        assert second["shapes"][0]["speedup"] == pytest.approx({"value": 2, "low": 2, "high": 2})
        (shape,) = second["shapes"]
        assert (shape["batch"], shape["length"]) == (4, 8)
        assert shape["latency_ms"] == pytest.approx({"p50": 100, "p90": 100, "p99": 100, "mean": 100})
        assert shape["texts_per_second"] == pytest.approx({"value": 40, "low": 40, "high": 40})
        assert shape["runs_ms"] == [[100.0] * 3] * 2
        assert second["peak_memory_bytes"] == 7
        assert found["options"]["seed"] == 5
        assert found["format"] == 1


def test_names_tell_contestants_apart() -> None:
    def names(*folders: str) -> list[str]:
        contestants = [Contestant(Path(folder)) for folder in folders]
        return [name.partition(" (")[0] for name in make_names(contestants, [facts()] * len(folders))]

    assert names("runs/a", "runs/b") == ["a", "b"]
    assert names("x/bundle", "y/bundle") == ["x/bundle", "y/bundle"]
    twice = make_names([Contestant(Path("a"))] * 3, [facts()] * 3)
    assert [name.removeprefix("a (fp32, onnxruntime on cpu)") for name in twice] == ["", " #2", " #3"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batches": [0]}, "--batch"),
        ({"batches": []}, "--batch"),
        ({"lengths": [8, -1]}, "--length"),
        ({"rounds": 1}, "--rounds 1"),
        ({"runs": 0}, "--runs 0"),
        ({"warmup": 0}, "--warmup 0"),
        ({"threads": 0}, "--threads 0"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_process_starts(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(benchmark_module, "Worker", None)
    with pytest.raises(ConfigError, match=said):
        next(benchmark([Contestant(Path("a"))], BenchmarkOptions(**changes)))


def test_no_contestant_and_an_unknown_provider_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to measure"):
        next(benchmark([]))
    with pytest.raises(ProviderError, match="'tpu': choose one of auto, cpu, cuda"):
        next(benchmark([Contestant(Path("a"), "tpu")]))


OPENING = {"folder": "x", "provider": "auto", "threads": None, "seed": 0}


class TestProcess:
    def test_requests_are_answered_in_order(self) -> None:
        machine = Machine()
        requests = [{"do": do, "rows": 2, "length": 3, "runs": 2} for do in ("warm_up", "time")]
        first, *rest = answers([OPENING, *requests], lambda _: machine.subject)
        assert Facts(**first) == facts()
        assert [len(answer["seconds"]) for answer in rest] == [2, 2]
        assert all(0 < answer["peak_memory"] <= peak_memory() for answer in rest)
        assert set(machine.shapes) == {(2, 3)}

    @pytest.mark.parametrize("error", [ModelError("está roto"), MissingExtraError("train", "this")])
    def test_an_error_is_the_last_answer(self, error: Exception) -> None:
        def fail(opening: Opening) -> Subject:
            raise error

        assert list(answers([OPENING, OPENING], fail)) == [
            {"error": str(error), "kind": type(error).__name__}
        ]

    def test_it_is_another_process_and_ends_with_the_block(self, bundles: list[Path]) -> None:
        with Worker(Contestant(bundles[0]).module, Opening(str(bundles[0]), "cpu", 1, 0)) as worker:
            assert worker.facts().kind == "classifier"
            assert len(worker.warm_up(Shape(2, 4), 3)) == 3
            assert min(worker.time(Shape(2, 4), 4)) > 0
            process = worker._process
            assert process.pid != os.getpid()
            assert worker.peak_memory > 2**20
        assert process.poll() is not None

    def test_a_process_that_dies_is_an_error_that_says_how(self, bundles: list[Path]) -> None:
        with Worker(Contestant(bundles[0]).module, Opening(str(bundles[0]), "cpu", 1, 0)) as worker:
            worker.facts()
            worker._process.kill()
            worker._process.wait()
            with pytest.raises(ModelError, match=r"bundle ended \(signal 9\).*smaller batches"):
                worker.time(Shape(2, 4), 1)

    def test_a_process_that_does_not_start_says_its_last_words(self) -> None:
        worker = Worker("twil.inference.ninguno", Opening("x", "cpu", 1, 0))
        with worker, pytest.raises(ModelError, match=r"exit code 1: .*ninguno"):
            worker.facts()

    def test_what_libraries_print_is_no_answer(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        program = (
            "import os\n"
            "from twil.evaluation.benchmark.bundle_process import open_measured\n"
            "from twil.evaluation.benchmark.worker import serve\n"
            "def open_noisily(opening):\n"
            "    print('loading'); os.write(1, b'a word of a library\\n')\n"
            "    return open_measured(opening)\n"
            "serve(open_noisily)\n"
        )
        (tmp_path / "noisy_subject.py").write_text(program, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        bundle = write_bundle(tmp_path / "bundle")
        with Worker("noisy_subject", Opening(str(bundle), "cpu", 1, 0)) as worker:
            assert worker.facts().provider == "cpu"


def test_who_asks_for_a_model_in_torch_imports_none() -> None:
    modules = "twil.evaluation.benchmark.torch_process, twil.evaluation.benchmark.chart"
    program = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def make_report(contestants: int = 2, lengths: Sequence[int] = (4, 8)) -> BenchmarkReport:
    random = np.random.default_rng(0)
    base = Latencies(random.uniform(0.1, 0.2, size=(3, 2)).tolist(), seed=0)
    shapes = [Shape(rows, length) for rows in (1, 8) for length in lengths]
    configurations = tuple(
        Configuration(
            f"bundle {number} (fp32, onnxruntime on cpu)",
            Path("bundle"),
            facts(),
            2**27,
            tuple(Measurement(shape, base, base.speedup(base) if number else None) for shape in shapes),
        )
        for number in range(contestants)
    )
    return BenchmarkReport(BenchmarkOptions((1, 8), lengths), configurations, (), 1.0)


class TestDrawing:
    @pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
    def test_the_ending_decides_the_format(self, tmp_path: Path, ending: str, start: bytes) -> None:
        pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
        output = tmp_path / f"speed{ending}"
        draw_report(make_report(), output)
        assert output.read_bytes().startswith(start)
        assert list(tmp_path.iterdir()) == [output]

    def test_axes_have_names_and_units_and_every_contestant_is_in_the_legend(self, tmp_path: Path) -> None:
        matplotlib = pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
        with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
            draw_report(make_report(contestants=9, lengths=[4]), tmp_path / "speed.svg")
        drawn = (tmp_path / "speed.svg").read_text(encoding="utf-8")
        for said in ("texts/s", "latency of a batch, ms", "rows of a batch", "rows of 4 tokens"):
            assert said in drawn
        assert all(f"bundle {number} (fp32" in drawn for number in range(9))

    def test_a_drawing_that_fails_leaves_what_was_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figure = pytest.importorskip("matplotlib.figure", reason="the extra 'plot' is not installed")
        old = tmp_path / "speed.png"
        old.write_bytes(b"old")

        def fail(self: object, path: Path, **options: object) -> None:
            Path(path).write_bytes(b"half of it")
            raise OSError("no space left")

        monkeypatch.setattr(figure.Figure, "savefig", fail)
        with pytest.raises(OSError, match="no space"):
            draw_report(make_report(), old)
        assert [path.name for path in tmp_path.iterdir()] == ["speed.png"]
        assert old.read_bytes() == b"old"

    def test_without_matplotlib_the_extra_is_named_before_anything_is_measured(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setattr(benchmark_module, "Worker", None)
        done = call("bundle", "--plot", tmp_path / "speed.png")
        assert done.exit_code == 1
        assert install_command("plot") in done.stderr


class TestCommand:
    def test_results_go_to_stdout_and_files_and_the_rest_to_stderr(
        self, bundles: list[Path], tmp_path: Path
    ) -> None:
        pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
        json_file, plot = tmp_path / "speed.json", tmp_path / "speed.svg"
        done = call(
            *bundles, *QUICK, "--length", "4,8,17", "--threads", 1, "--json", json_file, "--plot", plot
        )
        assert done.exit_code == 0, done.output
        for said in ("processor", "onnxruntime 1", "bundle (fp32, onnxruntime on cpu): 1 threads", "p99 ms"):
            assert said in done.stdout
        assert "encoder (fp32, onnxruntime on cpu)" in done.stdout
        assert "times as fast" in done.stdout
        assert "peak of a process" in done.stdout
        assert "rows of 17 tokens left out: the longest that all models read is 16" in done.stderr
        assert f"wrote {plot}" in done.stderr
        found = json.loads(json_file.read_text(encoding="utf-8"))
        first, second = found["configurations"]
        assert (first["kind"], second["kind"]) == ("classifier", "encoder")
        assert (first["provider"], first["threads"]) == ("cpu", 1)
        assert first["reason"]  # why auto took it
        assert [(shape["batch"], shape["length"]) for shape in first["shapes"]] == [
            *((1, 4), (1, 8), (2, 4), (2, 8)),
        ]
        assert np.shape(first["shapes"][0]["runs_ms"]) == (2, 2)
        assert first["peak_memory_bytes"] > 2**20
        assert found["machine"]["cpu"]
        assert found["versions"].keys() == {"twil", "python", "onnxruntime"}

    def test_quiet_leaves_results_alone(self, bundles: list[Path]) -> None:
        done = call(bundles[0], *QUICK, "--provider", "cpu", "-q")
        assert (done.exit_code, done.stderr) == (0, "")
        assert "times as fast" not in done.stdout

    def test_a_model_folder_is_measured_in_torch_beside_its_bundle(
        self, bundles: list[Path], tmp_path: Path
    ) -> None:
        pytest.importorskip("torch")
        from twil.config.model import EncoderConfig, ModelConfig
        from twil.model.folder import save
        from twil.model.twilbert import TWilBERT

        shape = {"hidden_size": 8, "n_layers": 1, "n_heads": 1, "head_size": 8, "max_positions": 16}
        config = ModelConfig(encoder=EncoderConfig(vocab_size=len(TOKENS), **shape), mlm=True)
        save(tmp_path / "model", TWilBERT(config), make_tokenizer(16), {})
        done = call(bundles[0], "--model", tmp_path / "model", *QUICK, "--json", tmp_path / "speed.json")
        assert done.exit_code == 0, done.output
        _, eager = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))["configurations"]
        assert (eager["engine"], eager["kind"], eager["tokens"]) == ("torch", "encoder", len(TOKENS))
        assert "model (fp32, torch on " in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "nothing to measure"),
            (["ninguno"], "there is no bundle folder ninguno"),
            (["{bundle}", "ninguno"], "there is no bundle folder ninguno"),
            (["{bundle}", "--batch", "0"], "--batch takes whole numbers from 1"),
            (["{bundle}", "--length", "0,8"], "--length takes whole numbers from 1"),
            (["{bundle}", "--batch", "1,x"], "--batch 1,x are no whole numbers"),
            (["{bundle}", "--length", "33"], "up to 32 tokens"),
            (["{bundle}", "--provider", "tpu"], "there is no provider 'tpu'"),
            (["--model", "{bundle}"], "is a bundle: give the model folder"),
            (["{bundle}", "--plot", "speed.txt"], "speed.txt is no picture"),
            (["{bundle}", "--json", "no/speed.json"], "there is no folder no"),
        ],
    )
    def test_bad_input_is_one_line_and_leaves_nothing(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        said: str,
    ) -> None:
        bundle = write_bundle(tmp_path / "bundle")
        monkeypatch.chdir(tmp_path)
        given = [argument.format(bundle=bundle) for argument in arguments]
        if "--json" not in given:
            given += ["--json", "speed.json"]
        done = call(*given)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("twil: error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        assert said in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]

    def test_cuda_that_cannot_be_had_fails_with_cause_and_cure(self, bundles: list[Path]) -> None:
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("CUDA may really load here")
        done = call(bundles[0], "--provider", "cpu,cuda", *QUICK)
        assert done.exit_code == 1
        assert done.stderr.startswith("twil: error: CUDA cannot be had, as the installed onnxruntime")
        assert install_command("gpu") in done.stderr

    def test_files_that_are_there_stay_without_force(self, bundles: list[Path], tmp_path: Path) -> None:
        output = tmp_path / "speed.json"
        write_json(output, "old")
        done = call(bundles[0], *QUICK, "--json", output)
        assert done.exit_code == 1
        assert "--force" in done.stderr
        assert json.loads(output.read_text(encoding="utf-8")) == "old"
        assert call(bundles[0], *QUICK, "--json", output, "--force").exit_code == 0
        assert json.loads(output.read_text(encoding="utf-8"))["format"] == 1


class FakeDriver:
    """What is called of NVIDIA's driver, with one device or a fault."""

    def __init__(self, fault: int = 0) -> None:
        self.fault = fault

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGet(self, handle: object, number: int) -> int:  # noqa: N802
        return self.fault

    def cuDeviceGetName(self, name: Any, size: int, handle: object) -> int:  # noqa: N802
        name.value = b"NVIDIA Nada 100"
        return 0


@pytest.mark.parametrize(
    ("driver", "name"), [(FakeDriver(), "NVIDIA Nada 100"), (FakeDriver(fault=101), ""), (None, "")]
)
def test_a_gpu_has_the_name_that_its_driver_gives(
    monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None, name: str
) -> None:
    monkeypatch.setattr(nvidia, "_load_driver", lambda: driver)
    assert nvidia.device_name() == name
