"""The functions of models' authors that `preparations.py` compares with; run by it, where each is installed.

python preparations_peers.py NAME TEXTS.json PREPARED.json [TweetNormalizer.py]
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Function = Callable[[str], str]


def load(path: Path) -> Any:
    """Import a file alone, without the package that it lies in."""
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def robertuito() -> Function:
    package = importlib.util.find_spec("pysentimiento")
    assert package
    assert package.submodule_search_locations
    prepare: Function = load(
        Path(package.submodule_search_locations[0]) / "preprocessing.py"
    ).preprocess_tweet
    return prepare


def bertweet(file: Path | None) -> Function:
    if file:
        prepare: Function = load(file).normalizeTweet
        return prepare
    from emoji import demojize
    from nltk.tokenize import TweetTokenizer
    from transformers import BertweetTokenizer

    tokenizer = BertweetTokenizer.__new__(BertweetTokenizer)  # its vocabulary is not needed
    tokenizer.__dict__ |= {
        "special_puncts": {"’": "'", "…": "..."},
        "tweetPreprocessor": TweetTokenizer(),
        "demojizer": demojize,
    }
    function: Function = tokenizer.normalizeTweet
    return function


def cardiffnlp(text: str) -> str:
    """Do what the cards of these models show."""
    words = []
    for word in text.split(" "):
        if word.startswith("@") and len(word) > 1:
            word = "@user"
        words.append("http" if word.startswith("http") else word)
    return " ".join(words)


def main() -> None:
    name, asked, answered, *more = sys.argv[1:]
    file = Path(more[0]) if more else None
    function = {
        "robertuito": robertuito,
        "cardiffnlp": lambda: cardiffnlp,
        "bertweet": lambda: bertweet(file),
    }[name]()
    texts = json.loads(Path(asked).read_text(encoding="utf-8"))
    function(texts[0])
    begin = time.perf_counter()
    prepared = [function(text) for text in texts]
    seconds = time.perf_counter() - begin
    Path(answered).write_text(json.dumps({"texts": prepared, "seconds": seconds}), encoding="utf-8")


if __name__ == "__main__":
    main()
