"""`ilmari bench serve` and `bench compare` against servers that do as they are told: grids, interruptions, refusals."""

from __future__ import annotations

import csv
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from certificate import make_certificate
from commands import ILMARI, Result
from fake_openai import OPTIONAL, TEMPLATE, FakeOpenAI
from refusals import assert_one_error, ilmari_here

SHORT = ("--input-len", "40", "--output-len", "5", "--num-warmups", "0")


def bench(server: FakeOpenAI, *flags: str | Path) -> Result:
    return ilmari_here("bench", "serve", "--base-url", server.url, *flags)


def points(result: Result) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout)["points"])


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("per_word", [1, 5])
def test_prompts_and_replies_have_the_wanted_lengths(endpoint: str, per_word: int) -> None:
    with FakeOpenAI(tokens_per_word=per_word) as server:
        wanted = 8 * per_word + (TEMPLATE if endpoint == "chat" else 0)
        flags = ("--input-len", str(wanted), "--output-len", "3", "--endpoint", endpoint, "--max-concurrency", "2")
        (point,) = points(bench(server, *flags, "--json"))
        assert [record.body["max_tokens"] for record in server.records] == [1, 1, *[3] * 11]
        assert {server.prompt_tokens(record.body) for record in server.measured} == {wanted}
        prompts = {json.dumps(record.body.get("messages") or record.body["prompt"]) for record in server.measured}
        assert len(prompts) == 11, "each prompt is new"
        assert {record.path for record in server.records} == {
            "/v1/chat/completions" if endpoint == "chat" else "/v1/completions"
        }
        assert server.connections <= 3, "connections are used again"
    assert (point["completed"], point["failed"]) == (10, 0)
    assert (point["total_input_tokens"], point["total_output_tokens"]) == (10 * wanted, 30)
    assert 0 <= point["host"]["cpu_percent"] <= 100


def test_a_grid_into_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "results"
    grid = ("--input-len", "32,64", "--output-len", "2,4", "--max-concurrency", "1,3", "--goodput", "ttft:10000")
    with FakeOpenAI(max_model_len=67) as server:
        result = bench(server, *grid, "--result-dir", folder)
        assert result.returncode == 0, result.stderr
        asked = len(server.records)
        assert asked == 2 + 3 * (6 + 16)
        assert [line.partition(" client")[0] for line in result.stderr.splitlines()[:2]] == [
            *("32 in, 2 out, 1", "32 in, 2 out, 3")
        ]
        assert re.search(r"^64 in, 4 out, 3 clients: skipped, the server takes 67 tokens", result.stderr, re.MULTILINE)
        assert len(re.findall(r"^ask: [\d.]+ s$", result.stderr, re.MULTILINE)) == 1
        again = bench(server, *grid, "--result-dir", folder)
        assert len(server.records) == asked, "all points are there"
    assert again.stdout == result.stdout
    assert result.stdout.startswith(f"fake at {server.url}, chat\n\n")
    assert result.stdout.count("skipped: 64 in, 4 out") == 2
    assert "the server takes 67 tokens of prompt and reply" in result.stdout
    stored = json.loads((folder / "result.json").read_text())
    assert [(p["input_len"], p["output_len"], p["max_concurrency"]) for p in stored["points"]] == [
        (inputs, outputs, clients) for inputs in (32, 64) for outputs in (2, 4) for clients in (1, 3)
    ]
    for point in stored["points"]:
        assert ("skipped" in point) == (point["input_len"] + point["output_len"] > 67)
        if "skipped" not in point:
            assert point["completed"] == point["num_prompts"] == 5 * point["max_concurrency"]
            assert point["request_goodput"] == pytest.approx(point["request_throughput"])
    assert len([*csv.DictReader((folder / "result.csv").read_text().splitlines())]) == 8
    assert (folder / "result.png").read_bytes().startswith(b"\x89PNG")

    compared = ilmari_here("bench", "compare", folder, folder / "result.json", "--json")
    rows = json.loads(compared.stdout)["points"]
    assert len(rows) == 6
    assert {row["p99_e2el_ms"] for row in rows} == {1.0}
    table = ilmari_here("bench", "compare", folder, folder).stdout.splitlines()
    assert len(table) == 2 + 1 + 6
    other = tmp_path / "other.json"
    other.write_text(json.dumps(stored | {"points": stored["points"][-1:]}))
    assert_one_error(ilmari_here("bench", "compare", folder, other), "no point in common")


def test_an_interrupted_grid_goes_on(tmp_path: Path) -> None:
    flags = ("--input-len", "32", "--output-len", "4", "--max-concurrency", "1,2,3", "--num-prompts", "4", "--json")
    with FakeOpenAI(faults={11: "never"}) as server:
        command = [*ILMARI, "bench", "serve", "--base-url", server.url, *flags, "--result-dir", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(server.measured) < 12:
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert err.endswith("interrupted\n")
        assert "Traceback" not in err
        before = json.loads((tmp_path / "result.json").read_text())["points"]
        assert [point["max_concurrency"] for point in before] == [1, 2]

        asked = len(server.measured)
        result = ilmari_here(*command[len(ILMARI) :])
        assert "Goes on after 2 of 3 points.\n" in result.stderr
        assert points(result)[:2] == before
        assert len(points(result)) == 3
        assert len(server.measured) - asked == 5
        assert_one_error(ilmari_here(*command[len(ILMARI) :], "--seed", "1"), "seed 0, not 1", "another --result-dir")


def test_a_point_without_any_reply_is_not_done(tmp_path: Path) -> None:
    flags = ("--input-len", "32", "--output-len", "4", "--max-concurrency", "1,2", "--num-prompts", "4", "--json")
    with FakeOpenAI(faults=dict.fromkeys(range(5, 11), "drop")) as server:
        result = bench(server, *flags, "--result-dir", str(tmp_path))
        assert_one_error(result, "no reply came", "the connection ended", "give the command again")
        assert len(json.loads((tmp_path / "result.json").read_text())["points"]) == 1
        assert [point["completed"] for point in points(bench(server, *flags, "--result-dir", str(tmp_path)))] == [4, 4]


def test_what_fails_is_counted_and_told() -> None:
    faults: dict[int, int | str] = {1: 429, 2: "drop", 3: "error", 5: 429}
    with FakeOpenAI(faults=faults) as server:
        (point,) = points(bench(server, *SHORT, "--num-prompts", "8", "--json"))
        table = bench(server, *SHORT, "--num-prompts", "8").stdout
    assert (point["completed"], point["failed"]) == (4, 4)
    assert point["errors"] == {
        "HTTP 429: Not now.": 2,
        "the connection ended before the reply was whole": 1,
        "error in the stream: The engine died.": 1,
    }
    assert point["total_output_tokens"] == 20
    assert "failed" in table


@pytest.mark.parametrize(
    ("knows", "lacks"),
    [
        (OPTIONAL, []),
        (OPTIONAL - {"ignore_eos"}, ["ignore_eos, so replies may end before --output-len"]),
        (OPTIONAL - {"continuous_usage_stats"}, ["continuous_usage_stats, so each event"]),
        (frozenset(), ["ignore_eos", "continuous_usage_stats", "stream_options, so words count as tokens"]),
    ],
)
def test_fields_that_a_server_does_not_know_are_left_out(knows: frozenset[str], lacks: list[str]) -> None:
    with FakeOpenAI(knows=knows) as server:
        result = bench(server, *SHORT, "--json")
        (point,) = points(result)
        sent = [{*body, *body.get("stream_options", {})} for body in (record.body for record in server.measured)]
    notes = [line for line in result.stderr.splitlines() if "does not know" in line]
    assert len(notes) == len(lacks)
    for lack in lacks:
        assert sum(f"does not know {lack}" in note for note in notes) == 1
    assert all(fields & OPTIONAL == knows for fields in sent)
    assert (point["completed"], point["total_output_tokens"]) == (5, 25)
    assert (point["total_input_tokens"] is None) == (not knows)


def test_a_server_that_counts_no_tokens() -> None:
    with FakeOpenAI(counts=False) as server:
        result = bench(server, *SHORT, "--json")
        assert {len(record.body["messages"][0]["content"].split()) for record in server.measured} == {40}
    (point,) = points(result)
    assert "The server does not count tokens, so words count as tokens" in result.stderr
    assert (point["total_output_tokens"], point["total_input_tokens"]) == (25, None)


def test_no_field_but_those_that_are_wanted() -> None:
    with FakeOpenAI() as server:
        points(bench(server, *SHORT, "--no-ignore-eos", "--extra-body", '{"top_p": 0.5, "temperature": 1}', "--json"))
        for record in server.records:
            assert "ignore_eos" not in record.body
            assert (record.body["top_p"], record.body["temperature"]) == (0.5, 1)


def test_own_and_fixed_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one two"}\n{"prompt": "three", "output_tokens": 9}\n', encoding="utf-8")
    with FakeOpenAI() as server:
        bench(server, "--dataset-path", path, "--output-len", "4", "--num-prompts", "3", "--num-warmups", "0")
        asked = [(record.body["messages"][0]["content"], record.body["max_tokens"]) for record in server.measured]
        assert asked == [("one two", 4), ("three", 9), ("one two", 4)]
        server.records.clear()
        bench(server, *SHORT, "--dataset-name", "fixed")
        assert len({record.body["messages"][0]["content"] for record in server.measured}) == 1


def test_the_same_seed_asks_the_same() -> None:
    def asked(*flags: str) -> list[str]:
        with FakeOpenAI() as server:
            points(bench(server, *SHORT, *flags, "--json"))
            return [record.body["messages"][0]["content"] for record in server.measured]

    assert asked() == asked("--seed", "0") != asked("--seed", "1")


def test_open_loop() -> None:
    with FakeOpenAI(ttft_s=(0.3, 0.3)) as server:
        flags = ("--request-rate", "100", "--num-prompts", "20")
        (point,) = points(bench(server, *SHORT, *flags, "--json"))
        arrived = [record.arrived for record in server.measured]
        table = bench(server, *SHORT, *flags).stdout
    assert max(arrived) - min(arrived) < 0.5 * 20 * 0.3, "nobody waits for a reply"
    assert (point["completed"], point["max_concurrency"], point["request_rate"]) == (20, None, 100)
    assert "time to first token (TTFT), ms" in table


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FakeOpenAI(api_key="secret") as server:
        assert_one_error(bench(server, *SHORT), "asks for another API key (HTTP 401: Another key, please.)")
        assert len(points(bench(server, *SHORT, "--api-key", "secret", "--json"))) == 1
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        result = bench(server, *SHORT, "--json")
        assert len(points(result)) == 1
        assert "secret" not in result.stdout + result.stderr


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with FakeOpenAI(certificate=context) as server:
        assert_one_error(bench(server, *SHORT), "cannot be reached", "certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        (point,) = points(bench(server, *SHORT, "--max-concurrency", "2", "--json"))
        assert point["completed"] == 10


def test_connections_that_end_with_each_reply() -> None:
    with FakeOpenAI(keep_alive=False) as server:
        (point,) = points(bench(server, *SHORT, "--json"))
    assert (point["completed"], point["failed"]) == (5, 0)


def test_a_server_that_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = ilmari_here("bench", "serve", "--base-url", f"http://127.0.0.1:{port}")
    assert_one_error(result, f"http://127.0.0.1:{port}/v1 cannot be reached", "start the server, or mend --base-url")


def test_something_that_is_no_such_server() -> None:
    with FakeOpenAI() as server:
        elsewhere = ilmari_here("bench", "serve", "--base-url", f"{server.url}/elsewhere")
        assert_one_error(elsewhere, "/elsewhere/v1/models lists no models (HTTP 404)", "--model")
        named = ilmari_here("bench", "serve", "--base-url", f"{server.url}/elsewhere", "--model", "x")
        assert_one_error(named, "/elsewhere/v1/chat/completions failed (HTTP 404: There is nothing here.)")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        talk = subprocess.Popen(
            [*ILMARI, "bench", "serve", "--base-url", f"http://127.0.0.1:{mute.getsockname()[1]}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = mute.accept()
        connection.recv(1000)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert "cannot be reached (what came is no HTTP)" in talk.communicate(timeout=60)[1]
        connection.close()


@pytest.mark.parametrize(("wanted", "words"), [(None, ("several models", "a, b")), ("c", ("no model 'c'", "a, b"))])
def test_models(wanted: str | None, words: tuple[str, ...]) -> None:
    with FakeOpenAI(models=("a", "b")) as server:
        flags = ("--model", wanted) if wanted else ()
        assert_one_error(bench(server, *SHORT, *flags), *words)
        points(bench(server, *SHORT, "--model", "b", "--json"))
        assert {record.body["model"] for record in server.records} == {"b"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--base-url", "localhost:8000"), "expected http://HOST:PORT"),
        (("--input-len", "0"), "expected numbers above 0"),
        (("--input-len", "1,x"), "expected numbers above 0"),
        (("--output-len", "1.5"), "expected numbers above 0"),
        (("--max-concurrency", ""), "expected numbers above 0"),
        (("--request-rate", "inf"), "expected numbers above 0"),
        (("--request-rate", "nan"), "expected numbers above 0"),
        (("--request-rate", "1", "--max-concurrency", "1"), "exclude each other"),
        (("--metric-percentiles", "101"), "at most 100"),
        (("--goodput", "speed:1"), "is no target"),
        (("--extra-body", "[]"), "expected a JSON object"),
        (("--dataset-name", "custom"), "give custom and a file"),
        (("--dataset-name", "fixed", "--dataset-path", "x"), "give custom and a file"),
        (("--dataset-path", "x", "--input-len", "5"), "--input-len is for random prompts"),
        (("--dataset-path", "/no/such/file"), "cannot be read"),
    ],
)
def test_flags_that_make_no_sense(flags: tuple[str, ...], words: str) -> None:
    result = ilmari_here("bench", "serve", *flags)
    assert_one_error(result, words)
    assert result.stdout == ""


def test_prompts_that_are_too_short() -> None:
    with FakeOpenAI() as server:
        assert_one_error(
            bench(server, "--input-len", "7"), "--input-len 7 is too short", "8 tokens for a prompt of one"
        )


def test_nothing_can_be_compared_with_what_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    assert_one_error(ilmari_here("bench", "compare", tmp_path, tmp_path), "is no result of `ilmari bench serve`")
    assert_one_error(ilmari_here("bench", "compare", tmp_path / "x", tmp_path), "cannot be read")


def test_without_matplotlib_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with FakeOpenAI() as server:
        result = bench(server, *SHORT, "--result-dir", tmp_path)
    assert result.returncode == 0
    assert "There is no picture, as matplotlib is missing: pip install 'ilmari[bench]'" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.csv", "result.json"]
