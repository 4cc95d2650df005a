"""Markdown in a real browser: what becomes of it, whole and in pieces, with work that grows with the text only."""

from __future__ import annotations

from random import Random

import pytest
from chat_page import ChatPage
from hostile_texts import REPEATED, long_lines

pytestmark = pytest.mark.browser

SHOW = "const box = document.createElement('div'); box.append(...m.markdown(a[0]));"
CASES = {
    "plain": "<p>plain</p>",
    "# One\n###### Six #": "<h3>One</h3><h6>Six</h6>",
    "#none": "<p>#none</p>",
    "**b** *i* _i_ ***x*** ~~d~~ `c`": (
        "<p><strong>b</strong> <em>i</em> <em>i</em> <em><strong>x</strong></em> <del>d</del> <code>c</code></p>"
    ),
    "**bold *in* it**": "<p><strong>bold <em>in</em> it</strong></p>",
    "**重点：**内容": "<p><strong>重点：</strong>内容</p>",
    "2 * 3 * 4, snake_case_name, a ~ b": "<p>2 * 3 * 4, snake_case_name, a ~ b</p>",
    "**open": "<p>**open</p>",
    r"\*no\* \`no\`": "<p>*no* `no`</p>",
    "`` a`b `` ` open": "<p><code>a`b</code> ` open</p>",
    "a\nb\n\nc": "<p>a\nb</p><p>c</p>",
    "---": "<hr>",
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "- a\n- b\n  - c\n\ntext": "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><p>text</p>",
    "1. a\n   more\n2. b": "<ol><li>a\nmore</li><li>b</li></ol>",
    "3) a": '<ol start="3"><li>a</li></ol>',
    "1. a\n\n2. b": "<ol><li><p>a</p></li><li><p>b</p></li></ol>",
    "- [ ] a\n- [x] b": "<ul><li>☐ a</li><li>☑ b</li></ul>",
    "[t](https://a.example/b_(c)) https://d.example/e. <mailto:f@g.example>": (
        '<p><a href="https://a.example/b_(c)">t</a> <a href="https://d.example/e">https://d.example/e</a>. '
        '<a href="mailto:f@g.example">mailto:f@g.example</a></p>'
    ),
    "[t](/relative) [u](javascript:x) ![i](https://a.example/i.png)": (
        '<p>[t](/relative) [u](javascript:x) <a href="https://a.example/i.png">i</a></p>'
    ),
    "见https://a.example/b，好": '<p>见<a href="https://a.example/b">https://a.example/b</a>，好</p>',
    "<b>&amp;</b>": "<p>&lt;b&gt;&amp;amp;&lt;/b&gt;</p>",
}
DOCUMENT = """# Title

Text with **bold**,
two lines.
- a list
- of two

  with a paragraph

1. one
   - nested
2. two

```python
def f():

    return "```"
```
| a | b |
|---|:-:|
| 1 | `x` |
| 2 | 3 \\| 4 |

> quote
> - list

***
Last _words_ and https://example.org/x
"""


def html(chat: ChatPage, text: str) -> str:
    """What becomes of it, without the attributes that are the same everywhere."""
    shown = chat.module("markdown.js", SHOW + "return box.innerHTML", text)
    return str(shown).replace(' target="_blank" rel="noopener noreferrer nofollow"', "").replace(' start="1"', "")


def test_what_becomes_of_it(chat: ChatPage) -> None:
    for text, expected in CASES.items():
        assert html(chat, text) == expected, text


def test_code(chat: ChatPage) -> None:
    code = "return [...box.querySelectorAll('pre')].map((pre) => [pre.previousSibling.textContent, pre.textContent])"
    shown = {
        "```python\na\n\n  b\n```": [["python", "a\n\n  b"]],
        "~~~\n```\n~~~\nx": [["Code", "```"]],
        "```js\nopen": [["js", "open"]],
        "1. a\n   ```\n   x\n   ```": [["Code", "x"]],
        "  ```\n  x\n    y\n  ```": [["Code", "x\n  y"]],
    }
    for text, expected in shown.items():
        assert chat.module("markdown.js", SHOW + code, text) == expected, text


def test_tables(chat: ChatPage) -> None:
    cells = """
        const rows = [...box.querySelectorAll("tr")];
        return rows.map((row) => [...row.children].map((cell) => [cell.className, cell.textContent]));"""
    assert chat.module("markdown.js", SHOW + cells, "a | b\n:-: | --:\n1 \\| 2 | `x`\n| 3 |\n\nend") == [
        [["center", "a"], ["right", "b"]],
        [["center", "1 | 2"], ["right", "x"]],
        [["center", "3"], ["right", ""]],
    ]
    assert html(chat, "a | b\nno table") == "<p>a | b\nno table</p>"


def test_pieces_give_the_same(chat: ChatPage) -> None:
    code = """
        const whole = document.createElement("div");
        whole.append(...m.markdown(a[0]));
        return a[1].map((cuts) => {
          const box = document.createElement("div");
          const growing = new m.GrowingMarkdown(box);
          for (const cut of cuts) growing.show(a[0].slice(0, cut));
          return box.innerHTML === whole.innerHTML;
        });"""
    random = Random(1)
    ways = [[*sorted(random.sample(range(len(DOCUMENT)), count)), len(DOCUMENT)] for count in (1, 3, 10, 40) * 5]
    ways.append(list(range(len(DOCUMENT) + 1)))
    assert all(chat.module("markdown.js", code, DOCUMENT, ways))


def test_only_the_end_is_made_anew(chat: ChatPage) -> None:
    code = """
        const box = document.createElement("div");
        const growing = new m.GrowingMarkdown(box);
        growing.show("a\\n\\nb\\n\\nc");
        const first = box.firstChild;
        growing.show("a\\n\\nb\\n\\nc d\\n\\ne");
        return [first === box.firstChild, box.childNodes.length];"""
    assert chat.module("markdown.js", code) == [True, 4]


def test_work_grows_with_the_text(chat: ChatPage) -> None:
    """Four times the text is about four times the work: characters that patterns and searches look at."""
    code = """
        let work = 0;
        const { exec } = RegExp.prototype;
        RegExp.prototype.exec = function (text) {
          const found = exec.call(this, text);
          work += 1 + (this.sticky ? (found?.[0].length ?? 0) : text.length);
          return found;
        };
        const { indexOf } = String.prototype;
        String.prototype.indexOf = function (sought, from = 0) {
          const at = indexOf.call(this, sought, from);
          work += 1 + (at < 0 ? this.length : at) - from;
          return at;
        };
        return a[0].map((piece) => {
          const done = (length) => {
            work = 0;
            m.markdown(piece.repeat(length / piece.length));
            return work;
          };
          return [piece, done(5000), done(20000)];
        });"""
    for piece, short, long in chat.module("markdown.js", code, REPEATED):
        assert 0 < long < 6 * short, piece


def test_long_lines_come_to_an_end(chat: ChatPage) -> None:
    """In time that grew with the square of a line, a minute would not do."""
    code = "return a[0].map((text) => m.markdown(text)[0].tagName)"
    assert chat.module("markdown.js", code, long_lines(1_000_000)) == ["P"] * 3
