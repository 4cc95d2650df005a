"""Texts on which readers of Markdown take quadratic time, or worse."""

REPEATED = (
    *("*a ", "**", "_a_ ", "[", "[a](", "![", "`", "``a`", "<http://", "> ", "- ", "  - a\n", "|", "a|b\n", "~~", "#"),
    *("\\", "http://a ", "*a **b ", '[a](b "', "1. ", "```\n", "(((", "[a](x(", "a\n|-", "-|", "*a*a", " ", "\n "),
    *("# " + " " * 100, "https://"),
)
"""Each is to be repeated."""


def long_lines(length: int) -> tuple[str, ...]:
    """Lines that almost are something, and turn out to be nothing at their end only."""
    return ("a|b\n-" + " " * length + "x", "a|b\n" + "-" * length + "x", "a|b\n-|-" + " " * length + "x")
