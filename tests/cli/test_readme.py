"""The README's commands work as they stand, and its figures are those that a script wrote."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tuning import twil_command

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{3,}", text))


def run(command: str) -> str:
    program, *arguments = shlex.split(command)
    assert program == "twil"
    done = twil_command(*arguments)
    assert done.exit_code == 0, f"{command}\n{done.output}"
    return done.output


@pytest.mark.timeout(240)
def test_commands_and_python_of_the_readme_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("examples", "tests", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (settings,) = fenced("toml")
    (tmp_path / "run.toml").write_text(settings, encoding="utf-8")
    blocks = fenced("console")
    commands = [block.partition("\n")[0].removeprefix("$ ") for block in blocks]
    assert [command.split()[1] for command in commands] == [
        *("predict", "vocab", "corpus", "pretrain", "plot", "evaluate", "fill-mask", "inspect", "data"),
        *("finetune", "finetune", "search", "evaluate", "compare", "report", "export", "export", "export"),
        *("predict", "export", "embed", "benchmark", "import", "doctor"),
    ]
    for command, block in zip(commands, blocks, strict=True):
        printed, shown = run(command), block.partition("\n")[2]
        if command.split()[1] not in (
            "benchmark",
            "doctor",
            "fill-mask",
            "inspect",
        ):  # whose words are the machine's
            assert words(shown) <= words(printed), command
    for program in fenced("python"):
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, stdout=subprocess.PIPE)


@pytest.mark.parametrize("name", ["corpus", "end_to_end", "fidelity", "finetune", "predict", "pretrain"])
def test_figures_of_the_readme_are_those_that_a_script_wrote(name: str) -> None:
    results = (ROOT / "benchmarks" / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert results.partition("\n\n")[2].strip() in README


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", README, flags=re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("twil demo")
    assert commands[1].endswith("pytest")
    assert all("-c constraints.txt" in command for command in commands)
