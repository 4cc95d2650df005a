"""`ilmari chat`: through a pipe, where every byte is known, and on a terminal with a real Ctrl-C."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from bytes_tokenizer import chat_prompt
from checkpoints import CompileTiny, edit_config, write_json
from commands import ILMARI, assert_refused, ilmari
from refusals import ilmari_here
from terminal import CTRL_D, Terminal

from ilmari import LLM, SamplingParams
from ilmari.cli.conversation import Conversation
from ilmari.compile.config import CompileConfig
from ilmari.compile.pipeline import compile_model

SHORT = ("--temperature", "0", "--max-tokens", "6")


SLOW_READER = """\
import sys, time
sys.modules["torch"] = None
from ilmari.cli.app import main
from ilmari.engine.engine import Engine

start, step = Engine.__init__, Engine.step

def start_small(self, *arguments, **options):
    start(self, *arguments, **options | {"max_num_batched_tokens": 1})

def step_slowly(self):
    time.sleep(0.05)
    return step(self)

Engine.__init__, Engine.step = start_small, step_slowly
main()
"""


@pytest.fixture
def artifact(compile_tiny: CompileTiny) -> Path:
    return compile_tiny("w8a16")


def chat(artifact: Path, *lines: str, options: tuple[str, ...] = SHORT) -> str:
    """What goes to stdout for these lines of stdin."""
    result = ilmari("chat", "--model", artifact, *options, stdin="".join(f"{line}\n" for line in lines).encode())
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def continuation(artifact: Path, prompt: list[int]) -> str:
    """What `generate` says after these tokens."""
    ids = ",".join(map(str, prompt))
    result = ilmari_here("generate", "--model", artifact, "--prompt-token-ids", ids, *SHORT, "--json")
    text: str = json.loads(result.stdout)["text"]
    return text


def test_whole_conversation_is_the_prompt(artifact: Path) -> None:
    first = continuation(artifact, chat_prompt(("user", "Hei")))
    second = continuation(artifact, chat_prompt(("user", "Hei"), ("assistant", first), ("user", "ja?")))
    assert chat(artifact, "Hei", "", "  ja?  ") == f"{first}\n{second}\n"


def test_system_message_comes_first_and_outlives_clear(artifact: Path) -> None:
    reply = continuation(artifact, chat_prompt(("system", "Be brief"), ("user", "Hei")))
    options = (*SHORT, "--system", "Be brief")
    assert chat(artifact, "Hei", "/clear", "Hei", options=options) == f"{reply}\n{reply}\n"


def test_clear_and_exit(artifact: Path) -> None:
    once = chat(artifact, "Hei")
    assert chat(artifact, "Hei", "/clear", "Hei", "/exit", "Hei") == once * 2


def test_help(artifact: Path) -> None:
    said = chat(artifact, "/help")
    assert all(word in said for word in ("/clear", "/exit", "/help", "Ctrl-C"))


def test_seeds(artifact: Path) -> None:
    said = [chat(artifact, "Hei", options=("--max-tokens", "20", "--seed", seed)) for seed in ("3", "3", "4")]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        (b"x" * 200, b"error: With this message the conversation has 2"),
        (b"a\xff", b"error: the text has a lone surrogate U+DCFF"),
        (b"/quit", b"error: /quit is no command; /help lists them."),
    ],
)
def test_mistake_is_one_line_and_the_conversation_goes_on(artifact: Path, line: bytes, fragment: bytes) -> None:
    command = [*ILMARI, "chat", "--model", str(artifact), *SHORT]
    result = subprocess.run(command, input=line + b"\nHei\n", capture_output=True, check=False)
    assert result.returncode == 0
    assert result.stderr.startswith(fragment)
    assert result.stderr.count(b"\n") == 1
    assert result.stdout.decode() == chat(artifact, "Hei")


def test_conversation_that_no_longer_fits(artifact: Path) -> None:
    lines = ["Twenty-four characters.."] * 4
    result = ilmari("chat", "--model", artifact, *SHORT, stdin="\n".join([*lines, "/clear", "Hei"]).encode())
    assert result.returncode == 0
    assert "tokens and the model takes 128; /clear starts over" in result.stderr
    assert result.stdout.endswith(chat(artifact, "Hei"))


@pytest.mark.usefixtures("kernels_compiled_once")
def test_base_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "base"
    checkpoint.mkdir()
    for file in tiny_checkpoint.iterdir():
        (checkpoint / file.name).write_bytes(file.read_bytes())
    config = checkpoint / "tokenizer_config.json"
    write_json(config, {k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"})
    edit_config(checkpoint)
    settings = CompileConfig(Path("base.yaml"), "base", checkpoint, 64, 64, "fp16", tmp_path / "out", ())
    base = compile_model(settings, report=lambda *_: None)
    assert_refused(ilmari_here("chat", "--model", base, stdin="Hei\n"), "no chat template", "use generate")
    assert ilmari_here("generate", "--model", base, "--prompt", "x", "--max-tokens", "2").returncode == 0


def test_stopped_reply_stays_in_the_conversation(artifact: Path) -> None:
    llm = LLM(artifact, max_num_seqs=1)
    talk = Conversation(llm, SamplingParams(temperature=0, max_tokens=40, ignore_eos=True), None)
    outputs = talk.stream("Hei")
    while len(said := next(outputs).outputs[0].text) < 5:
        pass
    outputs.close()
    second = next(talk.stream("ja?"))
    assert second.prompt_token_ids == chat_prompt(("user", "Hei"), ("assistant", said), ("user", "ja?"))


def test_message_stopped_before_any_token_does_not_join_the_conversation(artifact: Path) -> None:
    llm = LLM(artifact, max_num_seqs=1, max_num_batched_tokens=16)
    talk = Conversation(llm, SamplingParams(temperature=0, max_tokens=4), None)
    outputs = talk.stream("x" * 40)
    assert next(outputs).outputs[0].token_ids == []
    outputs.close()
    assert not llm.engine.has_work
    assert next(talk.stream("ja?")).prompt_token_ids == chat_prompt(("user", "ja?"))


@pytest.fixture
def talkative(compile_tiny: CompileTiny) -> list[str]:
    """A chat whose first reply is long: a greedy tiny model goes round in circles."""
    artifact = compile_tiny("w8a16", lengths=(16384, 32768), max_position=32768)
    return [*ILMARI, "chat", "--model", str(artifact), "--temperature", "0"]


def test_ctrl_c_stops_the_reply_and_not_the_program(talkative: list[str]) -> None:
    with Terminal(talkative) as terminal:
        terminal.read(until="> ")
        terminal.type("Hei\n")
        terminal.read(at_least=200)
        terminal.interrupt()
        end = terminal.read(until="stopped")
        assert " tokens/s" in end
        terminal.read(until="> ")
        assert terminal.running
        terminal.type("/help\n")
        terminal.read(until="/clear")
        terminal.read(until="> ")
        terminal.type("/exit\n")
        assert terminal.wait() == 0


def test_ctrl_c_while_a_long_message_is_read(talkative: list[str]) -> None:
    command = [talkative[0], "-c", SLOW_READER, *talkative[3:]]
    with Terminal(command) as terminal:
        terminal.read(until="> ")
        terminal.type("x" * 600 + "\n")
        terminal.read(until="x" * 20 + "\r\n")
        time.sleep(1)
        terminal.interrupt()
        terminal.read(until="no token, stopped", seconds=10)
        terminal.read(until="> ")
        terminal.type("/exit\n")
        assert terminal.wait() == 0


def test_ctrl_c_through_a_pipe_ends_the_program(talkative: list[str]) -> None:
    with subprocess.Popen(talkative, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Hei\n")
        process.stdin.flush()
        assert process.stdout.read(16)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"interrupted\n")


def test_leaving_a_terminal(artifact: Path) -> None:
    command = [*ILMARI, "chat", "--model", str(artifact), *SHORT]
    with Terminal(command) as terminal:
        terminal.read(until="> ")
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
    with Terminal(command) as terminal:
        terminal.read(until="> ")
        terminal.interrupt()
        terminal.read(until="Ctrl-C once more leaves")
        terminal.read(until="> ")
        terminal.type("Hei\n")
        terminal.read(until="tokens/s")
        terminal.read(until="> ")
        terminal.interrupt()
        terminal.read(until="Ctrl-C once more leaves")
        terminal.read(until="> ")
        assert terminal.running
        terminal.interrupt()
        assert terminal.wait() == 0
