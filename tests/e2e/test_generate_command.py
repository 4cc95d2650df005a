"""`ilmari generate`: what it writes where, and every option's effect."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bytes_tokenizer import encode
from checkpoints import BOS, CompileTiny
from commands import ILMARI, ilmari, run
from refusals import ilmari_here
from terminal import Terminal

PROMPT = "Hei, Väinö!"
GREEDY = ("--temperature", "0", "--ignore-eos", "--max-tokens", "24")


@pytest.fixture
def artifact(compile_tiny: CompileTiny) -> Path:
    """In one precision: what the others answer is the engine's tests' affair."""
    return compile_tiny("w8a16")


def generate(artifact: Path, *options: str, prompt: str = PROMPT) -> dict[str, Any]:
    """The JSON that `generate` prints for a text."""
    result = ilmari_here("generate", "--model", artifact, "--prompt", prompt, *options, "--json")
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_text_alone_goes_to_stdout(artifact: Path) -> None:
    result = ilmari("generate", "--model", artifact, "--prompt", PROMPT, *GREEDY)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == generate(artifact, *GREEDY)["text"] + "\n"


def test_json(tiny_artifact: Path) -> None:
    answer = generate(tiny_artifact, *GREEDY)
    prompt = [BOS, *encode(PROMPT)]
    assert list(answer) == ["text", "token_ids", "prompt_token_ids", "finish_reason", "usage"]
    assert answer["prompt_token_ids"] == prompt
    assert len(answer["token_ids"]) == 24
    assert answer["finish_reason"] == "length"
    assert answer["usage"] == {
        "prompt_tokens": len(prompt),
        "completion_tokens": 24,
        "total_tokens": len(prompt) + 24,
    }


def test_token_ids_in_place_of_text(artifact: Path) -> None:
    ids = ",".join(map(str, [BOS, *encode(PROMPT)]))
    result = ilmari("generate", "--model", artifact, "--prompt-token-ids", ids, *GREEDY, "--json")
    assert json.loads(result.stdout) == generate(artifact, *GREEDY)


@pytest.mark.torch
def test_greedy_text_is_the_reference_model_s(compile_tiny: CompileTiny, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the reference model needs torch")
    from checkpoints import TINY_SIZES, write_checkpoint
    from demo_model import llama_from_checkpoint

    model = llama_from_checkpoint(write_checkpoint(tmp_path / "same", **TINY_SIZES))
    ids = [BOS, *encode(PROMPT)]
    with torch.no_grad():
        for _ in range(24):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert generate(compile_tiny("fp16"), *GREEDY)["token_ids"] == ids[-24:]


def test_seeds(artifact: Path) -> None:
    first, same, other = (generate(artifact, "--seed", seed, "--ignore-eos") for seed in ("7", "7", "8"))
    assert first == same
    assert first["token_ids"] != other["token_ids"]
    assert len(first["token_ids"]) == 128, "the default of --max-tokens"


def test_filters(artifact: Path) -> None:
    """Each of these leaves the best token alone, whatever the temperature."""
    best = generate(artifact, *GREEDY)["token_ids"]
    for alone in (("--top-k", "1"), ("--top-p", "1e-9"), ("--min-p", "1")):
        hot = (*alone, "--temperature", "5", "--ignore-eos", "--max-tokens", "24")
        assert generate(artifact, *hot)["token_ids"] == best
    assert generate(artifact, *GREEDY, "--repetition-penalty", "100")["token_ids"] != best


def test_stop_strings_and_tokens(artifact: Path) -> None:
    whole = generate(artifact, *GREEDY)
    text: str = whole["text"]
    stop = next(text[at : at + 2] for at in range(4, len(text)) if text[at : at + 2].isprintable())
    stopped = generate(artifact, *GREEDY, "--stop", "never in the text", "--stop", stop)
    assert stopped["text"] == text[: text.index(stop)]
    assert stopped["finish_reason"] == "stop"

    token = whole["token_ids"][10]
    cut = whole["token_ids"].index(token) + 1
    stopped = generate(artifact, *GREEDY, "--stop-token-ids", f"332,{token}")
    assert (stopped["token_ids"], stopped["finish_reason"]) == (whole["token_ids"][:cut], "stop")


def test_logprobs(artifact: Path) -> None:
    answer = generate(artifact, *GREEDY, "--logprobs", "3")
    assert len(answer["logprobs"]) == len(answer["token_ids"])
    for token, tops in zip(answer["token_ids"], answer["logprobs"], strict=True):
        assert [top["rank"] for top in tops] == [1, 2, 3]
        assert tops[0]["token_id"] == token
        assert 0 >= tops[0]["logprob"] >= tops[1]["logprob"] >= tops[2]["logprob"]
        for top in tops:
            if 0x21 <= (byte := top["token_id"] - 3 + 0x21) < 0x7F:
                assert top["token"] == chr(byte)


def test_prompt_that_is_no_text(compile_tiny: CompileTiny) -> None:
    command = [*ILMARI, "generate", "--model", str(compile_tiny("w8a16")), "--prompt", b"a\xff"]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 2
    assert b"lone surrogate U+DCFF at character 1" in result.stderr
    assert b"Traceback" not in result.stderr


@pytest.fixture
def endless(compile_tiny: CompileTiny) -> list[str]:
    """A command that writes for a long time."""
    artifact = compile_tiny("w8a16", lengths=(128, 32768), max_position=32768)
    return [*ILMARI, "generate", "--model", str(artifact), "--prompt", "x", "--max-tokens", "32000", "--ignore-eos"]


def test_text_comes_as_it_is_made_and_ctrl_c_ends_it(endless: list[str]) -> None:
    with subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(16)
        assert process.poll() is None, "the first text came before the end"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"interrupted\n")


def test_reader_that_leaves(endless: list[str]) -> None:
    with subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(16)
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_torch_is_not_imported(compile_tiny: CompileTiny, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    result = ilmari("generate", "--model", compile_tiny("w8a16"), "--prompt", "x", env=env)
    assert (result.returncode, result.stderr) == (0, "")


def test_speed_on_a_terminal(compile_tiny: CompileTiny) -> None:
    command = [*ILMARI, "generate", "--model", str(compile_tiny("w8a16")), "--prompt", PROMPT, *GREEDY]
    with Terminal(command) as terminal:
        terminal.read(until="\x1b[2m24 tokens, the first after ")
        terminal.read(until=" tokens/s")
        assert terminal.wait() == 0


def test_characters_that_stdout_cannot_hold(compile_tiny: CompileTiny) -> None:
    artifact = compile_tiny("w8a16")
    text = generate(artifact, *GREEDY)["text"]
    assert not text.isascii()
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = ilmari("generate", "--model", artifact, "--prompt", PROMPT, *GREEDY, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == text.encode("ascii", "backslashreplace").decode() + "\n"


REPORTED_THREADS = """\
import os
from ilmari.cli.app import main
try: main()
except SystemExit as end: assert end.code == 0
print("threads:", os.environ["TVM_NUM_THREADS"])
"""


@pytest.mark.parametrize(("options", "threads"), [([], "3"), (["-t", "1"], "1"), (["--threads", "2"], "2")])
def test_threads(artifact: Path, options: list[str], threads: str) -> None:
    """As many as were asked for, and the same answer with any number of them."""
    command = (sys.executable, "-c", REPORTED_THREADS, "generate", "--model", str(artifact), "--prompt", PROMPT)
    result = run(command, *GREEDY, *options, env={**os.environ, "ILMARI_NUM_THREADS": "3"})
    assert result.stdout == f"{generate(artifact, *GREEDY)['text']}\nthreads: {threads}\n", result.stderr


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1025"])
def test_threads_that_cannot_be(artifact: Path, threads: str) -> None:
    result = ilmari_here("generate", "--model", artifact, "--prompt", "x", "-t", threads)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Invalid value for '--threads' / '-t': " in result.stderr
    assert "Traceback" not in result.stderr


def test_what_a_person_is_told_beside_the_text(compile_tiny: CompileTiny) -> None:
    artifact = compile_tiny("w8a16")
    isa = json.loads((artifact / "manifest.json").read_text())["isa"]
    command = [*ILMARI, "generate", "--model", str(artifact), *GREEDY, "-t", "2"]
    loaded = f"\x1b[2m{isa} kernels, 2 threads, KV cache of 256 tokens\x1b[0m"
    advice = "\x1b[2mthis model has a chat template: `ilmari chat` applies it\x1b[0m"
    for prompt, advised in ((["--prompt", "x"], True), (["--prompt-token-ids", "1"], False)):
        with Terminal([*command, *prompt]) as terminal:
            seen = terminal.read(until=" tokens/s")
            assert terminal.wait() == 0
        assert loaded in seen
        assert (advice in seen) == advised
