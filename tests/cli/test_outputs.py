"""An output is written by one run at a time, and what another has written is never replaced unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bundles import write_bundle
from conftest import write_rows
from corpora import make_corpus, tiny_run, write_first
from locks import held
from tuning import tiny_config, tiny_options, twil_command

import twil
from twil.cli.console import Display
from twil.cli.options import name_output
from twil.config.search import search_plan
from twil.config.training import finetune_config
from twil.core.errors import TwilError
from twil.data.corpus.build import build_corpus
from twil.data.corpus.corpus import open_corpus
from twil.exporting.bundle import export_onnx
from twil.inference.embed_file import embed_events
from twil.inference.predict_file import predict_events
from twil.search.run import search
from twil.text import vocabulary
from twil.text.tokenizer import load_tokenizer
from twil.train.finetune import finetune_events
from twil.train.loop import Interrupted, StepDone
from twil.train.pretraining import pretrain_events
from twil.train.runs import finetune_runs_events

ABSENT = Path("absent.tsv")
"""Every input of these calls: whoever comes to look for it has begun to work."""


def finetuning() -> Any:
    data = {"train": ABSENT, "dev": ABSENT}
    return finetune_config(None, {"data": data, "model": {"init": "tiny", "tokenizer": ABSENT}}, ())


def searching() -> Any:
    data = {"train": ABSENT, "dev": ABSENT}
    return search_plan(
        None, {"data": data, "model": {"init": "tiny", "tokenizer": ABSENT}}, ("lr=1e-2,1e-3",), {}
    )


def build_original(output: Path) -> None:
    """Make the corpus of a run that the original describes, as `twil pretrain` does."""
    from twil.train.pretraining import reserved_place

    with reserved_place(tiny_run(ABSENT), output, resume=False, overwrite=False, device="cpu"):
        raise TwilError(f"{ABSENT} is looked for")


CALLS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "build_corpus": ("corpus", lambda output: list(build_corpus([ABSENT], output, ABSENT))),
    "pretrain": ("model", lambda output: list(pretrain_events(tiny_run(ABSENT), output))),
    "reserved_place": ("model", build_original),
    "finetune": ("model", lambda output: list(finetune_events(finetuning(), output))),
    "finetune --resume": ("model", lambda output: list(finetune_events(finetuning(), output, resume=True))),
    "finetune --force": ("model", lambda output: list(finetune_events(finetuning(), output, overwrite=True))),
    "finetune_runs_events": (
        "model",
        lambda output: list(finetune_runs_events(finetuning(), output, runs=2)),
    ),
    "search": ("found", lambda output: list(search(searching(), output))),
    "export_onnx": ("bundle", lambda output: export_onnx(ABSENT, output)),
    "predict_events": ("out.tsv", lambda output: list(predict_events(ABSENT, ABSENT, output))),
    "embed_events": ("out.npy", lambda output: list(embed_events(ABSENT, ABSENT, output))),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "tokenizer.json": ("vocab", "absent.tsv", "-o"),
    "corpus": ("corpus", "absent.tsv", "--tokenizer", "absent-model", "-o"),
    "model": ("import", "absent.h5", "--config", "absent.json", "--vocab", "absent.txt", "-o"),
    "page.html": ("report", "absent", "-o"),
    "curves.png": ("plot", "absent", "-o"),
    "table.md": ("compare", "absent.tsv", "absent", "-o", "other.html", "-o"),
    "speed.json": ("benchmark", "absent", "--json"),
    "speed.svg": ("benchmark", "absent", "--json", "other.json", "--plot"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_whose_output_another_run_writes_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    output, call = tmp_path / CALLS[name][0], CALLS[name][1]
    with held(output):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(TwilError) as refused:
            call(output)
        assert str(refused.value) == (
            f"another process is writing {output}: wait for it, or choose another output"
        )
        assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(TwilError, match="absent"):  # the file is there, and nobody holds it
        call(output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", COMMANDS)
def test_a_command_whose_output_another_run_writes_is_refused_before_any_work(
    output: str, tmp_path: Path
) -> None:
    with held(Path(output)):
        before = sorted(tmp_path.iterdir())
        done = twil_command(*COMMANDS[output], output)
        said = f"twil: error: another process is writing {output}: wait for it, or choose another output\n"
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", said)
        assert sorted(tmp_path.iterdir()) == before
    done = twil_command(*COMMANDS[output], output)
    assert (done.exit_code, "absent" in done.stderr) == (1, True), done.output
    assert list(tmp_path.iterdir()) == []


def test_a_demo_is_refused_beside_another_and_replaces_one_that_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begin(*_: Any, **__: Any) -> None:
        raise TwilError("the work begins")

    monkeypatch.setattr(vocabulary, "train_vocabulary", begin)
    Path("demo").mkdir()
    for name in (".twil-demo", ".model.lock", ".predictions.tsv.lock"):
        (Path("demo") / name).touch()
    with held(Path("demo")):
        done = twil_command("demo", "-o", "demo", "--force")
    assert (done.exit_code, "another process is writing demo" in done.stderr) == (1, True)
    assert Path("demo").is_dir()
    assert twil_command("demo", "-o", "demo", "--force").stderr.endswith("twil: error: the work begins\n")
    assert not any(Path().iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ("compare", ABSENT, "absent", "-o", "page.md", "-o", "./page.md"),
        ("benchmark", "absent", "--json", "page.svg", "--plot", "./page.svg"),
    ],
)
def test_an_output_that_is_named_twice_is_told(command: tuple[str, ...]) -> None:
    done = twil_command(*command)
    assert done.exit_code == 1
    assert done.stderr == f"twil: error: {Path(command[-1])} is named twice as an output: name it once\n"
    assert not any(Path().iterdir())


def test_the_root_of_the_system_is_no_output() -> None:
    for call in (CALLS[name][1] for name in ("finetune", "finetune_runs_events", "pretrain", "search")):
        with pytest.raises(TwilError, match="'/' is no name for an output"):
            call(Path("/"))


def appear_at_once(events: Iterator[Any], output: Path, kind: type) -> None:
    """Follow a run, and write its output in its place as soon as it is at work."""
    for event in events:
        if isinstance(event, kind) and not output.exists():
            output.mkdir()
            (output / "config.json").write_text("mío", encoding="utf-8")


def check_kept(refused: TwilError, output: Path, kept: Path) -> None:
    assert str(refused) == (
        f"another process has written {output} meanwhile, and it is not replaced: what was made is in {kept}"
    )
    assert [entry.name for entry in output.iterdir()] == ["config.json"]
    assert (output / "config.json").read_text(encoding="utf-8") == "mío"


def test_a_model_that_appears_while_another_is_trained_stays_and_both_are_there(
    tmp_path: Path, tokenizer_file: Path
) -> None:
    config = tiny_config(tmp_path, tokenizer_file, "train.epochs=1")
    for number, run in enumerate(
        (
            lambda output: finetune_events(config, output),
            lambda output: finetune_runs_events(config, output, runs=1),
        )
    ):
        output = tmp_path / f"model{number}"
        with pytest.raises(TwilError) as refused:
            appear_at_once(run(output), output, StepDone)
        check_kept(refused.value, output, tmp_path / f"model{number}-2")
        assert twil.load(tmp_path / f"model{number}-2").task is not None


def test_a_corpus_that_appears_while_another_is_made_stays_and_so_does_an_encoder(
    tmp_path: Path, examples: Path, tokenizer_file: Path
) -> None:
    file, output = write_first(examples / "pairs.tsv", 40, tmp_path), tmp_path / "corpus"
    with pytest.raises(TwilError) as refused:
        appear_at_once(build_corpus([file], output, tokenizer_file), output, object)
    check_kept(refused.value, output, tmp_path / "corpus-2")
    run = tiny_run(tmp_path / "corpus-2", "train.steps=1")
    assert open_corpus(run.data.corpus).train is not None
    with pytest.raises(TwilError) as refused:
        appear_at_once(pretrain_events(run, tmp_path / "model"), tmp_path / "model", StepDone)
    check_kept(refused.value, tmp_path / "model", tmp_path / "model-2")


def test_a_file_that_appears_while_another_is_made_stays_unless_it_may_be_replaced(
    tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, train = tmp_path / "tokenizer.json", vocabulary.train_vocabulary

    def appear(*arguments: Any, **options: Any) -> Any:
        output.write_text("mío", encoding="utf-8")
        return train(*arguments, **options)

    monkeypatch.setattr(vocabulary, "train_vocabulary", appear)
    command = ("vocab", examples / "pairs.tsv", "--size", 300, "-o", output)
    done = twil_command(*command)
    assert done.exit_code == 1
    assert f"{output} meanwhile, and it is not replaced: what was made is in " in done.stderr
    assert output.read_text(encoding="utf-8") == "mío"
    assert load_tokenizer(tmp_path / "tokenizer-2.json").get_vocab_size() == 300
    assert twil_command(*command, "--force").exit_code == 0
    assert load_tokenizer(output).get_vocab_size() == 300


def test_who_stops_listening_at_the_last_event_does_not_keep_the_output(
    tmp_path: Path, tokenizer_file: Path, examples: Path
) -> None:
    config = tiny_config(tmp_path, tokenizer_file, "train.epochs=1")
    corpus = make_corpus(examples, tokenizer_file, tmp_path / "corpus")
    plan = search_plan(None, tiny_options(tmp_path, tokenizer_file), ("lr=1e-2,1e-3",), {})
    for name, run in (
        ("finetune", lambda output, **more: finetune_events(config, output, **more)),
        ("runs", lambda output, **more: finetune_runs_events(config, output, runs=2, **more)),
        (
            "pretrain",
            lambda output, **more: pretrain_events(tiny_run(corpus, "train.steps=2"), output, **more),
        ),
        ("search", lambda output, **more: search(plan, output, **more)),
    ):
        output = tmp_path / name
        events = run(output, should_stop=lambda: True)
        seen = next(event for event in events if "Interrupted" in type(event).__name__)
        assert isinstance(seen, Interrupted) or name == "search"
        with held(output):  # while `events` has not been told that nobody listens
            pass
        output.with_name(f".{name}.lock").unlink()


@pytest.mark.parametrize("command", [("vocab", "--size", 300), ("compare",)], ids=str)
def test_no_output_takes_the_place_of_what_is_read(command: tuple[object, ...], tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.tsv", [("qué bien", "POS"), ("qué mal", "NEG")])
    models = [write_bundle(tmp_path / "bundle")] if command == ("compare",) else []
    before = rows.read_bytes()
    done = twil_command(
        *command[:1], rows, *models, *command[1:], "-o", tmp_path / "." / "rows.tsv", "--force"
    )
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "the output would replace its input" in done.stderr
    assert rows.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("data/train.tsv", "train-model"),
        ("tweets.jsonl.zst", "tweets-model"),
        ("reviews/camembert", "camembert-model"),
        ("runs/base/", "base-model"),
        ("tweets-*.parquet", "tweets-model"),
        (None, "model"),
    ],
)
def test_an_output_that_nobody_names_is_named_after_the_input_and_said(
    source: str | None, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Display() as display:
        assert name_output(display, None, source, "model") == Path(named)
        assert name_output(display, Path("mine"), source, "model") == Path("mine")
    assert capsys.readouterr().err == f"note: no -o: the output is {named}\n"


def test_rows_that_nobody_pipes_anywhere_go_into_a_file_and_never_over_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "tweets.tsv", [("qué día tan bonito", "")])
    assert "positive" in twil_command("predict", "tweets.tsv").stdout
    monkeypatch.setattr("twil.cli.predict.sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    done = twil_command("predict", "tweets.tsv")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "note: no -o: the output is tweets-labelled.tsv" in done.stderr
    assert "positive" in (tmp_path / "tweets-labelled.tsv").read_text(encoding="utf-8")
    again = twil_command("predict", "tweets.tsv")
    assert (again.exit_code, "tweets-labelled.tsv is there already" in again.stderr) == (1, True)
    assert twil_command("predict", "tweets.tsv", "--force").exit_code == 0
