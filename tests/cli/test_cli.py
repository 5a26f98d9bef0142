"""The command line: results on stdout, one line for an error, and nothing half-written."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.parquet as pq
import pytest
from bundles import write_bundle
from commands import Run, fails
from conftest import write_rows
from processes import TwilProcess
from rich.console import Console
from tuning import twil_command

from twil.cli.console import Display, make_table, show
from twil.cli.faults import KEPT
from twil.cli.main import _interrupt, guard, main
from twil.cli.pitfalls import warn_of_scores
from twil.cli.visible import visible
from twil.core.errors import TwilError
from twil.core.installation import install_command
from twil.core.task import Task
from twil.scores.metrics import score_logits

ORIGINAL = Path(__file__).parents[1] / "data" / "original"
COMMANDS = (
    *("demo", "vocab", "import", "finetune", "search", "evaluate", "compare", "export", "predict"),
    *("embed", "label", "explain", "benchmark", "models", "doctor"),
)


@pytest.mark.parametrize(
    ("signalled", "code", "said"),
    [(KeyboardInterrupt(), 130, "twil: interrupted\n"), (SystemExit(143), 143, "")],
)
def test_a_signal_in_the_middle_of_a_wait_ends_as_any_other_does(
    signalled: BaseException, code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        try:
            raise signalled
        finally:
            raise RuntimeError("cannot release un-acquired lock")

    with pytest.raises(SystemExit) as end:
        guard(command)()
    assert (end.value.code, capfd.readouterr().err) == (code, said)


def test_ctrl_c_that_is_heard_twice_at_once_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twil.cli.main._heard", {})
    with pytest.raises(KeyboardInterrupt):
        _interrupt(signal.SIGINT, None)
    _interrupt(signal.SIGINT, None)
    monkeypatch.setattr("twil.cli.main.ONE_PRESS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        _interrupt(signal.SIGINT, None)


@pytest.mark.parametrize(("signalled", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_of_which_a_library_makes_an_error_is_not_told_as_one(
    signalled: signal.Signals, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def importing() -> NoReturn:
        try:
            os.kill(os.getpid(), signalled)
            time.sleep(10)
        except BaseException as error:
            raise ImportError("initialization failed") from error
        raise AssertionError

    monkeypatch.setattr("twil.cli.doctor.command", importing)
    assert run("doctor")[0] == code


def test_another_error_of_a_running_program_keeps_its_traceback() -> None:
    def command() -> None:
        raise RuntimeError("a fault of twil itself")

    with pytest.raises(RuntimeError, match="a fault of twil itself"):
        guard(command)()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("cli") / "bundle")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [(f"qué bien {n}", "P") for n in range(6)] + [(f"qué mal {n}", "N") for n in range(6)]
    return write_rows(tmp_path / "labelled.tsv", rows)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['twil', '--help']\n"
        "from twil.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", done.stdout)
    for heavy in ("torch", "numpy", "pyarrow", "pydantic", "tokenizers", "onnxruntime", "sklearn", "jinja2"):
        assert f"'{heavy}'" not in done.stderr


def test_labelling_a_text_imports_what_it_needs_and_nothing_else(bundle: Path) -> None:
    program = (
        "import sys; from twil.cli.main import main\n"
        "try: main()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "label", "qué buen día", "--model", str(bundle), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    own = {"twil", "typer", "rich", "numpy", "tokenizers", "onnxruntime"}
    others = {
        "annotated_doc",
        "flatbuffers",
        "google",
        "markdown_it",
        "mdurl",
        "pygments",
        "shellingham",
        "click",
        "packaging",
    }
    assert own <= loaded
    found = {name for name in loaded if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert found <= own | others, found - own - others


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"twil {command} " in out


def test_version_and_wrong_usage(run: Run) -> None:
    from twil import __version__

    assert run("--version") == (0, f"twil {__version__}\n", "")
    assert run("predict", "--nonsense")[0] == 2
    assert run("conquer")[0] == 2


def test_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "twil", "--version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"twil ")


def test_the_whole_way(run: Run, tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, dev, source = (examples / f"{name}.tsv" for name in ("tweets_train", "tweets_dev", "to_predict"))
    assert run("vocab", train, examples / "pairs.tsv", "--size", 800)[0] == 0
    code, out, err = run(
        *("finetune", train, "--dev", dev, "--test", dev, "--init", "tiny", "--tokenizer", "tokenizer.json"),
        *("--epochs", 1, "--pooling", "avg", "-o", "model"),
    )
    assert code == 0, err
    assert "macro average" in out
    assert "wrote model" in err
    code, _, err = run("export", "model", "--onnx", "-o", "bundle")
    assert code == 0, err
    shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
    shutil.move("bundle", "elsewhere")
    shutil.move("model", "moved")

    reports = [
        json.loads(run("evaluate", place, dev, "--json")[1])["report"] for place in ("moved", "elsewhere")
    ]
    assert reports[0] == reports[1]
    assert reports[0]["rows"] == 99

    code, out, err = run("predict", source, "--model", "elsewhere")
    assert code == 0, err
    header, *lines = out.removesuffix("\n").split("\n")
    assert header == "ID\tlabel\tnegative\tneutral\tpositive"
    assert len(lines) == 60
    assert "empty texts, predicted all the same: 2" in err
    assert run("predict", source, "-m", "elsewhere", "-o", "out.parquet", "--quiet") == (0, "", "")
    table = pq.read_table("out.parquet")
    assert table.column("label").to_pylist() == [line.split("\t")[1] for line in lines]
    assert run("predict", source, "-m", "elsewhere", "-o", "out.jsonl", "--keep", "TEXT", "-q")[0] == 0
    first = json.loads(Path("out.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert list(first) == ["ID", "TEXT", "label", "negative", "neutral", "positive"]


def test_the_demo_goes_the_whole_way_and_replaces_only_its_own_work(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    code, out, err = run("demo", "-o", folder)
    assert code == 0, err
    assert "99 tweets kept apart" in out
    assert "the first 12 of 60 predictions" in out
    assert len((folder / "predictions.tsv").read_text(encoding="utf-8").removesuffix("\n").split("\n")) == 61
    fails(run("demo", "-o", folder), "--force")
    (folder / ".twil-demo").unlink()  # now it might be anybody's
    fails(run("demo", "-o", folder, "--force"), "did not write there")
    assert (folder / "bundle" / "model.onnx").is_file()


def test_import_says_what_differs(run: Run, tmp_path: Path) -> None:
    case = ORIGINAL / "pkm"
    code, out, err = run(
        *("import", case / "weights.hdf5", "--config", case / "config.json", "--vocab", ORIGINAL / "vocab"),
        *("-o", tmp_path / "model"),
    )
    assert (code, out) == (0, "")
    assert "spare last row" in err
    assert "63 tensors" in err
    assert json.loads((tmp_path / "model" / "run.json").read_text())["command"] == "import"


def test_doctor_names_versions_extras_and_providers(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for part in ("onnxruntime", "CPUExecutionProvider", "loads", "threads"):
        assert part in out
    value = json.loads(run("doctor", "--json")[1])
    assert value["threads"] == len(os.sched_getaffinity(0))
    assert value["providers"]["CPUExecutionProvider"] == ""
    assert install_command("gpu") in value["extras"]["gpu"]


def test_doctor_calls_two_runtimes_a_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from twil.bundle import diagnosis

    monkeypatch.setattr(diagnosis.metadata, "version", lambda _: "1.0")
    code, _, err = run("doctor")
    assert code == 1
    assert "onnxruntime and onnxruntime-gpu are both installed" in err


def test_a_wrong_file_is_one_line(run: Run, bundle: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tsv"
    fails(run("predict", tmp_path / "none.tsv", "-m", bundle, "-o", out), "none.tsv", "no such file")
    fails(run("predict", labelled, "-m", bundle, "--text", "TEXTO", "-o", out), "TEXTO", "ID", "CLASS")
    (tmp_path / "empty.tsv").touch()
    fails(run("predict", tmp_path / "empty.tsv", "-m", bundle, "-o", out), "empty.tsv")
    (tmp_path / "picture.tsv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    fails(run("predict", tmp_path / "picture.tsv", "-m", bundle, "-o", out), "picture.tsv")
    fails(run("predict", labelled, "-m", tmp_path, "-o", out), "is no bundle")
    fails(run("predict", labelled, "-m", bundle, "-o", tmp_path / "no" / "out.tsv"), "mkdir -p")
    fails(run("predict", labelled, "-m", bundle, "--provider", "cuda", "-o", out), "CUDA")
    fails(run("evaluate", tmp_path, labelled), "is no model folder")
    fails(run("evaluate", tmp_path / "none", labelled), "there is no model folder")
    fails(run("export", bundle, "--onnx", "-o", tmp_path / "b"), "is a bundle: give the model folder")
    fails(run("predict", tmp_path, "-m", bundle, "-o", out), "is a folder")
    fails(run("evaluate", bundle, labelled), "labelled.tsv, line 2: the label 'P' is none of NEG, NEU, POS")
    fails(run("export", tmp_path, "-o", tmp_path / "b"), "no model folder")
    assert not out.exists()
    assert not (tmp_path / "b").exists()


def test_an_output_that_cannot_be_written_is_one_line(run: Run, bundle: Path, labelled: Path) -> None:
    encoder = write_bundle(labelled.parent / "encoder", None)
    for command, model, name in (("predict", bundle, "out.tsv"), ("embed", encoder, "out.npy")):
        fails(run(command, labelled, "-m", model, "-o", ""), "is no name for an output")
        fails(run(command, labelled, "-m", model, "-o", labelled / name), "there is no folder")
        fails(run(command, labelled, "-m", model, "-o", encoder), encoder.name)
    assert {entry.name for entry in labelled.parent.iterdir()} == {labelled.name, "encoder"}


def test_no_threads_are_wrong_usage(run: Run, bundle: Path, labelled: Path) -> None:
    for command in ("predict", "embed"):
        code, _, err = run(command, labelled, "-m", bundle, "-o", labelled.parent / "out", "--threads", 0)
        assert code == 2
        assert "--threads" in err


def test_a_bundle_with_one_changed_byte_is_refused(
    run: Run, bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    for name in ("model.onnx", "tokenizer.json"):
        copy = tmp_path / name.partition(".")[0]
        shutil.copytree(bundle, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        fails(run("predict", labelled, "-m", copy, "-o", tmp_path / "out.tsv"), name, "SHA-256")


def test_wrong_training_input_is_one_line_and_leaves_nothing(
    run: Run, labelled: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    model = tmp_path / "model"

    def finetune(train: Path, *options: object) -> tuple[int, str, str]:
        start = ("--init", "tiny", "--tokenizer", tokenizer_file)
        return run("finetune", train, "--dev", labelled, *start, "-o", model, *options)

    one = write_rows(tmp_path / "one.tsv", [("hola", "P"), ("adiós", "P")])
    fails(finetune(one), "one.tsv", "all rows have the label 'P'")
    header = tmp_path / "header.tsv"
    header.write_text("ID\tTEXT\tCLASS\n")
    fails(finetune(header), "header.tsv", "no rows")
    fails(finetune(labelled, "--label", "KLASS"), "KLASS", "CLASS")
    fails(finetune(labelled, "--set", "train.lr=-1"), "train.lr", "greater than 0")
    fails(finetune(labelled, "--pooling", "mean"), "cls", "avg")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    fails(finetune(labelled, "--tokenizer", broken), "broken.json")
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes((ORIGINAL / "pkm" / "weights.hdf5").read_bytes()[:5000])
    rest = ("--config", ORIGINAL / "pkm" / "config.json", "--vocab", ORIGINAL / "vocab", "-o", model)
    fails(run("import", cut, *rest), "cut.hdf5")
    fails(run("vocab", tmp_path / "none.tsv", "-o", tmp_path / "v.json"), "none.tsv")
    assert not model.exists()
    assert not list(tmp_path.glob("model*"))
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "v.json").exists()


def run_without_torch(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `twil` as on a machine where torch is not installed."""
    program = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError('No module named torch', name=name)\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from twil.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        "demo",
        "finetune a.tsv --dev a.tsv --init tiny --tokenizer t.json -o m",
        "export m --onnx -o b",
        "evaluate . labelled.tsv",
        "import w.hdf5 --config c.json --vocab v -o m",
    ],
)
def test_a_missing_extra_is_answered_with_its_command(arguments: str, labelled: Path) -> None:
    done = run_without_torch(labelled.parent, *arguments.split())
    fails((done.returncode, done.stdout, done.stderr), install_command("train"))


def test_a_bundle_is_scored_without_torch(bundle: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "labelled.tsv", [("hola", "POS"), ("adiós", "NEG")])
    done = run_without_torch(tmp_path, "evaluate", bundle, file, "--json")
    assert json.loads(done.stdout)["report"]["rows"] == 2
    done = run_without_torch(tmp_path, "compare", file, bundle, f"again={bundle}", "--json")
    assert [model["name"] for model in json.loads(done.stdout)["models"]] == ["bundle", "again"]


def test_a_model_of_pairs_is_scored_on_pairs_alone(run: Run, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "labelled.tsv", [("hola", "a"), ("adiós", "b")])
    pairs = write_bundle(tmp_path / "pairs", Task("class", ("a", "b"), pair=True))
    singles = write_bundle(tmp_path / "singles", Task("class", ("a", "b")))
    fails(run("evaluate", pairs, file), "the model reads pairs: name the second column", "--text-pair")
    fails(run("evaluate", singles, file, "--text-pair", "TEXT"), "single texts: leave out --text-pair TEXT")
    code, out, _ = run("evaluate", pairs, file, "--text-pair", "TEXT", "--json")
    assert code == 0
    assert json.loads(out)["report"]["rows"] == 2


def test_square_brackets_in_names_are_shown_as_they_stand(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a[").mkdir()
    bundle = write_bundle(tmp_path / "a[" / "[dev] :heart:", Task("class", ("[x]", "[/b]")))
    file = write_rows(tmp_path / "[dev].tsv", [("hola", "[x]"), ("adiós", "[/b]")])
    code, out, _ = run("evaluate", bundle, file)
    assert code == 0
    for part in ("[dev].tsv", "[dev] :heart:", "[x]", "[/b]"):
        assert part in out


def test_a_run_can_be_told_by_its_file_alone(
    run: Run, labelled: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    (tmp_path / "run.toml").write_text(
        f'[data]\ntrain = "{labelled}"\ndev = "{labelled}"\n'
        f'[model]\ninit = "tiny"\ntokenizer = "{tokenizer_file}"\n[train]\nepochs = 1\n'
    )
    code, _, err = run("finetune", "--config", tmp_path / "run.toml", "-o", tmp_path / "model")
    assert code == 0, err
    fails(
        run("finetune", "-o", tmp_path / "other", "--init", "tiny"),
        "data.train: is missing",
        "data.train: is missing",
    )


def test_labels_are_taken_with_blanks_around_the_commas(
    run: Run, labelled: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    start = ("--init", "tiny", "--tokenizer", tokenizer_file, "--epochs", 1, "--labels", "P , N")
    assert run("finetune", labelled, "--dev", labelled, *start, "-o", tmp_path / "model")[0] == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["model"]["task"]["labels"] == ["P", "N"]


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = ["evaluate", str(tmp_path), str(tmp_path / "x.tsv")]
    for arguments in (["--debug", *wrong], [*wrong, "--debug"]):
        monkeypatch.setattr(sys, "argv", ["twil", *arguments])
        with pytest.raises(TwilError):
            main()


def test_outputs_that_are_there_need_force(run: Run, labelled: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    fails(run("vocab", labelled, "-o", taken), "--force")
    assert taken.read_text() == "mine"


def test_ctrl_c_keeps_the_state_and_resume_finishes(
    labelled: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    start = ("--init", "tiny", "--tokenizer", tokenizer_file)
    endless = ("--epochs", "4000", "--set", "train.patience=5000")
    files = (labelled, "--dev", labelled, "-o", tmp_path / "model")
    command = [sys.executable, "-m", "twil", "finetune", *files, *start, *endless]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as begun:
        assert begun.stderr is not None
        for line in begun.stderr:
            if line.startswith("epoch 2 "):
                begun.send_signal(signal.SIGINT)
                break
        rest = begun.stderr.read()
    assert begun.returncode == 130
    assert "continue with the same command and --resume" in rest
    assert not (tmp_path / "model").exists()
    assert (tmp_path / "model.checkpoint").is_dir()
    process = TwilProcess("finetune", *files, *start, *endless, "--resume")
    process.wait_for("epoch ")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    assert "continuing after step" in process.said


def test_a_process_killed_in_training_and_continued_ends_with_the_same_weights(
    labelled: Path, tmp_path: Path, tokenizer_file: Path
) -> None:
    def arguments(folder: str) -> list[object]:
        start = (
            "--init",
            "tiny",
            "--tokenizer",
            tokenizer_file,
            "--epochs",
            12,
            "--set",
            "train.patience=12",
        )
        return ["finetune", labelled, "--dev", labelled, "-o", tmp_path / folder, *start]

    process = TwilProcess(*arguments("killed"))
    process.wait_for("epoch 2 ")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    resumed = twil_command(*arguments("killed"), "--resume")
    assert "continuing after step" in resumed.stderr
    assert twil_command(*arguments("whole")).exit_code == 0
    killed, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_a_reader_that_leaves_early_ends_predict_quietly(bundle: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "many.tsv", [("hola mundo", "x")] * 50_000)
    command = [sys.executable, "-m", "twil", "predict", source, "-m", bundle]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"ID\tlabel")
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1


STEERING = "\x1b]0;título\x07 \x1b[2J\x9b31m [red]:fire:[/red] \u202eatras\\"
WRITTEN_OUT = r"\x1b]0;título\x07 \x1b[2J\x9b31m [red]:fire:[/red] \u202eatras" + "\\"


def test_what_would_steer_a_terminal_is_written_out_and_other_text_stays(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert visible("¡ñandú! 👨‍👩‍👧 [MASK]\\n ⟦x⟧") == "¡ñandú! 👨‍👩‍👧 [MASK]\\n ⟦x⟧"
    assert visible("dos\nlíneas\ty\r\ud83d") == r"dos\nlíneas\ty\r\ud83d"
    display = Display()
    display.line(STEERING)
    display.warn(STEERING)
    display.table(make_table(STEERING, [STEERING, "n"], [[STEERING, 1]]))
    show(make_table(STEERING, [STEERING, "n"], [[STEERING, 1]]))
    out, err = capfd.readouterr()
    assert (out.count(WRITTEN_OUT), err.count(WRITTEN_OUT)) == (3, 5)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out + err)


def test_labels_and_names_cannot_steer_a_terminal_and_stay_what_they_are_in_json(
    run: Run, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "data.tsv", [("hola \x1b[2J", "\x1b[31mP"), ("adiós", "N")] * 2)
    code, out, err = run("data", source)
    assert (code, "\x1b" in out + err, r"\x1b[31mP" in out) == (0, False, True)
    code, out, _ = run("data", source, "--json")
    assert (code, r'"\u001b[31mP": 2' in out) == (0, True)
    code, out, err = run("predict", tmp_path / "no\x1b[31m.tsv", "-m", tmp_path)
    assert (code, out, err.count("\n"), "\x1b" in err) == (1, "", 1, False)
    assert r"no\x1b[31m.tsv: there is no such file" in err


def rendered(width: int) -> list[str]:
    rows = [["antidisestablishment", "tuned", "+0.0123", "-0.039 to +0.061", 0.9975, 12]]
    columns = ["model", "less", "difference", "95 %", "p", "alone right"]
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(make_table("differences of macro-F1", columns, rows))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [120, 80, 70, 60, 40])
def test_a_table_breaks_no_word_however_narrow_the_terminal(width: int) -> None:
    lines = rendered(width)
    assert {"antidisestablishment", "difference", "-0.039", "+0.061", "0.9975"} <= set(
        " ".join(lines).split()
    )
    assert max(map(len, lines)) <= width


def test_rows_too_wide_for_a_table_are_lists() -> None:
    assert len(rendered(120)) == 3
    assert "difference   +0.0123" in rendered(40)


@pytest.mark.parametrize(
    ("module", "error", "said"),
    [
        ("finetune", KeyboardInterrupt(), "twil: interrupted, and nothing was kept\n"),
        ("finetune", KeyboardInterrupt(KEPT), "twil: interrupted\n"),
        ("evaluate", KeyboardInterrupt(), "twil: interrupted\n"),
    ],
)
def test_an_interruption_says_that_nothing_was_kept_where_work_is_lost(
    module: str, error: BaseException, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    command.__module__ = f"twil.cli.{module}"
    with pytest.raises(SystemExit, match="130"):
        guard(command)()
    assert capsys.readouterr().err == said


def test_without_a_terminal_a_plain_line_now_and_then_says_where_the_work_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("twil.cli.console.PLAIN_SECONDS", 0.05)
    monkeypatch.setattr("twil.cli.console.time.monotonic", lambda: now[0])

    def said() -> str:
        threading.Event().wait(0.2)
        return capsys.readouterr().err.splitlines()[-1]

    with Display(doing="loading PyTorch") as display:
        assert said() == "loading PyTorch"
        display.update("0 rows", done=0.0)
        now[0] += 11
        display.update("100 rows", done=0.1)
        assert said() == "10%  1 min 39 s left  100 rows"  # the time left before figures
        display.update("checking")
        assert said() == "checking"
    capsys.readouterr()
    with Display(quiet=True) as display:
        display.update("checking")
        threading.Event().wait(0.1)
    assert capsys.readouterr().err == ""


def notes(targets: list[int], answers: list[int], capsys: pytest.CaptureFixture[str]) -> str:
    task = Task("class", ("joy", "anger", "fear"))
    logits = np.eye(3, dtype=np.float32)[answers]
    with Display() as display:
        warn_of_scores(display, score_logits(logits, np.array(targets), task))
    return capsys.readouterr().err


def test_scores_of_a_model_that_has_not_learned_its_task_are_said_with_what_to_try(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert notes([0, 1, 2] * 10, [0, 1, 2] * 10, capsys) == ""
    assert notes([0] * 20 + [1] * 10, [0] * 20 + [0] * 10, capsys).startswith(
        "note: labels of which no row is found: anger (more of their rows, --class-weights balanced"
    )
    assert "accuracy 0.1000 is below that of always saying 'joy', 0.9000" in notes(
        [0] * 90 + [1] * 10, [1] * 100, capsys
    )
    assert notes([0] * 5, [1] * 5, capsys).startswith("note: no prediction is right")
    assert notes([0] * 6 + [1] * 4, [0] * 5 + [1] * 5, capsys) == ""  # as many as that may be chance
