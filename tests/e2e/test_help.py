"""Every verb says what it takes, and imports nothing heavy to say so."""

import subprocess
import sys

import pytest
from refusals import ilmari_here

SAID = {
    "demo": ["--prompt", "--max-tokens", "--dtype", "--keep", "-t,", "--threads"],
    "compile": ["--set", "--target"],
    "chat": ["--model", "--system", "--max-tokens", "--temperature", "--top-p", "--seed", "-t,", "--threads"],
    "generate": [
        *(
            "--model",
            "--prompt",
            "--prompt-token-ids",
            "--max-tokens",
            "--temperature",
            "--top-k",
            "--top-p",
            "--min-p",
        ),
        *(
            "--repetition-penalty",
            "--seed",
            "--stop",
            "--stop-token-ids",
            "--ignore-eos",
            "--logprobs",
            "--threads",
            "--json",
        ),
    ],
    "serve": [
        *("--model", "--served-model-name", "--host", "--port", "--root-path", "--api-key", "--api-key-file"),
        *("--allowed-origins", "--ssl-keyfile", "--ssl-certfile", "--max-model-len", "--max-num-seqs"),
        *("--max-num-batched-tokens", "--kv-cache-memory-bytes", "--max-num-queued-reqs"),
        *("--enable-prefix-caching", "--kv-cache-dtype"),
        *("--chat-template", "--seed", "--max-logprobs", "--request-timeout", "--drain-timeout"),
        *("--enable-request-id-headers", "-t,", "--threads"),
    ],
    "webui": ["--api-base-url", "--host", "--port"],
    "inspect": ["DIR", "--json"],
    "verify": ["DIR"],
    "eval perplexity": [
        *(
            "--model",
            "--data",
            "--window",
            "--tokens",
            "--output",
            "-t,",
            "--threads",
            "--devices",
            "--hosts",
            "--json",
        ),
    ],
    "eval ceval": [
        *("--model", "--data", "--split", "--shots", "--subject", "--limit", "--output", "-t,", "--threads"),
        *("--devices", "--hosts", "--json"),
    ],
    "eval compare": [
        *("DIR", "--data", "--window", "--tokens", "--output", "-t,", "--threads", "--devices", "--hosts", "--json"),
    ],
    "bench roofline": ["--rounds", "-t,", "--threads", "--json"],
    "bench latency": [
        *("--model", "--input-len", "--output-len", "--batch", "--rounds", "--profile", "-t,", "--threads", "--json"),
    ],
    "bench serve": [
        *("--base-url", "--model", "--endpoint", "--api-key", "--grid", "--input-len,", "--random-input-len"),
        *("--output-len,", "--random-output-len", "--max-concurrency", "--request-rate", "--num-prompts"),
        *("--num-warmups", "--dataset-name", "--dataset-path", "--ignore-eos", "--extra-body", "--seed", "--goodput"),
        *("--metric-percentiles", "--result-dir", "--json"),
    ],
    "bench compare": ["FIRST", "SECOND", "--json"],
    "bench kernels": ["--model", "--rows", "--context", "--rounds", "-t,", "--threads", "--json"],
}


def test_every_verb_is_listed() -> None:
    for group in ((), ("eval",), ("bench",)):
        listed = ilmari_here(*group, "--help").stdout
        for verb in SAID:
            *parents, name = verb.split()
            if tuple(parents) == group:
                assert f" {name} " in listed
        assert "<bool>" not in listed
        assert "..." not in listed.partition("Commands:")[2], "every verb's sentence is whole"
    groups = ilmari_here("--help").stdout
    for name in ("eval", "bench"):
        assert f" {name} " in groups


@pytest.mark.parametrize("verb", SAID)
def test_options(verb: str) -> None:
    result = ilmari_here(*verb.split(), "--help")
    assert result.returncode == 0
    assert "<bool>" not in result.stdout, "a flag takes no value"
    assert ("ILMARI_NUM_THREADS" in result.stdout) == ("--threads" in SAID[verb])
    for word in SAID[verb]:
        assert f" {word} " in result.stdout


@pytest.mark.parametrize("verb", SAID)
def test_help_imports_nothing_heavy(verb: str) -> None:
    code = (
        f"import sys\nfrom ilmari.cli.app import main\nsys.argv = ['ilmari', *'{verb}'.split(), '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('heavy:', {'tvm', 'numpy', 'yaml', 'tokenizers', 'jinja2', 'gguf'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: set()" in result.stdout


@pytest.mark.parametrize(
    "args", [["chat"], ["generate", "--prompt", "x"], ["inspect"], ["verify"], ["demo", "--dtype", "fp8"]]
)
def test_usage_error(args: list[str]) -> None:
    result = ilmari_here(*args)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
