"""What `tokenizer.json` does to a raw text before it is cut, as replacements that run inside a graph.

The graph's regular expressions are RE2's: they do not look behind, and their word characters are ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from tokenizers import Regex
from tokenizers.normalizers import Replace

from twil.core.errors import ExportError
from twil.text.normalization import NOT_WITHIN_A_RUN
from twil.text.tokenizer import MASK

MASK_MARK = "\x01"
"""Stands for `[MASK]` from the first step on, as no later step may look across it."""
_BARE_MARK = "\x02"
"""Stands before a text that begins with an entity: to `tokenizer.json` it does not begin a word."""

# What may stand before [MASK] and goes with it: all white space of Unicode.
_BLANK = r"\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
_ADDED = {"content": MASK, "single_word": False, "lstrip": True, "rstrip": False, "normalized": False}
_LOWERCASE = {"type": "Lowercase"}
_LOOKBEHIND = r"(?<!\w)"
_PLANES = (0, 1, 2, 3, 14)  # of Unicode; no others hold letters


class Replacement(NamedTuple):
    """One step: every match of an RE2 expression becomes something else."""

    pattern: str
    rewrite: str


def is_lowercased(tokenizer: Mapping[str, Any]) -> bool:
    """Tell whether a tokenizer lower-cases texts."""
    return _LOWERCASE in _steps(tokenizer)


def replacements(tokenizer: Mapping[str, Any]) -> list[Replacement]:
    """Translate everything before the tokens but NFC and lower case, which the tokens' own model does last.

    Args:
        tokenizer: What `tokenizer.json` says.

    Raises:
        ExportError: It says something that has no such translation.
    """
    steps = [step for step in _steps(tokenizer) if step != _LOWERCASE]
    flags = "(?i)" if is_lowercased(tokenizer) else ""
    return [
        # No text may hold the marks. Both become blanks in `tokenizer.json`, too.
        Replacement(f"[{MASK_MARK}{_BARE_MARK}]", " "),
        Replacement(rf"[{_BLANK}]*{re.escape(MASK)}", MASK_MARK),
        *(Replacement(flags + pattern, rewrite) for pattern, rewrite in _translate_all(steps)),
        Replacement(f"^([^ {MASK_MARK}{_BARE_MARK}])", r" \1"),
        Replacement(f"^{_BARE_MARK}", ""),
    ]


def _steps(tokenizer: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    added = [{key: token.get(key) for key in _ADDED} for token in tokenizer["added_tokens"]]
    if added != [_ADDED]:
        raise unsupported(f"its added tokens are not {MASK} alone")
    before = tokenizer["pre_tokenizer"] or {}
    if (before.get("type"), before.get("prepend_scheme")) != ("Metaspace", "first"):
        raise unsupported("it does not mark the beginnings of words as twil vocab does")
    normalizer = tokenizer["normalizer"] or {}
    steps: Sequence[Mapping[str, Any]] = normalizer.get("normalizers", [])
    if not steps or steps[0]["type"] != "NFC":
        raise unsupported("its normaliser does not begin with NFC")
    if _LOWERCASE in steps[2:]:
        raise unsupported("its normaliser holds Lowercase in another place than behind NFC")
    return steps[1:]


def _translate_all(steps: Sequence[Mapping[str, Any]]) -> Iterator[Replacement]:
    # A text is marked whose first character is put there by a replacement.
    entities = [
        step["pattern"]["Regex"]
        for step in steps
        if step["type"] == "Replace" and not step["content"].startswith(" ")
    ]
    if entities:
        yield Replacement(f"^({'|'.join(entities)})", rf"{_BARE_MARK}\1")
    yield from map(_translate, steps)


def _translate(step: Mapping[str, Any]) -> Replacement:
    if step["type"] == "Strip" and step["strip_right"] and not step["strip_left"]:
        # By now all blanks are spaces. What [MASK] cuts apart is stripped part by part.
        return Replacement(f" +({MASK_MARK}|$)", r"\1")
    if step["type"] != "Replace" or "Regex" not in step["pattern"]:
        raise unsupported(f"its normaliser holds {step['type']}")
    regex, rewrite = step["pattern"]["Regex"], step["content"].replace("\\", r"\\")
    begins_word = regex.startswith(_LOOKBEHIND)
    pattern = regex.removeprefix(_LOOKBEHIND).removeprefix(NOT_WITHIN_A_RUN)  # RE2 never looks twice
    if re.search(r"\(\?[^:]|\\[^wS.]|&&", pattern):
        raise unsupported(f"its normaliser holds the expression {regex}")
    pattern = pattern.replace("\0-", "\x03-")  # the marks stay; operators end a text at U+0000
    # In brackets, the expressions of `tokenizers` do not take "½" and five others for parts of a word.
    bare, bracketed = _points_outside(r"\W"), _points_outside(r"[^\w]")
    pattern = pattern.replace(r"[\w/]", f"[{bracketed}/]").replace(r"\w", f"[{bare}]")
    pattern = pattern.replace(r"\S", f"[^ {MASK_MARK}]")
    if begins_word:
        # No match begins right behind another, which would have read on: each may take the character before.
        return Replacement(f"(^|[^{bare}])(?:{pattern})", rf"\1{rewrite}")
    return Replacement(pattern, rewrite)


@cache
def _points_outside(expression: str) -> str:
    """Write out, for use between brackets, the characters that an expression of `tokenizers` leaves."""
    points = [
        point
        for plane in _PLANES
        for point in range(plane << 16, (plane + 1) << 16)
        if not 0xD800 <= point < 0xE000
    ]
    kept = Replace(Regex(expression), "\0").normalize_str("".join(map(chr, points)))
    ranges: list[list[int]] = []
    for point, character in zip(points, kept, strict=True):
        if character == "\0":
            continue
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges)


def unsupported(fault: str) -> ExportError:
    """Say that a tokenizer cannot be built into a graph, and why."""
    return ExportError(
        f"this model's tokenizer cannot be built into a graph ({fault}): export without --text-in, "
        "or train with a vocabulary of twil vocab, made without --strip-accents"
    )
