"""What people name cannot become markup in the Markdown that twil writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from twil.core.markdown import code, markdown_table, plain

NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "<http://evil.example>",
    "a|b",
    "a\n\n# title\n\n<b>",
    "`x` <i>",
    "``` <i> ```",
    "```\n<i>\n```",
    "\\",
    "\\`<i>\\`",
    "\\[x](y)",
    "[x]: http://evil.example\n[x]",
    "&lt;b&gt; &#60;b&#62;",
    "a\u2028<b>",
    "| --- |",
    "`",
    "",
    " ",
]


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def live(text: str) -> set[str]:
    kinds = {"link_open", "image", "html_inline", "html_block", "fence", "code_block"}
    return {token.type for token in tokens(text)} & kinds


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_text_wherever_it_stands(name: str) -> None:
    pages = [
        f"# {plain(name)}\n\nend",
        f"before {plain(name)} behind",
        f"gives {code(name)}, {code(name)} to texts",
        "\n".join(markdown_table(["a", name], [[name, name], [name, 1]])),
    ]
    for page in pages:
        assert not live(page), page
    (heading, *_) = [token for token in tokens(pages[0]) if token.type == "inline"]
    shown = "".join(child.content for child in heading.children or ())
    assert shown == " ".join(name.split())
    spans = [token.content for token in tokens(pages[2]) if token.type == "code_inline"]
    assert [" ".join(span.split()) for span in spans] == [" ".join(name.split())] * 2
    cells = [token for token in tokens(pages[3]) if token.type in ("th_open", "td_open")]
    assert len(cells) == 6
