"""The block pool in any order of calls, beside a plain account of who uses what and what blocks hold."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ilmari.engine.block_pool import BlockPool

BLOCKS = 6


class Account(RuleBasedStateMachine):
    """Sequences of letters, one a block; a block's name is the text up to and with it."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS)
        self.used: dict[str, list[list[int]]] = {}
        self.holds: dict[int, str] = {}  # what was last written to a block

    @rule(text=st.text("ab", min_size=1, max_size=BLOCKS))
    def start(self, text: str) -> None:
        names = [text[: end + 1].encode() for end in range(len(text))]
        found = self.pool.find(names)
        assert [self.holds[block].encode() for block in found] == names[: len(found)]
        missing = len(text) - len(found)
        if missing + sum(map(self.pool.is_free, found)) > self.pool.free:
            return
        self.pool.share(found)
        taken = self.pool.allocate(missing)
        assert not set(taken) & set(self.users())
        blocks = found + taken
        for block, name in zip(taken, names[len(found) :], strict=True):
            self.holds[block] = name.decode()
            self.pool.name(block, name)
        self.used.setdefault(text, []).append(blocks)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        text = data.draw(st.sampled_from(sorted(self.used)))
        self.pool.release(self.used[text].pop())
        if not self.used[text]:
            del self.used[text]

    @rule()
    def nameless(self) -> None:
        """A block that never became full is the next to be taken."""
        if self.pool.free:
            block = self.pool.allocate(1)
            self.holds.pop(*block, None)
            self.pool.release(block)
            assert self.pool.allocate(1) == block
            self.pool.release(block)

    def users(self) -> Counter[int]:
        return Counter(block for all_blocks in self.used.values() for blocks in all_blocks for block in blocks)

    @invariant()
    def no_block_is_lost_or_in_two_places(self) -> None:
        users = self.users()
        assert self.pool.free == BLOCKS - len(users)
        assert [self.pool.is_free(block) for block in range(BLOCKS)] == [not users[block] for block in range(BLOCKS)]
        assert self.pool._users == [users[block] for block in range(BLOCKS)]


TestAccount = Account.TestCase
TestAccount.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def filled(pool: BlockPool, text: str) -> list[int]:
    blocks = pool.allocate(len(text))
    for end, block in enumerate(blocks):
        pool.name(block, text[: end + 1].encode())
    return blocks


def names(text: str) -> list[bytes]:
    return [text[: end + 1].encode() for end in range(len(text))]


def test_the_end_of_a_prefix_is_lost_first_and_the_longest_unused_prefix_before_others() -> None:
    pool = BlockPool(5)
    old, new = filled(pool, "abc"), filled(pool, "xy")
    pool.release(old)
    pool.release(new)
    kept = []
    for _ in range(5):
        pool.allocate(1)
        kept.append((len(pool.find(names("abc"))), len(pool.find(names("xy")))))
    assert kept == [(2, 2), (1, 2), (0, 2), (0, 1), (0, 0)]


def test_what_is_used_again_is_kept_longer() -> None:
    pool = BlockPool(3)
    for text in "abc":
        pool.release(filled(pool, text))
    found = pool.find([b"a"])
    pool.share(found)
    pool.release(found)
    pool.allocate(2)
    assert pool.find([b"a"]) == found
    assert pool.find([b"b"]) == pool.find([b"c"]) == []


def test_of_two_equal_blocks_one_is_found() -> None:
    pool = BlockPool(2)
    first, second = filled(pool, "a"), filled(pool, "a")
    pool.release(second)
    assert pool.find([b"a"]) == first
    pool.release(first)
    assert pool.allocate(1) == second, "without a name it is of no use"
