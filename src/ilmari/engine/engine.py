"""The engine: sequences in, one step at a time, tokens out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator
from collections.abc import Sequence as Many

import numpy as np
from numpy.typing import NDArray

from ilmari.artifact.artifact import TOKENIZER, Artifact
from ilmari.engine.batch import Work, make_batch
from ilmari.engine.block_pool import BlockPool
from ilmari.engine.kv_cache import KvCache, blocks_for
from ilmari.engine.logits import in_one
from ilmari.engine.messages import Stats
from ilmari.engine.options import MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, NUM_SPECULATIVE_TOKENS
from ilmari.engine.prompt import check_prompt
from ilmari.engine.ranks import Limits, Others
from ilmari.engine.runner import Runner
from ilmari.engine.sampler import make_rng
from ilmari.engine.sampling_params import SamplingParams
from ilmari.engine.scheduler import Scheduler
from ilmari.engine.sequence import FinishReason, Sequence
from ilmari.engine.step_sampler import StepSampler
from ilmari.errors import ArtifactError, RequestError
from ilmari.kernels.attention_tiles import tile_tokens
from ilmari.kernels.library import KernelLibrary
from ilmari.model.rope import inv_freq
from ilmari.parallel.group import ALONE, Group

MOST_BATCHED_TOKENS = 16384  # rows of a step times the vocabulary are numbered in 32 bits


class Engine:
    """Runs sequences in batches over one paged KV cache, in order of arrival (see `Scheduler`)."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        max_num_seqs: int = MAX_NUM_SEQS,
        max_num_batched_tokens: int = MAX_NUM_BATCHED_TOKENS,
        kv_cache_memory_bytes: int | None = None,
        throughput: bool = True,
        enable_prefix_caching: bool = True,
        num_speculative_tokens: int = NUM_SPECULATIVE_TOKENS,
        library: KernelLibrary | None = None,
        group: Group = ALONE,
    ) -> None:
        """
        max_num_seqs: sequences in one step; max_num_batched_tokens: tokens in one step, prompts in pieces if need be;
        kv_cache_memory_bytes: by default what those sequences need at full length, at most half the memory available;
        throughput: steps are always as long as that, else short while there are replies that would wait (see `Pace`);
        enable_prefix_caching: a prompt that begins like an earlier one is computed from where they differ on;
        num_speculative_tokens: the most tokens that are drafted for a sequence in a step, 0 for none (see `Drafter`);
        library: as `Runner` takes it; group: the artifact's ranks (see `ranks.form`), of which this one is rank 0.

        Raises:
            RequestError: a limit that is not positive, or too many tokens in a step.
            ArtifactError, TargetError: another rank cannot load the artifact.
        """
        _check_limit("max_num_seqs", max_num_seqs, MOST_BATCHED_TOKENS)
        _check_limit("num_speculative_tokens", num_speculative_tokens, MOST_BATCHED_TOKENS, least=0)
        _check_limit("max_num_batched_tokens", max_num_batched_tokens, MOST_BATCHED_TOKENS)
        if kv_cache_memory_bytes is not None:
            _check_limit("kv_cache_memory_bytes", kv_cache_memory_bytes, 1 << 62)
        self.manifest = artifact.manifest
        self.config = artifact.manifest.model
        self._max_rows = max(max_num_batched_tokens, max_num_seqs)
        self._others = Others(group, artifact, Limits(max_num_seqs, self._max_rows, kv_cache_memory_bytes))
        try:
            self._runner = Runner(artifact, self._max_rows, library, group)
            self._sampler = StepSampler(self._runner.library, self.config.vocab_size, artifact.folder / TOKENIZER)
        except Exception:
            self._others.forget()
            raise
        self.cache = KvCache(self._runner.plan, self._others.agree(artifact))
        self._tile_tokens = tile_tokens(self._runner.plan.local.q_per_kv)
        self._pool = BlockPool(self.cache.blocks)
        self._scheduler = Scheduler(
            self._pool,
            max_num_seqs=max_num_seqs,
            max_rows=self._max_rows,
            throughput=throughput,
            enable_prefix_caching=enable_prefix_caching,
            num_speculative_tokens=num_speculative_tokens,
        )
        self._draft_tokens = 0
        self._accepted_tokens = 0
        self._ids = itertools.count()

    def add(
        self, prompt: Many[int], params: SamplingParams, stop_ids: frozenset[int], *, cache_salt: str = ""
    ) -> Sequence:
        """Queue a prompt; `stop_ids` end it unless the parameters ignore them.

        It shares cached keys and values with earlier ones of the same `cache_salt`.

        Raises:
            RequestError: a prompt that is empty, too long, holds a foreign token, or needs more cache than there is.
        """
        check_prompt(prompt, self.manifest.max_prompt_len, self.config.vocab_size)
        limit = self.manifest.max_seq_len
        max_len = limit if params.max_tokens is None else min(len(prompt) + params.max_tokens, limit)
        stops = frozenset(params.stop_token_ids or ()) | (frozenset() if params.ignore_eos else stop_ids)
        sequence = self._sequence(prompt, max_len, params, stops, cache_salt)
        if len(prompt) >= max_len:
            sequence.finish_reason = "length"
        else:
            self._scheduler.add(sequence)
        return sequence

    def _sequence(
        self, prompt: Many[int], max_len: int, params: SamplingParams, stop_ids: frozenset[int], cache_salt: str
    ) -> Sequence:
        if blocks_for(max_len) > self.cache.blocks:
            raise RequestError(
                f"A sequence of {max_len} tokens needs {blocks_for(max_len)} KV blocks and the cache has "
                f"{self.cache.blocks}; lower max_tokens, or give the cache more memory."
            )
        return Sequence(
            id=next(self._ids),
            tokens=[int(token) for token in prompt],
            prompt_len=len(prompt),
            max_len=max_len,
            params=params,
            stop_ids=stop_ids,
            inv_freq=inv_freq(self.config, len(prompt)),
            rng=make_rng(params.seed),
            cache_salt=cache_salt,
            rules=self._sampler.rules(params, prompt, stop_ids),
            prompt_logprobs=[] if params.prompt_logprobs is None else [None],
        )

    def prepare(self) -> None:
        """Do now, before the first sequence, what later ones and those beside them would otherwise wait for.

        That is to have the memory of the KV cache, and to make what grammars need of the vocabulary.
        """
        self._others.occupy(self.cache)
        self._sampler.prepare_grammars()

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return bool(self._scheduler.waiting or self._scheduler.running)

    def stats(self) -> Stats:
        """How the engine stands, and what it has done since it was made; prefixes are counted in tokens of prompts."""
        return Stats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            kv_blocks=self._pool.blocks,
            kv_blocks_used=self._pool.blocks - self._pool.free,
            prefix_queries=self._scheduler.prefix_queries,
            prefix_hits=self._scheduler.prefix_hits,
            preemptions=self._scheduler.preemptions,
            draft_tokens=self._draft_tokens,
            accepted_tokens=self._accepted_tokens,
        )

    def step(self) -> list[Sequence]:
        """Run one batch; returns the sequences that gained tokens, finished ones included.

        Raises:
            ArtifactError: a sequence's logits cannot be sampled; it has ended, and the others can go on.
        """
        began = time.perf_counter()
        work = self._scheduler.schedule()
        if not work:
            return []
        logits = self._forward(work)
        self._sampler.begin(logits, [item.sequence for item in work for _ in range(item.outputs)])
        gained, row = [], 0
        for item in work:
            if self._extend(item, row):
                gained.append(item.sequence)
            row += item.outputs
        self._scheduler.pace.take(sum(item.rows for item in work), time.perf_counter() - began)
        return gained

    def _forward(self, work: Many[Work]) -> NDArray[np.float32]:
        """A step's logits, on all ranks together."""
        parts = [item.part for item in work]
        with self._others.doing(parts):
            return self._runner.forward(make_batch(parts, self._tile_tokens), self.cache)

    def _extend(self, item: Work, row: int) -> bool:
        """Take in a sequence's part of a step, whose logits start at `row`; whether it gained tokens."""
        sequence = item.sequence
        after = sequence.computed + item.rows - item.outputs + 1
        known = sequence.tokens[after : after + item.outputs]
        sequence.prompt_logprobs += [self._sampler.score(row + at, sequence, token) for at, token in enumerate(known)]
        sequence.computed += item.count
        draws = len(known) < item.outputs
        end = self._draw(item, row + len(known)) if draws else None
        self._scheduler.keep(sequence)
        if end:
            self.finish(sequence, end)
        return draws

    def _draw(self, item: Work, row: int) -> FinishReason | None:
        """Draw a token by the logits at `row`, and one more while it is the drafted one; why the last one ends it."""
        sequence, accepted = item.sequence, 0
        for draft in (*item.drafts, None):
            try:
                token = self._sampler.draw(row + accepted, sequence)
            except ArtifactError:
                self.finish(sequence, "abort")
                raise
            sequence.tokens.append(token)
            if sequence.end or token != draft:
                break
            accepted += 1
        if item.drafts:
            sequence.drafter.judge(item.drafts, accepted, len(sequence.tokens))
            self._draft_tokens += len(item.drafts)
            self._accepted_tokens += accepted
        sequence.computed += accepted
        return sequence.end

    def finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """End a sequence now, running or waiting, and free its blocks."""
        if sequence.finish_reason is None:
            sequence.finish_reason = reason
            self._scheduler.remove(sequence)

    def logits(self, token_ids: Many[int], last: int | None = None) -> NDArray[np.float32]:
        """Logits float32 [last, vocab] after each of the last tokens, by default after all, as one sequence.

        Raises:
            RequestError: as `add`; up to the artifact's longest sequence is taken.
        """
        return in_one(self.stream_logits(token_ids, last), len(token_ids) if last is None else last)

    def stream_logits(self, token_ids: Many[int], last: int | None = None) -> Generator[NDArray[np.float32]]:
        """The same in pieces float32 [rows, vocab], one for each step, valid until the next is asked for.

        Engines with the same `max_num_batched_tokens` give pieces of the same tokens. The sequence holds its part of
        the cache until the last piece, or until the generator is closed.

        Raises:
            RequestError: as `logits`, when the first piece is asked for.
        """
        check_prompt(token_ids, self.manifest.max_seq_len, self.config.vocab_size)
        wanted = len(token_ids) if last is None else last
        sequence = self._sequence(token_ids, len(token_ids), SamplingParams(), frozenset(), "")
        if blocks_for(len(token_ids)) > self._pool.free:
            raise RequestError("The KV cache is full of running sequences; ask for logits when they have ended.")
        sequence.blocks = self._pool.allocate(blocks_for(len(token_ids)))
        try:
            while count := min(sequence.pending, self._max_rows):
                outputs = min(max(wanted - (sequence.pending - count), 0), count)
                logits = self._forward([Work(sequence, count, outputs)])
                sequence.computed += count
                if outputs:
                    yield logits
        finally:
            self._pool.release(sequence.blocks)


def _check_limit(name: str, value: int, most: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RequestError(f"{name} is {value!r}; it must be an integer from {least} to {most}.")
