"""What several signers call final stays, however blocks are delayed and whoever seals when it must not have to."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chain.clique import BlockHeader, ChainBlock, difficulty, in_turn, majority
from services.chain.finality import Attestation, Era, Exposure, final_number
from services.chain.sealing import NEXT_AFTER_S, TAKE_OVER_AFTER_S, Seat, seat
from services.chain.signer_election import Vote, next_vote

STEPS = 220


@dataclass(frozen=True)
class Sealed(BlockHeader):
    """A header whose signer is known without a signature."""

    by: str = ""

    @property
    def signer(self) -> str:  # type: ignore[override]
        return self.by


def sealed(parent: ChainBlock, by: str, signers: list[str], serial: int) -> ChainBlock:
    number = parent.number + 1
    weight = difficulty(signers, number, by)
    raw: Mapping[str, Any] = {"miner": "0x" + "00" * 20}
    return ChainBlock(Sealed(number, f"{by}{serial}", parent.hash, weight, 50_000, raw, by), parent.total + weight)


@dataclass
class Node:
    """geth and its SN: follows the heaviest chain it knows, seals, attestations, and says what is final."""

    name: str
    signers: list[str]
    dice: random.Random
    known: dict[str, ChainBlock]
    head: ChainBlock
    exposure: Exposure = field(default_factory=Exposure)
    heard: dict[str, list[Attestation]] = field(default_factory=dict)
    final: ChainBlock | None = None

    def chain(self) -> list[ChainBlock]:
        links = [self.head]
        while links[-1].number:
            links.append(self.known[links[-1].header.parent])
        return links[::-1]

    def may_seal(self) -> bool:
        recent = self.chain()[1:][-(majority(self.signers) - 1) :] if majority(self.signers) > 1 else []
        return all(link.header.signer != self.name for link in recent)

    def begin(self) -> ChainBlock:
        """The SN lets geth seal; the block may come any time later."""
        number = self.head.number + 1
        self.exposure.may_seal(number, self.head.total + difficulty(self.signers, number, self.name))
        return self.head

    def take(self, link: ChainBlock) -> None:
        """As geth's fork choice: heavier, of equals the shorter, of those any."""
        self.known[link.hash] = link
        mine = (self.head.total, -self.head.number)
        theirs = (link.total, -link.number)
        if theirs > mine or (theirs == mine and link.hash != self.head.hash and self.dice.random() < 0.5):
            before = {there.hash for there in self.chain()}
            given_up_from = self.chain()
            self.head = link
            now = {there.hash for there in self.chain()}
            for there in given_up_from:
                if there.hash not in now and there.header.signer == self.name:
                    self.exposure.lost(there.total)
            for there in self.chain():
                if there.hash not in before:
                    self.exposure.moved(there.number, there.header.signer == self.name)

    def attestation(self) -> Attestation | None:
        floor = self.exposure.floor(self.signers)
        return Attestation(self.head.number, self.head.hash, floor) if self.head.total >= floor else None

    def look(self) -> None:
        chain = self.chain()
        since = self.final.number if self.final else 0
        assert self.final is None or chain[since].hash == self.final.hash, "a final block was replaced"
        there = {link.hash for link in chain}
        attestations = {
            name: next((attestation for attestation in reversed(said) if attestation.hash in there), None)
            for name, said in self.heard.items()
        }
        found = final_number(
            chain[since:], [Era(0, tuple(self.signers))],
            {name: attestation for name, attestation in attestations.items() if attestation is not None}, voting=False,
        )  # fmt: skip
        if found >= 0 and found > since:
            self.final = chain[found]


class World:
    """Signers whose blocks and attestations reach the others late, in any order, or never."""

    def __init__(self, count: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.signers = [f"{chr(97 + index)}" for index in range(count)]
        genesis = ChainBlock(Sealed(0, "genesis", "", 1, 0, {"miner": "0x" + "00" * 20}), 1)
        self.nodes = {
            name: Node(name, self.signers, self.dice, {genesis.hash: genesis}, genesis) for name in self.signers
        }
        self.mail: list[tuple[str, Any, str]] = []
        self.under_way: list[tuple[Node, ChainBlock]] = []
        self.serial = 0
        self.finals = 0

    def step(self, haste: float) -> None:
        """``haste``: how often a message is delivered rather than anything else done."""
        node = self.nodes[self.dice.choice(self.signers)]
        if self.mail and self.dice.random() < haste:
            self.deliver()
        elif self.under_way and self.dice.random() < 0.6:
            self.seal(self.dice.randrange(len(self.under_way)))
        elif node.may_seal() and not any(sealer is node for sealer, _ in self.under_way):
            turn = in_turn(self.signers, node.head.number + 1) == node.name
            if turn or self.dice.random() < 0.3:
                self.under_way.append((node, node.begin()))

    def seal(self, which: int) -> None:
        node, parent = self.under_way.pop(which)
        self.serial += 1
        link = sealed(parent, node.name, self.signers, self.serial)
        node.take(link)
        if link.hash != node.head.hash:
            node.exposure.lost(link.total)  # as `moved` has said it already, or it never will
        self.tell(node, link)

    def tell(self, node: Node, link: ChainBlock | None) -> None:
        attestation = node.attestation()
        for other in self.signers:
            if other == node.name:
                continue
            if link is not None:
                self.mail.append((other, link, node.name))
            if attestation is not None:
                self.mail.append((other, attestation, node.name))
        if attestation is not None:
            node.heard.setdefault(node.name, []).append(attestation)
        self.look(node)

    def deliver(self) -> None:
        to, what, sender = self.mail.pop(self.dice.randrange(len(self.mail)))
        node = self.nodes[to]
        if isinstance(what, Attestation):
            node.heard.setdefault(sender, []).append(what)
            self.look(node)
            return
        if what.header.parent not in node.known:
            if self.dice.random() < 0.95:
                self.mail.append((to, what, sender))
            return
        before = node.head.hash
        node.take(what)
        if node.head.hash != before:
            self.tell(node, None)

    def look(self, node: Node) -> None:
        before = node.final
        node.look()
        self.finals += node.final is not before
        for other in self.nodes.values():
            self.agree(node, other)

    @staticmethod
    def agree(one: Node, other: Node) -> None:
        if one.final is None or other.final is None:
            return
        low, high = sorted((one, other), key=lambda node: node.final.number if node.final else 0)
        assert low.final is not None and high.final is not None
        link = high.final
        while link.number > low.final.number:
            link = high.known[link.header.parent]
        assert link.hash == low.final.hash, f"{one.name} and {other.name} call different blocks final"


@settings(max_examples=120, deadline=None)
@given(count=st.sampled_from([2, 3, 5]), seed=st.integers(0, 2**32), haste=st.floats(0.3, 0.9))
def test_no_two_signers_ever_call_different_blocks_final(count: int, seed: int, haste: float) -> None:
    world = World(count, seed)
    for _ in range(STEPS):
        world.step(haste)


def test_blocks_become_final_where_signers_seal_in_turn() -> None:
    world = World(3, 1)
    for _ in range(12):
        node = world.nodes[in_turn(world.signers, world.nodes["a"].head.number + 1)]
        world.under_way.append((node, node.begin()))
        world.seal(0)
        while world.mail:
            world.deliver()
    assert [node.final.number for node in world.nodes.values() if node.final] == [12, 12, 12]


def test_the_simulation_would_notice_a_rule_that_is_too_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A majority that holds a block is not enough where its members may have sealed others."""
    monkeypatch.setattr(Exposure, "floor", lambda self, signers: 0)
    with pytest.raises(AssertionError, match="final"):
        for seed in range(3000):
            world = World(3, seed)
            for _ in range(STEPS):
                world.step(0.5)


# --- by hand -----------------------------------------------------------------------------------------------


def chain_of(signers: list[str], by: str) -> list[ChainBlock]:
    """A chain whose blocks are sealed by these, one letter each."""
    links = [ChainBlock(Sealed(0, "genesis", "", 1, 0, {"miner": ""}), 1)]
    for serial, name in enumerate(by):
        links.append(sealed(links[-1], name, signers, serial))
    return links


def attested(chain: list[ChainBlock], *names: str) -> dict[str, Attestation]:
    return {name: Attestation(chain[-1].number, chain[-1].hash, 0) for name in names}


def test_a_block_in_turn_is_final_once_two_of_three_hold_it() -> None:
    signers = ["a", "b", "c"]
    chain = chain_of(signers, "bca")
    assert final_number(chain, [Era(0, tuple(signers))], attested(chain, "a", "b"), voting=False) == 3
    assert final_number(chain, [Era(0, tuple(signers))], attested(chain, "a"), voting=False) == -1


def test_a_block_out_of_turn_waits_for_the_one_whose_turn_it_was() -> None:
    signers = ["a", "b", "c"]
    chain = chain_of(signers, "ba")  # c would have had block 2
    era = [Era(0, tuple(signers))]
    assert final_number(chain, era, attested(chain, "a", "b"), voting=False) == 1
    assert final_number(chain, era, attested(chain, "a", "b", "c"), voting=False) == 2


def test_while_signers_change_no_turn_is_counted_on() -> None:
    signers = ["a", "b", "c"]
    chain = chain_of(signers, "bca")
    assert final_number(chain, [Era(0, tuple(signers))], attested(chain, "a", "b"), voting=True) == 2
    eras = [Era(0, ("a",)), Era(3, ("a", "b", "c"))]
    assert final_number(chain, eras, attested(chain, "b", "c"), voting=False) < 2  # a alone could replace block 2


def test_one_who_is_being_voted_in_may_seal_on_another_chain() -> None:
    """c completes the vote on a block of its own, and d goes on from there: two blocks, where c alone makes one."""
    chain, eras = chain_of(["a", "b", "c"], "bca"), [Era(0, ("a", "b", "c"))]
    held = attested(chain, "a", "b")
    assert final_number(chain, eras, held, voting=True, candidates={"d"}) == 1
    assert final_number(chain, eras, held | attested(chain, "d"), voting=True, candidates={"d"}) == 2
    all_hold = attested(chain, "a", "b", "c")  # nobody is left who could complete the vote
    assert final_number(chain, eras, all_hold, voting=True, candidates={"d"}) == 3


def test_one_signer_is_enough_for_itself() -> None:
    chain = chain_of(["a"], "aaa")
    assert final_number(chain, [Era(0, ("a",))], attested(chain, "a"), voting=False) == 3


# --- who seals, who votes ------------------------------------------------------------------------------------


def test_whoever_has_the_turn_seals_at_once_and_the_others_wait() -> None:
    signers, everyone = ["a", "b", "c"], {"a", "b", "c"}
    seats = {name: seat(name, signers, {"c"}, 3, everyone, caught_up=True) for name in signers}
    assert seats == {"a": Seat(now=True), "b": Seat(now=False, after_s=TAKE_OVER_AFTER_S), "c": Seat(now=False)}


def test_where_the_one_with_the_turn_is_gone_the_one_before_it_seals_at_once() -> None:
    signers = ["a", "b", "c", "d", "e"]
    here = {"b", "c", "d", "e"}
    seats = {name: seat(name, signers, {"d", "c"}, 5, here, caught_up=True) for name in sorted(here)}
    assert seats["e"] == Seat(now=True)
    assert seats["b"] == Seat(now=False, after_s=NEXT_AFTER_S)
    assert seats["c"] == seats["d"] == Seat(now=False)


@pytest.mark.parametrize(
    ("me", "connected", "caught_up"), [("a", {"a"}, True), ("a", {"a", "b", "c"}, False), ("x", {"x", "a", "b"}, True)]
)
def test_nobody_seals_who_is_cut_off_or_behind_or_no_signer(me: str, connected: set[str], caught_up: bool) -> None:
    assert seat(me, ["a", "b", "c"], set(), 3, connected, caught_up=caught_up) == Seat(now=False)


@pytest.mark.parametrize(
    ("signers", "live", "vote"),
    [
        ("a", "a", None),
        ("a", "ab", None),
        ("a", "abc", ("b", True)),
        ("ab", "abc", ("c", True)),
        ("abc", "abc", None),
        ("abc", "abcd", None),
        ("abc", "abcde", ("d", True)),
        ("abc", "ab", ("c", False)),
        ("ab", "ab", ("b", False)),
        ("abc", "abde", ("c", False)),
        ("ab", "abde", ("d", True)),
        ("abcde", "abcd", ("e", False)),
        ("abcd", "abcd", ("d", False)),
        ("a", "b", None),
        ("abc", "", None),
    ],
)
def test_signers_come_to_the_largest_odd_number_of_the_living(
    signers: str, live: str, vote: tuple[str, bool] | None
) -> None:
    assert next_vote(list(signers), list(live)) == (Vote(*vote) if vote else None)


@given(st.lists(st.sampled_from("abcdefg"), unique=True, min_size=1), st.permutations("abcdefg"), st.integers(1, 7))
def test_votes_end_with_the_wanted_signers(signers: list[str], order: list[str], count: int) -> None:
    live = order[:count]
    now = set(signers)
    if not now & set(live):
        return  # nobody who lives could vote
    for _ in range(20):
        vote = next_vote(sorted(now), live)
        if vote is None:
            break
        now = now | {vote.account} if vote.authorize else now - {vote.account}
    assert now <= set(live)
    assert len(now) == len(live) - (len(live) + 1) % 2
