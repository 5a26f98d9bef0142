"""Hold the preparations of texts to the functions of the models' authors, and measure how fast they are.

    python benchmarks/preparations.py TWEETS.tsv [MORE.tsv ...] --work FOLDER [--tweet-normalizer FILE]

The authors' functions run in environments of their own, which are made in the work folder:
pysentimiento's with the emoji library of today, BERTweet's with NLTK 3.5 and emoji 0.6.0, which its authors
name, and again with those of today. BERTweet's is taken from transformers, or is TweetNormalizer.py of its
authors where that file is given. Texts are the first of each file, and neighbours of them that are drawn:
parts that the preparations look for, put together at random or into tweets. Writes results/preparations.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from peer_processes import make_environments, python_of, run, versions
from tokenizers import Tokenizer, normalizers
from training_runs import table

from twil.core.machine import available_cpus, cpu_name
from twil.core.version import __version__
from twil.text.preparation import NONE, PREPARATIONS, put_preparation
from twil.text.tokenizer import encode
from twil.text.vocabulary import texts_of, train_vocabulary

HERE = Path(__file__).parent
ENVIRONMENTS = {
    "cardiffnlp": ("pip",),
    "robertuito": ("emoji==2.16.0",),
    "bertweet": ("nltk==3.5", "emoji==0.6.0", "regex", "click", "joblib", "tqdm", "transformers"),
    "bertweet-today": ("nltk", "emoji", "transformers"),
}
ALONE = {"robertuito": ("pysentimiento==0.7.3",)}
"""Installed without what it would bring along, of which its function needs nothing else."""
SHOWN = ("pysentimiento", "nltk", "emoji", "regex", "transformers")
ROWS = 10_000
"""Of each file, at most."""
NEIGHBOURS = 10_000
ROUNDS = 5
PARTS = """
@ @@a @user_1 .@ana # #a #1a #123 #TagUno #año_nuevo http:// https://t.co/aB1 HTTP://A.B www. a.com b.es/x
ana@correo.example wiki_(film) (a) ((b)c) 12:30 555-123-4567 +1(555)123-4567 <3 :) D: xD <b> -> <-- x_y | ||
😂 👍🏽 👩\u200d👩\u200d👧 👨\u200d👩🏿\u200d👧🏻 🇪🇸 🇪 🏴 1️⃣ #️⃣ * \u200d \ufe0f \ufe0e 🏽 ❤️ ❤ ☺ ♥ ☻ 🦰 ⛩ 🥺 🫠
_ - ' n't cannot I'm &amp; &lt;3 &#128514; &#x1F602; &x; ... … ’ “ ¡ ¿ jajaja JAJA aaaa !!!! CamelCase ñandú
A\u0301 ا 日本語 ー ½ ² ٣ ſ İ © ™ \u200b
""".split()  # noqa: SIM905
BLANKS = ("", "", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000")


def neighbours(tweets: Sequence[str]) -> list[str]:
    """Draw texts that are hard: parts on end, and tweets with a part in them."""
    drawn = random.Random(1)
    found = []
    for _ in range(NEIGHBOURS // 2):
        found.append("".join(drawn.choice(PARTS) + drawn.choice(BLANKS) for _ in range(drawn.randint(0, 9))))
        tweet = drawn.choice(tweets)
        place = drawn.randint(0, len(tweet))
        found.append(tweet[:place] + drawn.choice(PARTS) + tweet[place:])
    return found


def original(
    work: Path, environment: str, texts: Sequence[str], file: Path | None
) -> tuple[list[str], float]:
    """Give what the authors' function makes of texts, and the seconds that it takes."""
    asked, answered = work / "texts.json", work / "prepared.json"
    asked.write_text(json.dumps(texts), encoding="utf-8")
    peer = HERE / "preparations_peers.py"
    name = environment.partition("-")[0]
    more = [file] if file and name == "bertweet" else []
    run(python_of(work, environment), peer, name, asked, answered, *more)
    value = json.loads(answered.read_text(encoding="utf-8"))
    return value["texts"], value["seconds"]


def own(name: str) -> Callable[[str], str]:
    known = PREPARATIONS[name]
    return known.make_step() if known.make_step else normalizers.Sequence(known.make_steps()).normalize_str


def differences(work: Path, peer: str, sets: Mapping[str, Sequence[str]], file: Path | None) -> Iterator[str]:
    """Count in each set the texts that become another one than the authors' function makes of them."""
    step = own(peer.partition("-")[0])
    for texts in sets.values():
        theirs, _ = original(work, peer, texts, file)
        yield f"{sum(map(str.__ne__, map(step, texts), theirs)):,} of {len(texts):,}"


def seconds_of(work: Callable[[], object]) -> float:
    """Return the median time of some rounds, after one that does not count."""
    work()
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def speeds(work: Path, tweets: Sequence[str], file: Path | None) -> list[tuple[str, ...]]:
    """Give texts per second of each step, of the authors' function, and of encoding with it and without."""
    vocabulary = train_vocabulary(tweets, size=4000).tokenizer.to_str()

    def encoding(name: str) -> float:
        tokenizer = Tokenizer.from_str(vocabulary)
        put_preparation(tokenizer, name)
        return seconds_of(lambda: encode(tokenizer, tweets))

    rows = []
    for name in PREPARATIONS:
        step = own(name)
        alone = seconds_of(lambda step=step: [step(text) for text in tweets])
        _, theirs = original(work, name, tweets, file)
        seconds = (alone, theirs, encoding(name), encoding(NONE))
        rows.append((name, *(f"{len(tweets) / each:,.0f}" for each in seconds)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tweet-normalizer", type=Path)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "preparations.md")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    make_environments(options.work, ENVIRONMENTS)
    for name, packages in ALONE.items():
        run(python_of(options.work, name), "-m", "pip", "install", "-q", "--no-deps", *packages)

    sets = {
        f"`{file.name}` of {file.parent.name}": [*islice(texts_of([file]), ROWS)] for file in options.files
    }
    tweets = next(iter(sets.values()))
    sets["neighbours"] = neighbours(tweets)
    equality = [
        (peer, *differences(options.work, peer, sets, options.tweet_normalizer)) for peer in ENVIRONMENTS
    ]
    speed = speeds(options.work, tweets, options.tweet_normalizer)
    page = f"""# Preparations of texts

Written by `benchmarks/preparations.py`: twil {__version__}, {cpu_name()}, {available_cpus()} CPUs;
{versions(options.work, ENVIRONMENTS, SHOWN)}.

## Texts that become another one than the authors' function makes of them

{table(("function of", *sets), equality)}

`bertweet-today` is the same function with the newest NLTK and emoji: it parts other words, and calls emoji by
names that the model was not trained with. Neighbours are drawn: mentions, addresses, hashtags, emoji with
joiners and tones, entities, brackets, odd blanks, on end or put into tweets.

## Texts per second

{len(tweets):,} tweets. The step and the authors' function on one thread, text by text; encoding to ids of a
vocabulary of 4,000 tokens on all CPUs, with the preparation and without.

{table(("preparation", "the step", "authors' function", "encoding with it", "without"), speed)}
"""
    options.output.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
