"""Damaged tables, bundles, model folders, tokenizers and settings: each command ends as it is told to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mutations import KINDS, run_cases, write_whole
from processes import FORKS

CASES = {"tables": 160, "bundles": 60, "folders": 60, "settings": 50}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_input_ends_in_a_result_or_in_one_line(whole: Path, tmp_path: Path, kind: str) -> None:
    log, cases = tmp_path / "log.jsonl", range(CASES[kind])
    process = FORKS.Process(target=run_cases, args=(whole, KINDS[kind], cases, tmp_path / "work", log))
    process.start()
    process.join()
    tried = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [case for case in tried if case["wrong"]] == []
    assert (process.exitcode, len(tried)) == (0, len(cases)), "a case crashed, or took too long"
