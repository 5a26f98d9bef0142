"""Make the texts that the shipped models learn from: `python recipes/shipped/texts.py DATA FOLDER`.

`tweets.tsv` has no labels. Its texts are those of `emo50k_es` and of `tweets_unlabelled_es` whose terms allow
it, without those that are dev or test texts of any set in the folder. emo50k masks the emoji of its tweets,
and gives one of them as the label: it is put back where it was, as people write. In `emoji_train.tsv` and
`emoji_dev.tsv` it is the label, and the masks are gone.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from pathlib import Path

from twil.data.tables.tables import TableReader, TableWriter

ALLOWED = ("emo50k", "sadit_news", "train:xlime_es")
"""Sources of `tweets_unlabelled_es`: Apache-2.0, Apache-2.0, MIT."""
EMOJI, ADDRESS = "_emo", "_url"
MOST_EMOJI = 3
_RUN = re.compile(rf"(?:{EMOJI}\s*)+")
_RUN_APART = re.compile(rf"\s*{_RUN.pattern}")
_NOT_COMPARED = re.compile(rf"{EMOJI}|{ADDRESS}|_num|http\S*|@\w+|[\d\W_]")


def put_back(text: str, emoji: str) -> str:
    """Write a tweet of emo50k with its emoji where they were masked, at most three beside each other."""
    restored = _RUN.sub(lambda run: emoji * min(MOST_EMOJI, run[0].count(EMOJI)) + " ", text)
    return restored.replace(ADDRESS, "http").strip()


def texts(data: Path) -> Iterator[str]:
    """Give every text once, those with emoji first."""
    seen = {_key(text) for text in measured_on(data)}
    for rows in TableReader(data / "emo50k_es" / "train.tsv", ["TEXT", "CLASS"]):
        for text, emoji in zip(rows.columns["TEXT"], rows.columns["CLASS"], strict=True):
            if (key := _key(text)) not in seen:
                seen.add(key)
                yield put_back(text, emoji)
    for rows in TableReader(data / "tweets_unlabelled_es" / "tweets.tsv", ["TEXT", "SOURCE"]):
        for text, source in zip(rows.columns["TEXT"], rows.columns["SOURCE"], strict=True):
            if source in ALLOWED and (key := _key(text)) not in seen:
                seen.add(key)
                yield text


def measured_on(data: Path) -> Iterator[str]:
    """Give the dev and test texts of every set of single texts."""
    for file in sorted([*data.glob("*/dev.tsv"), *data.glob("*/test.tsv")]):
        if "TEXT" in file.read_text(encoding="utf-8").partition("\n")[0].split("\t"):
            for rows in TableReader(file, ["TEXT"]):
                yield from rows.columns["TEXT"]


def _key(text: str) -> str:
    return _NOT_COMPARED.sub("", text).casefold()


def emoji_rows(file: Path) -> tuple[list[str], list[str]]:
    """Give the tweets of a file of emo50k without a mark of their emoji, and the emoji."""
    tweets, emoji = [], []
    for rows in TableReader(file, ["TEXT", "CLASS"]):
        for text, label in zip(rows.columns["TEXT"], rows.columns["CLASS"], strict=True):
            if bare := _RUN_APART.sub(" ", text).replace(ADDRESS, "http").strip():
                tweets.append(bare)
                emoji.append(label)
    return tweets, emoji


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder of the data sets")
    parser.add_argument("output", type=Path, help="the folder to write into")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    found = list(texts(options.data))
    random.Random(1).shuffle(found)
    with TableWriter(options.output / "tweets.tsv", {"TEXT": str}) as writer:
        writer.write({"TEXT": found})
    for part in ("train", "dev"):
        tweets, emoji = emoji_rows(options.data / "emo50k_es" / f"{part}.tsv")
        with TableWriter(options.output / f"emoji_{part}.tsv", {"TEXT": str, "CLASS": str}) as writer:
            writer.write({"TEXT": tweets, "CLASS": emoji})
    print(f"{len(found):,} texts in {options.output}")


if __name__ == "__main__":
    main()
