"""Requests that cannot be served: exit code 2 and one sentence, for `generate` and `chat`."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from commands import assert_refused, ilmari
from damaged_artifact import rewrite, seal
from refusals import assert_one_error, ilmari_here

TEMPLATE = "tokenizer/chat_template.jinja"
MANY = ",".join(["5"] * 129)
STOPS = [word for stop in "abcde" for word in ("--stop", stop)]


@pytest.fixture
def artifact(compile_tiny: Callable[..., Path]) -> Path:
    """Prompts have at most 128 tokens, a vocabulary of 333."""
    return compile_tiny("fp16")


PROMPTS: Mapping[str, tuple[list[str], tuple[str, ...]]] = {
    "longer than the shape": (
        ["--prompt", "x" * 128],
        ("The prompt has 129 tokens and this artifact takes 128", "shorten it", "frontend.shape.input_ids"),
    ),
    "more ids than the shape": (["--prompt-token-ids", MANY], ("The prompt has 129 tokens",)),
    "no ids": (["--prompt-token-ids", ""], ("The prompt is empty; give at least one token",)),
    "id outside the vocabulary": (
        ["--prompt-token-ids", "1,333"],
        ("Prompt token 1 is 333, outside the vocabulary of 333",),
    ),
    "negative id": (["--prompt-token-ids", "-1,2"], ("Prompt token 0 is -1, outside the vocabulary",)),
    "huge id": (["--prompt-token-ids", "9" * 30], ("Prompt token 0 is 999", "outside the vocabulary")),
    "no number": (["--prompt-token-ids", "1,two"], ("--prompt-token-ids is '1,two'", "such as 1,2,3")),
    "broken number": (["--prompt-token-ids", "1,,2"], ("--prompt-token-ids is '1,,2'",)),
    "both kinds": (["--prompt", "x", "--prompt-token-ids", "1"], ("both of --prompt and --prompt-token-ids",)),
    "neither kind": ([], ("neither of --prompt and --prompt-token-ids",)),
    "no Unicode": (["--prompt", "x\udcff"], ("a lone surrogate U+DCFF at character 1",)),
}


@pytest.mark.parametrize(("args", "words"), PROMPTS.values(), ids=PROMPTS)
def test_prompt(artifact: Path, args: list[str], words: tuple[str, ...]) -> None:
    assert_refused(ilmari_here("generate", "--model", artifact, *args), *words)


PARAMETERS: Mapping[str, tuple[list[str], tuple[str, ...]]] = {
    "temperature below zero": (["--temperature", "-1"], ("temperature is -1.0", "a number from 0 to 100")),
    "temperature without end": (["--temperature", "inf"], ("temperature is inf",)),
    "no temperature": (["--temperature", "nan"], ("temperature is nan",)),
    "top_p above one": (["--top-p", "2"], ("top_p is 2.0", "a number above 0 and up to 1")),
    "no top_p": (["--top-p", "nan"], ("top_p is nan",)),
    "top_p of nothing": (["--top-p", "0"], ("top_p is 0.0",)),
    "min_p above one": (["--min-p", "1.5"], ("min_p is 1.5",)),
    "top_k below zero": (["--top-k=-2"], ("top_k is -2",)),
    "no penalty": (["--repetition-penalty", "0"], ("repetition_penalty is 0.0",)),
    "no tokens": (["--max-tokens", "0"], ("max_tokens is 0", "an integer from 1")),
    "seed below zero": (["--seed", "-1"], ("seed is -1",)),
}


@pytest.mark.parametrize(("args", "words"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameter(artifact: Path, args: list[str], words: tuple[str, ...]) -> None:
    for command in (["generate", "--prompt", "x"], ["chat"]):
        assert_refused(ilmari_here(*command, "--model", artifact, *args), *words)


GENERATE_ONLY: Mapping[str, tuple[list[str], tuple[str, ...]]] = {
    "five stops": (STOPS, ("stop has 5 entries", "a list of at most 4")),
    "empty stop": (["--stop", ""], ("stop[0] is ''", "1 to 256 characters")),
    "stop id outside the vocabulary": (["--stop-token-ids", "333"], ("stop_token_ids[0] is 333", "0 to 332")),
    "stop ids that are none": (["--stop-token-ids", "a"], ("--stop-token-ids is 'a'",)),
    "many alternatives": (["--json", "--logprobs", "21"], ("logprobs is 21", "from 0 to 20")),
    "alternatives without JSON": (["--logprobs", "2"], ("--logprobs is shown by --json alone",)),
}


@pytest.mark.parametrize(("args", "words"), GENERATE_ONLY.values(), ids=GENERATE_ONLY)
def test_parameter_of_generate(artifact: Path, args: list[str], words: tuple[str, ...]) -> None:
    assert_refused(ilmari_here("generate", "--prompt", "x", "--model", artifact, *args), *words)


@pytest.mark.parametrize("args", [["--temperature", "warm"], ["--max-tokens", "1.5"], ["--seed", "x"], ["--no-such"]])
def test_option_of_another_type(artifact: Path, args: list[str]) -> None:
    """Told by the option parser, before anything runs."""
    result = ilmari_here("generate", "--prompt", "x", "--model", artifact, *args)
    assert (result.returncode, result.stdout) == (2, "")
    assert args[0] in result.stderr
    assert "Traceback" not in result.stderr


ATTACKS = {
    "reaches out": ("{{ ''.__class__.__mro__ }}", "unsafe"),
    "multiplies": ("{{ 'x' * 99999999 }}", "a product exceeds"),
    "loops": ("{% for i in range(99999) %}x{% endfor %}", "its ranges count beyond"),
    "pads": ("{{ 'x'.center(60000000) }}", "'center' of 'str' object is unsafe"),
    "formats with %": ("{{ '%60000000d' % 1 }}", "it formats with %"),
    "formats": ("{{ '{:>60000000}'.format(1) }}", "'format' of 'str' object is unsafe"),
    "doubles": (
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "it builds more than 32 MiB",
    ),
    "imports": ("{% include '/etc/passwd' %}", "no loader"),
    "refuses": ("{{ raise_exception('never') }}", "never"),
}


@pytest.mark.parametrize(("source", "words"), ATTACKS.values(), ids=ATTACKS)
def test_template_that_attacks(artifact: Path, tmp_path: Path, source: str, words: str) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    rewrite(copy, TEMPLATE, source.encode())
    result = ilmari_here("chat", "--model", copy, stdin="hello\n")
    assert_one_error(result, "the chat template cannot render these messages", words)
    assert result.stdout == ""


def test_chat_with_a_base_model(artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    (copy / TEMPLATE).unlink()
    seal(copy)
    assert_one_error(ilmari_here("chat", "--model", copy, stdin="hello\n"), "the model has no chat template")
    assert ilmari_here("generate", "--model", copy, "--prompt", "x", "--max-tokens", "1").returncode == 0


def test_threads_that_are_no_number(artifact: Path) -> None:
    result = ilmari("generate", "--model", artifact, "--prompt", "x", env={"ILMARI_NUM_THREADS": "many"})
    assert_one_error(result, "ILMARI_NUM_THREADS is 'many'", "a positive number")


def test_as_a_process(artifact: Path) -> None:
    assert_one_error(ilmari("generate", "--model", artifact, *PROMPTS["negative id"][0]), "Prompt token 0 is -1")
