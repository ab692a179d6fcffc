"""What every chain guarantees, and what geth's supervision adds."""

import asyncio
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from training_reader import TrainingReader

from services.chain import binary
from services.chain.abi import contract_abi
from services.chain.account import Account
from services.chain.backend import ChainBackend
from services.chain.embedded_evm import EmbeddedEvm
from services.chain.events import (
    CheckedIn,
    Configured,
    ContractRegistered,
    Enrolled,
    LayoutAgreed,
    MemberRegistered,
    Reported,
    TrainingConfig,
)
from services.chain.factory import Choice, open_chain
from services.chain.geth_process import GethProcess
from services.chain.network import Founding, Member, NetworkGateway, OrganizationEntry
from services.chain.receipts import Receipt
from services.chain.training import CheckInCall
from services.errors import (
    ChainError,
    ConfigurationDiffers,
    GethFailed,
    GethNotFound,
    MalformedCall,
    NameTaken,
    NotAMember,
    NotARegisteredSN,
    StaleRound,
    StorageError,
)
from services.rpc.swarm_pb2 import RoundState

DEADLINE_S = 30.0
CONFIG = TrainingConfig(
    min_peers=2, sync_frequency=16, merge_method="mean", adaptive_sync=False, quorum_wait_ms=1000, first_merge="average"
)


def fingerprint(number: int) -> bytes:
    return bytes([number + 1]) * 32


def secrets_in(data_dir: Path) -> dict[Path, int]:
    """The files that hold a key or a password, with their modes."""
    paths = [path for name in ("account.key", "eth/password", "eth/keystore/*") for path in data_dir.glob(name)]
    return {path: stat.S_IMODE(path.stat().st_mode) for path in paths}


def check_in(name: str, round_number: int = 1, base: int = 0) -> CheckInCall:
    return CheckInCall(round_number, base, name, b"d" * 32, 1000, b"l" * 32, 100, False, "host-a", 30305)


async def register(network: NetworkGateway, number: int) -> None:
    await network.register_member(f"sl-{number}", "sl", "host", 30305, fingerprint(number), "sn-1")


class ChainConformance:
    """Each chain subclasses this in two lines."""

    choice: Choice

    @pytest.fixture
    def data_dir(self, tmp_path: Path) -> Path:
        return tmp_path / "sn"

    @pytest.fixture
    async def backend(self, data_dir: Path) -> AsyncIterator[ChainBackend]:
        chain = await open_chain(self.choice, data_dir)
        yield chain
        await chain.close()

    @pytest.fixture
    async def network(self, backend: ChainBackend) -> NetworkGateway:
        return await NetworkGateway.deploy(backend)

    @pytest.fixture
    async def training(self, backend: ChainBackend, network: NetworkGateway) -> TrainingReader:
        return await TrainingReader.deploy(backend, network.address)

    # --- writing ------------------------------------------------------------------------------------

    async def test_what_a_transaction_wrote_is_read_back(self, backend: ChainBackend) -> None:
        network = await NetworkGateway.deploy(backend, "sn-1", (Founding("hospital-a", (fingerprint(9),)),))
        assert await network.organizations() == [OrganizationEntry("hospital-a", (fingerprint(9),), 1, held=True)]
        before = await network.chain.block_number()

        receipt = await network.register_member("sl-a", "sl", "host-a", 30305, fingerprint(1), "sn-1", "hospital-a")

        assert receipt.block == await network.chain.block_number() > before
        assert receipt.gas_used > 21_000
        found = [Member("sl-a", "sl", "host-a", 30305, fingerprint(1), "sn-1", True, "hospital-a")]
        assert await network.members() == found
        assert await network.member_named("sl", "sl-a") == (await network.members())[0]

    async def test_the_account_that_deploys_may_write_and_can_let_others(self, network: NetworkGateway) -> None:
        other = "0x" + "ab" * 20

        await network.add_sn_account(other, "sn-2")

        assert await network.is_sn(network.chain.account)
        assert await network.is_sn(other)
        await network.remove_sn_account(network.chain.account)
        with pytest.raises(NotARegisteredSN) as refused:
            await register(network, 1)
        assert refused.value.facts["account"].lower() == network.chain.account.lower()

    async def test_a_refused_transaction_raises_the_class_of_the_contracts_error(
        self, training: TrainingReader
    ) -> None:
        await training.enrol("sl-a", fingerprint(1), True, CONFIG)
        differing = TrainingConfig(2, 32, "mean", False, 1000)

        with pytest.raises(ConfigurationDiffers) as refused:
            await training.enrol("sl-b", fingerprint(2), True, differing)
        assert refused.value.facts == {"field": "syncFrequency", "given": "32", "agreed": "16"}
        with pytest.raises(NameTaken):
            await training.enrol("sl-a", fingerprint(3), True, CONFIG)
        with pytest.raises(StaleRound) as stale:
            await training.check_in(check_in("sl-a", round_number=7))
        assert stale.value.facts == {"given": 7, "current": 1}
        with pytest.raises(MalformedCall):
            await training.enrol("", fingerprint(3), True, CONFIG)

    async def test_a_refused_read_raises_it_too(self, network: NetworkGateway) -> None:
        with pytest.raises(NotAMember) as refused:
            await network.member_named("sl", "nobody")
        assert refused.value.facts == {"name": "nobody"}

    async def test_reading_where_no_contract_stands_says_so(self, backend: ChainBackend) -> None:
        with pytest.raises(ChainError, match="no contract"):
            await NetworkGateway.at(backend, "0x" + "cd" * 20).members()

    async def test_many_writes_at_once_take_effect_in_the_order_they_were_made(self, network: NetworkGateway) -> None:
        await asyncio.gather(*(register(network, number) for number in range(30)))

        assert [member.name for member in await network.members()] == [f"sl-{number}" for number in range(30)]

    async def test_a_refused_write_among_many_stops_none_of_the_others(self, network: NetworkGateway) -> None:
        outcomes = await asyncio.gather(
            register(network, 0), network.mark_member_left("sl", "nobody", ""), register(network, 1),
            return_exceptions=True,
        )  # fmt: skip

        assert [type(outcome) for outcome in outcomes] == [type(None), NotAMember, type(None)]
        assert len(await network.members()) == 2

    async def test_a_caller_that_gives_up_leaves_the_chain_usable(self, network: NetworkGateway) -> None:
        abandoned = asyncio.create_task(register(network, 0))
        following = asyncio.create_task(register(network, 1))
        await asyncio.wait([asyncio.create_task(network.chain.block_number())])
        abandoned.cancel()

        await following
        await register(network, 2)

        assert {"sl-1", "sl-2"} <= {member.name for member in await network.members()}

    async def test_a_text_of_fifty_thousand_characters_is_kept_whole(self, network: NetworkGateway) -> None:
        await register(network, 0)
        reason = "because " * 6250

        await network.mark_member_left("sl", "sl-0", reason)

        assert (await network.events())[-1].reason == reason  # type: ignore[attr-defined]

    async def test_a_transaction_too_long_for_the_chain_is_refused_in_words(self, network: NetworkGateway) -> None:
        await register(network, 0)

        with pytest.raises(ChainError, match="too long"):
            await network.mark_member_left("sl", "sl-0", "x" * 200_000)

        await register(network, 1)

    # --- reading ------------------------------------------------------------------------------------

    async def test_the_directory_of_contracts_finds_by_name(self, network: NetworkGateway) -> None:
        await network.register_contract("defaultbb", "training", network.address)

        assert await network.contract_named("defaultbb") == network.address
        assert await network.contract_named("another") is None
        assert [entry.kind for entry in await network.contracts()] == ["training"]

    async def test_pages_of_many_members_join_into_one_list(self, network: NetworkGateway) -> None:
        await asyncio.gather(*(register(network, number) for number in range(101)))

        assert len(await network.members()) == 101

    async def test_a_round_runs_to_its_result(self, training: TrainingReader) -> None:
        for number, name in enumerate(("sl-a", "sl-b")):
            await training.enrol(name, fingerprint(number), True, CONFIG)
        await asyncio.gather(training.check_in(check_in("sl-a")), training.check_in(check_in("sl-b")))
        merging, checked_in = await training.status(), await training.check_ins(1)
        leader = (await training.participants())[merging.leader].name

        await training.publish(1, merging.term, leader, b"r" * 32, 1000, [])
        await training.report(1, "sl-a", 0.125, float("nan"), 1, 3)
        await training.report(1, "sl-b", float("-inf"), None, 1, 3)

        now, participants, result = await training.status(), await training.participants(), await training.result(1)
        assert merging.state == RoundState.MERGE
        assert [entry.digest for entry in checked_in] == [b"d" * 32] * 2
        assert (now.state, now.round, now.last_accepted) == (RoundState.CHECKIN, 2, 1)
        assert result is not None and (result.digest, result.size) == (b"r" * 32, 1000)
        assert {participants[entry.participant].name for entry in await training.check_ins(1)} == {"sl-a", "sl-b"}
        assert await training.check_ins(2) == []
        assert (participants[0].loss, participants[0].report_round) == (0.125, 1)
        assert participants[0].metric != participants[0].metric
        assert (participants[1].loss, participants[1].metric) == (float("-inf"), None)
        assert await training.result(2) is None

    async def test_an_earlier_block_can_still_be_read(self, training: TrainingReader) -> None:
        await training.enrol("sl-a", fingerprint(0), True, CONFIG)
        block = await training.chain.block_number()
        await training.enrol("sl-b", fingerprint(1), True, CONFIG)

        assert (await training.status(block)).active_count == 1
        assert (await training.status()).active_count == 2

    # --- events -------------------------------------------------------------------------------------

    async def test_events_come_back_as_plain_data_in_order(
        self, network: NetworkGateway, training: TrainingReader
    ) -> None:
        await register(network, 0)
        await network.register_contract("defaultbb", "training", training.address)
        await training.enrol("sl-0", fingerprint(0), True, CONFIG)
        await training.check_in(check_in("sl-0"))

        directory, rounds = await network.events(), await training.events()

        assert [type(event) for event in directory][2:] == [MemberRegistered, ContractRegistered]
        assert isinstance(directory[2], MemberRegistered)
        assert (directory[2].role, directory[2].fingerprint) == ("sl", fingerprint(0))
        assert [type(event) for event in rounds] == [Configured, Enrolled, LayoutAgreed, CheckedIn]
        assert isinstance(rounds[0], Configured)
        assert rounds[0].config == CONFIG
        assert sorted(event.position for event in rounds) == [event.position for event in rounds]
        assert await training.events(rounds[-1].position.block) == rounds[-2:]
        assert await training.events(rounds[-1].position.block + 1) == []

    async def test_a_follower_misses_nothing_and_sees_nothing_twice(self, network: NetworkGateway) -> None:
        await asyncio.gather(*(register(network, number) for number in range(5)))
        follower = network.follow()
        seen: list[str] = []

        async def follow() -> None:
            async for event in follower:
                if isinstance(event, MemberRegistered):
                    seen.append(event.name)
                if len(seen) == 15:
                    return

        following = asyncio.create_task(follow())
        await asyncio.gather(*(register(network, number) for number in range(5, 15)))
        async with asyncio.timeout(DEADLINE_S):
            await following
        await follower.aclose()

        assert seen == [f"sl-{number}" for number in range(15)]

    async def test_events_reach_subscribers_of_their_contract_only(
        self, network: NetworkGateway, training: TrainingReader
    ) -> None:
        with training.chain.subscribe(training.address) as subscription:
            await register(network, 0)
            await training.enrol("sl-0", fingerprint(0), True, CONFIG)
            async with asyncio.timeout(DEADLINE_S):
                first = await anext(subscription)

        assert first.address == training.address

    async def test_losses_keep_every_bit(self, training: TrainingReader) -> None:
        await self.test_a_round_runs_to_its_result(training)

        await training.report(1, "sl-b", 0.1, -1e-300, 2, 3)

        report = (await training.events())[-1]
        assert isinstance(report, Reported)
        assert (report.loss, report.metric) == (0.1, -1e-300)

    # --- life ---------------------------------------------------------------------------------------

    async def test_a_reopened_chain_has_its_state_its_events_and_its_account(
        self, backend: ChainBackend, network: NetworkGateway, data_dir: Path
    ) -> None:
        await register(network, 0)
        events, block = await network.events(), await backend.block_number()
        await backend.close()

        async with await open_chain(self.choice, data_dir) as again:
            reopened = NetworkGateway.at(again, network.address)
            assert (again.account, again.chain_id) == (backend.account, backend.chain_id)
            assert await again.block_number() == block
            assert await reopened.events() == events
            await register(reopened, 1)
            assert [member.name for member in await reopened.members()] == ["sl-0", "sl-1"]

    async def test_auto_keeps_to_the_chain_that_is_there(self, backend: ChainBackend, data_dir: Path) -> None:
        await backend.close()

        async with await open_chain("auto", data_dir) as again:
            assert again.kind == backend.kind

    async def test_subscriptions_end_with_the_chain(self, backend: ChainBackend, network: NetworkGateway) -> None:
        subscription = backend.subscribe(network.address)
        await backend.close()

        async with asyncio.timeout(DEADLINE_S):
            assert [log async for log in subscription] == []

    async def test_a_closed_chain_takes_no_transactions(self, backend: ChainBackend, network: NetworkGateway) -> None:
        await backend.close()

        with pytest.raises(ChainError):
            await register(network, 0)

    async def test_the_accounts_key_is_for_its_owner_only(self, backend: ChainBackend, data_dir: Path) -> None:
        modes = secrets_in(data_dir)

        assert modes[data_dir / "account.key"] == 0o600
        assert set(modes.values()) == {0o600}

    async def test_a_data_directory_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        with pytest.raises(StorageError, match="file"):
            await open_chain(self.choice, tmp_path / "file" / "sn")


class TestEmbedded(ChainConformance):
    choice = "embedded"

    async def test_what_was_acknowledged_survives_without_an_orderly_end(
        self, network: NetworkGateway, data_dir: Path, tmp_path: Path
    ) -> None:
        await register(network, 0)
        shutil.copytree(data_dir, tmp_path / "as-a-crash-leaves-it")

        async with await open_chain("embedded", tmp_path / "as-a-crash-leaves-it") as again:
            assert await NetworkGateway.at(again, network.address).members() == await network.members()

    def test_a_full_disk_refuses_the_block_and_leaves_the_chain_as_it_was(self, data_dir: Path) -> None:
        account, abi = Account.load_or_create(data_dir / "account.key"), contract_abi("SwarmNetwork")
        code = abi.bytecode + abi.constructor.encode("sn-1", [""], [[]], [[]])
        evm = EmbeddedEvm(data_dir / "chain.sqlite", account)
        evm._store._sql.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of space

        with pytest.raises(StorageError, match="full"):
            evm.mine([(None, code)])
        assert evm.block_number == 0

        evm._store._sql.execute("PRAGMA max_page_count = 1000000")
        (receipt,) = evm.mine([(None, code)])
        assert isinstance(receipt, Receipt)
        assert evm.block_number == receipt.block == 1
        evm.close()


@pytest.mark.needs("geth")
class TestGeth(ChainConformance):
    choice = "geth"

    @staticmethod
    def pid(data_dir: Path) -> int:
        return int((data_dir / "eth" / "geth.pid").read_text())

    async def test_a_killed_geth_comes_back_and_nothing_is_lost_or_done_twice(
        self, network: NetworkGateway, data_dir: Path
    ) -> None:
        await asyncio.gather(*(register(network, number) for number in range(5)))
        follower = network.follow()
        writes = [asyncio.create_task(register(network, number)) for number in range(5, 35)]
        await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        killed = self.pid(data_dir)
        os.kill(killed, signal.SIGKILL)
        writes += [asyncio.create_task(register(network, number)) for number in range(35, 40)]

        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*writes)
            seen = []
            async for event in follower:
                if isinstance(event, MemberRegistered):
                    seen.append(event.name)
                if len(seen) == 40:
                    break
        await follower.aclose()

        names = [f"sl-{number}" for number in range(40)]
        assert self.pid(data_dir) != killed
        assert [member.name for member in await network.members()] == names
        assert seen == names

    async def test_reads_wait_for_a_geth_that_is_being_restarted(self, network: NetworkGateway, data_dir: Path) -> None:
        await register(network, 0)
        os.kill(self.pid(data_dir), signal.SIGTERM)

        async with asyncio.timeout(DEADLINE_S):
            reads = await asyncio.gather(*(network.members() for _ in range(5)))

        assert [len(members) for members in reads] == [1] * 5

    async def test_a_geth_that_outlived_its_sn_is_replaced(self, data_dir: Path) -> None:
        async with await open_chain("geth", data_dir) as chain:
            network = await NetworkGateway.deploy(chain)
        orphaned = GethProcess(data_dir, Account.load_or_create(data_dir / "account.key"))
        await orphaned.start()

        async with await open_chain("geth", data_dir) as again:
            await register(NetworkGateway.at(again, network.address), 0)

        assert await orphaned.exited() is not None
        await orphaned.stop()

    async def test_a_path_too_long_for_a_socket_works(self, tmp_path: Path) -> None:
        async with await open_chain("geth", tmp_path / ("long" * 30) / "sn") as chain:
            await NetworkGateway.deploy(chain)

    async def test_its_log_is_kept_across_restarts(self, backend: ChainBackend, data_dir: Path) -> None:
        await backend.close()
        before = (data_dir / "log" / "geth.log").read_bytes()

        async with await open_chain("geth", data_dir):
            pass

        after = (data_dir / "log" / "geth.log").read_bytes()
        assert after.startswith(before)
        assert b"IPC endpoint opened" in after[len(before) :]

    async def test_without_geth_it_says_how_to_get_one(self, tmp_path: Path, without_geth: None) -> None:
        with pytest.raises(GethNotFound, match="make setup"):
            await open_chain("geth", tmp_path)

    @pytest.mark.parametrize("step", ["init", "mine"])
    async def test_a_geth_that_fails_at_start_shows_its_last_lines(
        self, tmp_path: Path, step: str, geth_stub: Callable[[str], None]
    ) -> None:
        geth_stub(f'case "$*" in *{step}*) echo "Fatal: no such chain"; exit 3;; esac')

        with pytest.raises(GethFailed, match=r"exit code 3.*Fatal: no such chain"):
            await open_chain("geth", tmp_path)


@pytest.fixture
def without_geth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binary, "BUILT_HERE", tmp_path / "none")


@pytest.fixture
def geth_stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in geth's place."""

    def write(script: str) -> None:
        stub = tmp_path / "bin" / "geth"
        stub.parent.mkdir()
        stub.write_text(f"#!/bin/sh\n{script}\n")
        stub.chmod(0o755)
        monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")

    return write
