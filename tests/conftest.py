"""What the tests share."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from twil.text.tokenizer import save_tokenizer
from twil.text.vocabulary import texts_of, train_vocabulary

SHARED = Path(__file__).resolve().parents[2] / "shared"
EXAMPLES = Path(str(resources.files("twil.examples")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of reference data that lies beside a developer's checkout."""
    if not SHARED.is_dir():
        pytest.skip("the reference data beside the checkout is absent")
    return SHARED


@pytest.fixture(scope="session")
def examples() -> Path:
    """Give the folder of the texts that come with twil."""
    return EXAMPLES


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small tokenizer of the example texts."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    save_tokenizer(train_vocabulary(texts_of([EXAMPLES / "tweets_train.tsv"]), size=600).tokenizer, path)
    return path


@pytest.fixture
def tokenizer(tokenizer_file: Path) -> Tokenizer:
    """Give that tokenizer, loaded anew."""
    from twil.text.tokenizer import load_tokenizer

    return load_tokenizer(tokenizer_file)


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write (text, label) rows as a labelled TSV."""
    lines = [f"{number}\t{text}\t{label}" for number, (text, label) in enumerate(rows)]
    path.write_text("\n".join(["ID\tTEXT\tCLASS", *lines, ""]), encoding="utf-8")
    return path
