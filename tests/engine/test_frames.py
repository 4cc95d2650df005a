"""Messages through a stream that cuts them anywhere, and streams that hold no messages."""

import dataclasses

import msgspec
import pytest

from ilmari import SamplingParams
from ilmari.engine.frames import MAX_FRAME, FrameReader, frame
from ilmari.engine.logprobs import TokenLogprob
from ilmari.engine.messages import Delta, Finish, FromEngine, Start, Stats, Step, Submit, ToEngine
from ilmari.engine.options import EngineOptions
from ilmari.errors import RequestError

SEEDED = SamplingParams(temperature=0.5, stop=["a", "b"], stop_token_ids=[7, 8], seed=2**63 - 1, max_tokens=None)
SENT = [
    Start(b"/a/\xff", EngineOptions(max_num_seqs=3)),
    Submit("one", [1, 2, 3], SEEDED, "salt"),
    Submit("two", [1] * 70_000, SamplingParams()),
    Finish("one"),
]


@pytest.mark.parametrize("size", [1, 3, 4096, 1 << 20])
def test_messages_arrive_as_they_were_sent(size: int) -> None:
    stream = b"".join(map(frame, SENT))
    reader: FrameReader[ToEngine] = FrameReader(ToEngine)
    arrived = [
        message for start in range(0, len(stream), size) for message in reader.feed(stream[start : start + size])
    ]
    assert arrived == SENT


def test_deltas_arrive_as_they_were_sent() -> None:
    logprobs = [[TokenLogprob(5, -0.25, 1), TokenLogprob(7, -1.5, 2)]]
    step = Step([Delta("a", [5], logprobs, [None, *logprobs], 3), Delta("b", error="No.")], Stats(running=1))
    reader: FrameReader[FromEngine] = FrameReader(FromEngine)
    assert reader.feed(frame(step)) == [step]


def test_parameters_are_checked_when_they_are_read() -> None:
    sent = frame(Submit("one", [1], SEEDED))
    fields = msgspec.msgpack.decode(sent[4:])
    assert fields["params"].keys() == {field.name for field in dataclasses.fields(SamplingParams)}
    fields["params"]["temperature"] = -1
    payload = msgspec.msgpack.encode(fields)
    reader: FrameReader[ToEngine] = FrameReader(ToEngine)
    with pytest.raises(RequestError, match="temperature is"):
        reader.feed(len(payload).to_bytes(4, "little") + payload)


@pytest.mark.parametrize("stream", [(MAX_FRAME + 1).to_bytes(4, "little"), b"\x01\x00\x00\x00\xc1", b"\x01\0\0\0\x07"])
def test_what_is_no_message_is_refused(stream: bytes) -> None:
    reader: FrameReader[ToEngine] = FrameReader(ToEngine)
    with pytest.raises(ValueError, match=r"frame of|Expected|invalid"):
        reader.feed(stream)


@pytest.mark.parametrize("message", [Finish("\ud800"), Submit("a", [2**64], SamplingParams())])
def test_what_cannot_be_sent_is_refused(message: msgspec.Struct) -> None:
    with pytest.raises(ValueError, match=r"surrogate|serialize"):
        frame(message)
