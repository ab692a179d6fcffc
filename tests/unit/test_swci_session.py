"""What a session holds: contexts, and files that lie in the usr-dir and nowhere else."""

from pathlib import Path, PurePosixPath

import pytest

from services.errors import (
    ContextNameTaken,
    FileUnusable,
    NoContext,
    OutsideUsrDir,
    TooManyContexts,
    UnknownContext,
    UnknownVariable,
)
from services.swci import contexts as of_session
from services.swci.contexts import SnContext, SnContexts
from services.swci.usr_dir import FILE_LIMIT_BYTES, ROOT, UsrDir


def context(name: str) -> SnContext:
    return SnContext(name, "h", 30304, "", "h:30304")


@pytest.fixture
def usr(tmp_path: Path) -> UsrDir:
    (tmp_path / "usr" / "taskdefs").mkdir(parents=True)
    (tmp_path / "usr" / "taskdefs" / "run.yaml").write_text("Name: größe\n")
    (tmp_path / "secret").write_text("secret")
    return UsrDir(tmp_path / "usr")


def test_the_first_context_is_active_until_another_one_is_switched_to() -> None:
    contexts = SnContexts()
    with pytest.raises(NoContext):
        contexts.named()
    contexts.add(context("a"))
    contexts.add(context("b"))
    assert contexts.named().name == "a"
    contexts.switch("b")
    assert contexts.named().name == "b"
    assert [it.name for it in contexts] == ["a", "b"]
    with pytest.raises(UnknownContext, match="there is a, b"):
        contexts.switch("c")
    with pytest.raises(ContextNameTaken, match="already a context a, for h:30304"):
        contexts.add(context("a"))


def test_variables_belong_to_one_context_of_one_session() -> None:
    contexts = SnContexts()
    contexts.add(context("a"))
    contexts.set_variable(None, "V", "1")
    other = contexts.copy()
    other.set_variable("a", "V", "2")
    assert contexts.variable("a", "V")[1] == "1"
    with pytest.raises(UnknownVariable, match="has no variable W; it has V"):
        contexts.variable(None, "W")


def test_a_session_keeps_no_endless_number_of_contexts() -> None:
    contexts = SnContexts()
    for number in range(of_session.LIMIT):
        contexts.add(context(f"c{number}"))
    with pytest.raises(TooManyContexts):
        contexts.add(context("one-more"))


def test_the_documented_directory_is_the_usr_dir(usr: UsrDir, tmp_path: Path) -> None:
    assert usr.at == ROOT == PurePosixPath("/platform/swarm/usr")
    assert usr.enter("/platform/swarm/usr/taskdefs") == ROOT / "taskdefs"
    assert usr.read_text("run.yaml") == "Name: größe\n"
    assert usr.enter("..") == ROOT
    assert usr.enter(str(tmp_path / "usr" / "taskdefs")) == ROOT / "taskdefs"
    assert usr.read_text("/platform/swarm/usr/taskdefs/run.yaml") == "Name: größe\n"
    assert [path.name for path in usr.entries(".")] == ["run.yaml"]


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../secret", "taskdefs/../../secret", "/platform/swarm/usr/../x",
                                  "link", "linked/secret", "~/x/../../.."])  # fmt: skip
def test_no_path_leads_out_of_the_usr_dir(usr: UsrDir, tmp_path: Path, path: str) -> None:
    (tmp_path / "usr" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "usr" / "linked").symlink_to(tmp_path)
    for use in (usr.read_text, usr.enter, usr.entries):
        with pytest.raises(OutsideUsrDir, match="lies outside of the usr-dir"):
            use(path)


def test_a_file_that_cannot_be_used_is_named_with_the_reason(usr: UsrDir, tmp_path: Path) -> None:
    (tmp_path / "usr" / "latin.yaml").write_bytes("Name: a\nAuthor: größe\n".encode("latin-1"))
    (tmp_path / "usr" / "large.yaml").write_bytes(b"x" * (10 << 20))
    (tmp_path / "usr" / "loop").symlink_to("loop")
    problems = {
        "none.yaml": "it is not there",
        "taskdefs": "it is a directory",
        "latin.yaml": "it is not UTF-8 text (line 2)",
        "large.yaml": f"it is larger than {FILE_LIMIT_BYTES} bytes",
        "loop": "",
        "nul\x00": "",
        "x" * 5000: "",
    }
    for path, problem in problems.items():
        with pytest.raises(FileUnusable) as refused:
            usr.read_text(path)
        assert problem in str(refused.value)
    with pytest.raises(FileUnusable, match="it is not a directory"):
        usr.enter("latin.yaml")
    with pytest.raises(FileUnusable, match="it is not there"):
        usr.enter("none")
