"""Attention over a shuffled paged cache, NaN where nothing is stored, against one softmax per token and head."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from stored import DTYPES, empty_cache, representable, write_token

from ilmari.kernels.attention_decode import attention_decode
from ilmari.kernels.attention_prefill import attention_prefill
from ilmari.kernels.attention_reference import attention_reference
from ilmari.kernels.attention_tiles import SEGMENT, TILE_ROWS, tile_tokens
from ilmari.kernels.isa import isa_named
from ilmari.kernels.kv_layout import BLOCK_SIZE

KV_HEADS = 2
CONTEXTS = (1, 15, 16, 17, 127, 128, 129, 300)
NEW_TOKENS = {1: 1, 15: 15, 16: 3, 17: 17, 127: 8, 128: 2, 129: 70, 300: 137}
LONG_CONTEXTS = (1, 2, 16, 17, 255, 256, 257, 512, 513, 769, 1100)
UNTOUCHED = np.float32(-777)
GROUPS = (1, 2, 3, 4, 6, 8, 16)  # query heads per KV head
HEAD_DIMS = {1: 64, 2: 128, 3: 96, 4: 64, 6: 32, 8: 128, 16: 64}
GAP = 8  # rows after each sequence that belong to none
DECODE = None  # for the tokens in a tile
PRODUCTS = tuple(map(isa_named, ("avx512-amd", "avx-vnni", "avx2", "generic")))
"""Vectors of 16 lanes and of 8 that multiply in integers, and of 8 and of 4 that multiply in float32."""


def one_by_one(queries, keys, values):
    """The query heads of a group [group, head_dim] over the keys and values they see [length, head_dim], in float64."""
    scores = queries @ keys.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ values / weights.sum(axis=1, keepdims=True)


@dataclass
class Sequence:
    """float64 q [new, heads, head_dim], scaled; k and v [length, kv_heads, head_dim]; the last `new` keys are q's.

    `dtype` is that of the cache, which holds k and v exactly.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    dtype: str

    @property
    def position(self):
        return len(self.k) - len(self.q)

    def expected(self):
        new, heads, head_dim = self.q.shape
        group = heads // self.k.shape[1]
        y = np.zeros((new, heads, head_dim))
        for i in range(new):
            seen = self.position + i + 1
            for first in range(0, heads, group):
                part, owner = slice(first, first + group), first // group
                y[i, part] = one_by_one(self.q[i, part], self.k[:seen, owner], self.v[:seen, owner])
        return y


def random_sequence(rng, dtype, length, new, heads, head_dim, spread=2.0):
    """`spread` is the scores' standard deviation."""
    q = (rng.standard_normal((new, heads, head_dim)) * spread / math.sqrt(head_dim)).astype(np.float32)
    k, v = representable(dtype, rng.standard_normal((2, length, KV_HEADS, head_dim)))
    return Sequence(q.astype(np.float64), k, v, dtype)


def segments(lengths, spans):
    """The last token of each sequence over all its keys, in segments, as `attention_decode` takes them."""
    runs = [
        (span.start, owner, start, min(start + SEGMENT, length))
        for owner, (length, span) in enumerate(zip(lengths, spans, strict=True))
        for start in range(0, length, SEGMENT)
    ]
    bounds = np.cumsum([0] + [-(-length // SEGMENT) for length in lengths])
    return [column.astype(np.int32) for column in (bounds, *np.array(runs).T)]


def run(compiled, rng, sequences, tokens):
    """The sequences' outputs, from one call whose cache holds NaN in every place that is not in use."""
    heads, head_dim = sequences[0].q.shape[1:]
    lengths = [len(sequence.k) for sequence in sequences]
    blocks_of = [-(-length // BLOCK_SIZE) for length in lengths]
    total = sum(blocks_of) + 3
    dtype = sequences[0].dtype
    k, v = empty_cache(dtype, total, KV_HEADS, head_dim)
    free = rng.permutation(total).tolist()
    unused = free.pop()
    table = np.full((len(sequences), max(blocks_of) + 1), unused, np.int32)
    m = sum(len(sequence.q) + GAP for sequence in sequences)
    q = np.full((m, heads, head_dim), np.nan, np.float32)
    spans, row = [], 1
    for owner, sequence in enumerate(sequences):
        table[owner, : blocks_of[owner]] = [free.pop() for _ in range(blocks_of[owner])]
        for position in range(lengths[owner]):
            slot = int(table[owner, position // BLOCK_SIZE]) * BLOCK_SIZE + position % BLOCK_SIZE
            write_token(k, v, slot, sequence.k[position], sequence.v[position])
        new = len(sequence.q)
        q[row : row + new] = sequence.q
        spans.append(slice(row, row + new))
        row += new + GAP
    y = np.full((m, heads * head_dim), UNTOUCHED)
    inputs = q.reshape(m, -1), k, v, table
    if tokens is DECODE:
        compiled(attention_decode, heads, KV_HEADS, head_dim, dtype)(*inputs, *segments(lengths, spans), y)
    else:
        tiles = [
            (span.start + at, min(tokens, span.stop - span.start - at), owner, sequence.position + at)
            for owner, (sequence, span) in enumerate(zip(sequences, spans, strict=True))
            for at in range(0, span.stop - span.start, tokens)
        ]
        columns = (column.copy() for column in rng.permutation(np.array(tiles, np.int32)).T)
        compiled(attention_prefill, heads, KV_HEADS, head_dim, tokens, dtype)(*inputs, *columns, y)
    outputs = [y[span].reshape(-1, heads, head_dim).copy() for span in spans]
    for span in spans:
        y[span] = UNTOUCHED
    assert (y == UNTOUCHED).all(), "a row of no tile was written"
    return outputs


def in_words(isa, dtype, tokens):
    """Whether queries, keys, weights and values are multiplied as 16-bit integers."""
    return isa.word_dot and (dtype == "int8" if tokens is DECODE else isa.byte_dot)


def precision(isa, dtype, tokens, spread=2.0):
    """Float32's, or what 16-bit scores of such a standard deviation are known to."""
    return 6e-4 * spread if in_words(isa, dtype, tokens) else 2e-6


def check(got, sequences, tolerance=2e-6):
    for output, sequence in zip(got, sequences, strict=True):
        np.testing.assert_allclose(output, sequence.expected(), rtol=0, atol=tolerance * np.abs(sequence.v).max())


def test_reference_agrees_with_one_softmax_at_a_time(rng):
    sequence = random_sequence(rng, "float16", 9, 4, 6, 8)
    got = attention_reference(sequence.q, sequence.k, sequence.v, sequence.position)
    np.testing.assert_allclose(got, sequence.expected(), rtol=1e-12)


@pytest.fixture(params=DTYPES)
def dtype(request):
    """Of the cache."""
    return request.param


def test_tiles_have_as_many_rows_as_fit():
    assert [group * tile_tokens(group) for group in GROUPS] == [128, 128, 126, 128, 126, 128, 128]
    assert tile_tokens(TILE_ROWS + 1) == 1


@pytest.mark.parametrize("isa", PRODUCTS, ids=lambda isa: isa.name, indirect=True)
@pytest.mark.parametrize(("group", "tokens"), [*((group, tile_tokens(group)) for group in GROUPS), (3, 5)])
def test_prefill_of_all_lengths_in_one_call(isa, compiled, rng, dtype, group, tokens):
    """Single tokens, pieces that continue a cached prefix, and whole prompts."""
    sequences = [
        random_sequence(rng, dtype, length, new, group * KV_HEADS, HEAD_DIMS[group])
        for length in CONTEXTS
        for new in (1, NEW_TOKENS[length])
    ]
    check(run(compiled, rng, sequences, tokens), sequences, precision(isa, dtype, tokens))


@pytest.mark.parametrize("group", GROUPS)
def test_decoding_of_all_lengths_in_one_call(isa, compiled, rng, dtype, group):
    """Contexts on both sides of the borders of blocks and segments."""
    sequences = [random_sequence(rng, dtype, length, 1, group * KV_HEADS, HEAD_DIMS[group]) for length in LONG_CONTEXTS]
    check(run(compiled, rng, sequences, DECODE), sequences, precision(isa, dtype, DECODE))


@pytest.mark.parametrize("lengths", [(1,), (3000,), (1, 40, 2500), (2500, 1, 257)], ids=str)
def test_decoding_sequences_of_very_different_lengths(isa, compiled, rng, dtype, lengths):
    sequences = [random_sequence(rng, dtype, length, 1, 4, 64) for length in lengths]
    got = run(compiled, rng, sequences, DECODE)
    tolerance = precision(isa, dtype, DECODE)
    check(got, sequences, tolerance)
    for output, sequence in zip(got, sequences, strict=True):
        want = attention_reference(sequence.q, sequence.k, sequence.v, sequence.position)
        np.testing.assert_allclose(output, want, rtol=0, atol=tolerance * np.abs(sequence.v).max())


@pytest.mark.parametrize("length", CONTEXTS)
def test_one_sequence_from_its_start(isa, compiled, rng, dtype, length):
    """All rows of a prompt are new, and the last tile is rarely whole."""
    sequences = [random_sequence(rng, dtype, length, length, 4, 64)]
    check(run(compiled, rng, sequences, tile_tokens(2)), sequences, precision(isa, dtype, tile_tokens(2)))


def exact_sequence(dtype, scores, heads, head_dim, rng):
    """The last token of a sequence whose scores are the given multiples of 1/4, with no rounding."""
    q, k = np.zeros((1, heads, head_dim)), np.zeros((len(scores), KV_HEADS, head_dim))
    q[:, :, 5] = 2.0**4
    k[:, :, 5] = np.asarray(scores)[:, None] / 2.0**4
    np.testing.assert_array_equal(k.astype(np.float16), k)
    v = representable(dtype, rng.standard_normal((len(scores), KV_HEADS, head_dim)))
    return Sequence(q, representable(dtype, k), v, dtype)


SCORES = {
    "all -80": np.full(70, -80.0),
    "all 80": np.full(70, 80.0),
    "all 1000": np.full(130, 1000.0),
    "-80 and 80": np.where(np.arange(130) % 3 == 0, 80.0, -80.0),
    "around 1000": 1000 + np.arange(130) % 5 / 2,
    "around -1000": -1000 - np.arange(130) % 5 / 2,
    "growing to 1000": np.linspace(-1000, 1000, 201).round(),
    "falling from 1000": np.linspace(1000, -1000, 201).round(),
    "slowly growing": np.arange(200) / 4,
    "slowly falling": -np.arange(200) / 4,
    "one peak in the last chunk": np.where(np.arange(131) == 130, 90.0, 0.0),
    "one peak in the first segment": np.where(np.arange(600) == 5, 90.0, 0.0),
    "one peak in the last segment": np.where(np.arange(600) == 599, 90.0, 0.0),
    "a thousand less in one segment": np.where(np.arange(600) // SEGMENT == 1, -1000.0, 0.0),
    "87 apart": np.where(np.arange(130) < 64, 0.0, 87.0),
    "87 apart, chunk by chunk": np.where(np.arange(300) < 128, 0.0, 87.0),
}


@pytest.mark.parametrize(("head_dim", "tokens"), [(64, 4), (128, DECODE)])
def test_softmax_is_stable(isa, compiled, rng, dtype, head_dim, tokens):
    """One feature decides, and what has one feature is exact in 16 bits too, but for the last place of its scale."""
    sequences = [exact_sequence(dtype, scores, 4, head_dim, rng) for scores in SCORES.values()]
    check(run(compiled, rng, sequences, tokens), sequences, precision(isa, dtype, tokens, spread=1.0))


@pytest.mark.parametrize("tokens", [4, DECODE])
@pytest.mark.parametrize(("spread", "tolerance"), [(80, 2e-4), (1000, 3e-3)])
def test_random_huge_scores(isa, compiled, rng, dtype, spread, tolerance, tokens):
    """Here the float32 scores are rounded themselves: the tolerance is their last place."""
    tolerance = max(tolerance, precision(isa, dtype, tokens, spread))
    new = {length: 1 if tokens is DECODE else NEW_TOKENS[length] for length in CONTEXTS}
    sequences = [random_sequence(rng, dtype, length, new[length], 4, 64, spread) for length in CONTEXTS]
    check(run(compiled, rng, sequences, tokens), sequences, tolerance)


@pytest.mark.parametrize("tokens", [4, DECODE])
def test_one_key_gives_its_value(isa, compiled, rng, dtype, tokens):
    """In words each number is within half of the last of 13 bits; its weight fills what weights have."""
    sequences = [random_sequence(rng, dtype, 1, 1, 4, 64, spread=300)]
    (got,) = run(compiled, rng, sequences, tokens)
    rounding = 6.2e-5 * np.abs(sequences[0].v).max() if dtype == "float16" and in_words(isa, dtype, tokens) else 0
    rtol = 0 if dtype == "float16" and not rounding else 1e-6
    np.testing.assert_allclose(got[0], np.repeat(sequences[0].v[0], 2, axis=0), rtol, atol=rounding)


@pytest.mark.parametrize("tokens", [4, DECODE])
def test_many_small_weights_count(isa, compiled, rng, dtype, tokens):
    """Beside a weight of 1, thousands that are each less than the last place of 15 bits, and an eighth in all.

    What is lost are those that share a scale with the large one: a chunk of them, or a segment.
    """
    sequence = exact_sequence(dtype, [10.5, *[0.0] * 4600], 4, 64, rng)
    sequence.v[1:] = sequence.v[1]
    check(run(compiled, rng, [sequence], tokens), [sequence], 2e-3 if in_words(isa, dtype, tokens) else 2e-4)


@pytest.mark.parametrize(("spread", "feature", "allowed"), [(0.0, 1, 1), (1.0, 1, 1), (4.0, 1, 1), (1.0, 10, 4)])
def test_what_words_lose_beside_a_float16_cache(compiled, rng, spread, feature, allowed):
    """The error of all that is rounded on the way, against that of the keys and values when they were cached.

    One feature of the values is `feature` times as large as the others: the errors of 16-bit integers grow with it.
    """
    exact = random_sequence(rng, "float16", 900, 70, 4, 128, spread)
    exact.k, exact.v = rng.standard_normal((2, *exact.k.shape))
    exact.v[:, :, 7] *= feature
    cached = Sequence(exact.q, *(array.astype(np.float16).astype(float) for array in (exact.k, exact.v)), "float16")
    (got,) = run(compiled, rng, [cached], tile_tokens(2))
    others = np.arange(128) != 7
    rounding, lost = got - cached.expected(), cached.expected() - exact.expected()
    assert np.sqrt(np.mean(rounding[..., others] ** 2)) < allowed * np.sqrt(np.mean(lost[..., others] ** 2))
