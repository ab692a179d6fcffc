# ruff: noqa: E501, S108  # a row a case; paths inside of containers
"""What a host runs for others: hostile tasks and profiles are refused, each with its reason; usual ones are not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.errors import DocumentUnusable, FileUnreadable, MountEscapes, PolicyUnusable
from services.swop.executors.spec import Image, Mount, MountKind, ResourceLimits
from services.swop.image_names import ImageName, allowed
from services.swop.policy import Host, TaskRequest, decide
from services.swop.policy_file import ACCEPTS_AS_DOCUMENTED, Policy, read_policy
from services.swop.policy_mounts import confined
from services.swop.profile import Profile
from services.tasks.definition import SharedMount, check_body

ADA = bytes(range(32))
GOOD, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
RUN: dict[str, Any] = {
    "Command": "model/train.py", "Entrypoint": "python3", "WorkingDir": "/tmp/test", "Envvars": [{"MAX_EPOCHS": 2}],
    "PrivateContent": "/data", "SharedContent": None,
}  # fmt: skip
BUILD: dict[str, Any] = {
    "BuildContext": "sl-cli-lib", "BuildType": "INLINE",
    "BuildSteps": ["FROM tensorflow/tensorflow:2.7.0", "RUN pip install keras", "COPY client.whl ./"],
}  # fmt: skip
PULL: dict[str, Any] = {"Tag": "1", "RepoName": "trainer", "OrgAndReg": "hub.example.org/team", "Auth": None}
CONTENT: dict[str, Any] = {
    "ContentType": "BUILDCONTENT",
    "OpsList": [{"Operation": "DOWNLOAD", "Target": "https://example.org/a.tgz", "Options": [{"Out": "a.tgz"}]}],
}
TYPES = {"run": "RUN_SWARM", "build": "MAKE_USER_CONTAINER", "pull": "PULL_IMAGE", "content": "MAKE_SWARM_USER_CONTENT"}
BODIES = {"run": RUN, "build": BUILD, "pull": PULL, "content": CONTENT}


def policy(**lists: Any) -> Policy:
    return Policy.model_validate(lists)


def host(*options: dict[str, Any]) -> Host:
    node = {
        "idx": 0, "identity": [], "slhostname": None, "privatedata": {"src": "/opt/data", "mType": "BIND"},
        "slenvvars": None, "usrhostname": None, "usrenvvars": None, "usrcontaineropts": list(options) or None,
    }  # fmt: skip
    profile = {
        "groupname": "g", "taskrunner": "t", "policyuri": None, "network": "n",
        "resourcemgr": {"mgrtype": "DOCKER", "accessinfo": {"accesstype": "FROMENV"}},
        "apls": {"locator": {"host": "a", "port": None}}, "apisrv": {"locator": {"host": "s", "service": None}},
        "nodes": [{"slnodedef": node}],
    }  # fmt: skip
    return Host(Profile.model_validate(profile), ("swarm-learning/sl:latest",), ("/srv/swop", "/var/run/docker.sock"))


def request(kind: str, changes: dict[str, Any] | None = None, **facts: Any) -> TaskRequest:
    body = check_body(TYPES[kind], yaml.safe_dump({**BODIES[kind], **(changes or {})}))
    usual: dict[str, Any] = {
        "registrant": "swci/ada",
        "fingerprint": ADA,
        "outcome": "user-env",
        "image_name": "user-env",
    }
    real = {"/srv/shared": "/srv/shared", "/srv/shared/model": "/srv/shared/model"}
    usual["image"] = Image("user-env", GOOD, ("hub.example.org/team/trainer@" + GOOD,))
    return TaskRequest(**{"name": kind, "body": body, "real_paths": real, **usual, **facts})


def bind(source: str, target: str = "/model") -> dict[str, Any]:
    return {"SharedContent": [{"Src": source, "Tgt": target, "MType": "BIND"}]}


def volume(name: str) -> dict[str, Any]:
    return {"SharedContent": [{"Src": name, "Tgt": "/model", "MType": "VOLUME"}]}


def env(*names: str) -> dict[str, Any]:
    return {"Envvars": [{name: "x"} for name in names]}


def steps(*lines: str) -> dict[str, Any]:
    return {"BuildSteps": ["FROM tensorflow/tensorflow:2.7.0", *lines]}


def download(address: str, out: str = "a") -> dict[str, Any]:
    return {"OpsList": [{"Operation": "DOWNLOAD", "Target": address, "Options": [{"Out": out}]}]}


SHARED = policy(bindsources=["/srv/shared"])
NO_RULES = ACCEPTS_AS_DOCUMENTED


@pytest.mark.parametrize("kind", list(BODIES))
def test_usual_tasks_run_without_a_policy(kind: str) -> None:
    assert decide(NO_RULES, request(kind), host({"gpus": "all"})) == ()


@pytest.mark.parametrize("kind", list(BODIES))
def test_a_policy_that_names_everything_lets_usual_tasks_run(kind: str) -> None:
    strict = policy(
        authors=["swci/ada"],
        tasktypes=list(TYPES.values()),
        images=["user-env", "tensorflow/tensorflow:2.*", "hub.example.org/team/*@" + GOOD],
        entrypoints=["python3"],
        envvars=["MAX_*"],
        volumes=["sl-cli-lib", "user-*"],
        downloads=["https://example.org/*"],
        gpus=["0", "1"],
    )
    assert decide(strict, request(kind), host({"gpus": "device=0,1"})) == ()


HOSTILE: list[tuple[str, Policy, TaskRequest, str]] = [
    # paths
    ("bind_without_policy", NO_RULES, request("run", bind("/")), "it mounts / of this host, whose policy allows nothing"),
    ("bind_outside", SHARED, request("run", bind("/etc")), "it mounts /etc of this host, whose policy allows /srv/shared"),
    ("bind_sibling", SHARED, request("run", bind("/srv/shared2")), "it mounts /srv/shared2"),
    ("bind_dots", SHARED, request("run", bind("/srv/shared/../../etc")), "not an absolute path without '..'"),
    ("bind_relative", SHARED, request("run", bind("srv/shared")), "not an absolute path without '..'"),
    ("bind_home", SHARED, request("run", bind("~/.ssh")), "not an absolute path without '..'"),
    ("bind_slashes", SHARED, request("run", bind("//etc//passwd")), "it mounts //etc//passwd"),
    ("bind_link", SHARED, request("run", bind("/srv/shared/x"), real_paths={"/srv/shared": "/srv/shared", "/srv/shared/x": "/etc"}), "a link in /srv/shared/x leads to /etc, out of /srv/shared"),
    ("bind_unseen", SHARED, request("run", bind("/srv/shared/x"), real_paths={"/srv/shared": None, "/srv/shared/x": None}), "cannot be seen from this SWOP"),
    ("bind_socket", policy(bindsources=["/var/run"]), request("run", bind("/var/run/docker.sock"), real_paths={p: p for p in ("/var/run", "/var/run/docker.sock")}), "holds files of the SWOP itself"),
    ("bind_above_keys", policy(bindsources=["/srv"]), request("run", bind("/srv"), real_paths={"/srv": "/srv"}), "holds files of the SWOP itself"),
    ("bind_linked_to_keys", policy(bindsources=["/"]), request("run", bind("/home/x"), real_paths={"/": "/", "/home/x": "/srv/swop/key.pem"}), "holds files of the SWOP itself"),
    ("bind_as_volume", NO_RULES, request("run", volume("/etc")), "'/etc' is not the name of a volume"),
    ("volume_dots", NO_RULES, request("run", volume("../../etc")), "is not the name of a volume"),
    ("volume_of_swop", NO_RULES, request("run", volume("swop-g-sl-0-abc")), "belongs to the SWOP"),
    ("volume_other", policy(volumes=["data-*"]), request("run", volume("postgres")), "the volume postgres is not allowed here"),
    ("target_pipes", SHARED, request("run", bind("/srv/shared", "/tmp/hpe-swarm")), "nothing can be mounted at /tmp/hpe-swarm"),
    ("target_root", NO_RULES, request("run", {"PrivateContent": "/"}), "nothing can be mounted at /"),
    ("target_proc", NO_RULES, request("run", {"PrivateContent": "/proc/x"}), "nothing can be mounted at /proc/x"),
    ("target_twice", SHARED, request("run", bind("/srv/shared", "/data/")), "two of its mounts have the same target"),
    # environment
    ("env_pipe", NO_RULES, request("run", env("SL_REQUEST_CHANNEL")), "the variable SL_REQUEST_CHANNEL is set by the SWOP alone"),
    ("env_key", NO_RULES, request("run", env("SWARM_ID_KEY")), "the variable SWARM_ID_KEY is set by the SWOP alone"),
    ("env_gpus", NO_RULES, request("run", env("NVIDIA_VISIBLE_DEVICES")), "the variable NVIDIA_VISIBLE_DEVICES is set by the SWOP alone"),
    ("env_docker", NO_RULES, request("run", env("DOCKER_HOST")), "the variable DOCKER_HOST is set by the SWOP alone"),
    ("env_unlisted", policy(envvars=["MAX_*"]), request("run", env("MIN_PEERS")), "the variable MIN_PEERS is not allowed here"),
    ("env_preload", NO_RULES, request("run", env("LD_PRELOAD")), "the variable LD_PRELOAD would change which code a program runs"),
    ("env_preload_star", policy(entrypoints=["python3"], envvars=["*"]), request("run", env("PYTHONPATH")), "the variable PYTHONPATH would change which code a program runs"),
    # options
    ("image_option", NO_RULES, request("run", image_name="--privileged"), "'--privileged' is not the name of an image"),
    ("image_words", NO_RULES, request("run", image_name="a -v /:/x"), "is not the name of an image"),
    ("tag_option", NO_RULES, request("pull", {"Tag": "1 --all-tags"}), "is not the name of an image"),
    ("repository_dots", NO_RULES, request("pull", {"RepoName": "../../x"}), "is not the name of an image"),
    ("registry_scheme", NO_RULES, request("pull", {"OrgAndReg": "http://x"}), "is not the name of an image"),
    ("outcome_option", NO_RULES, request("build", outcome="-t"), "'-t' is not the name of an image"),
    ("content_volume", NO_RULES, request("content", outcome="/etc"), "'/etc' is not the name of a volume"),
    ("quotes", NO_RULES, request("run", {"Command": "train.py 'x"}), "its Entrypoint or Command cannot be read: no closing quotation"),
    ("entrypoint", policy(entrypoints=["python3"]), request("run", {"Entrypoint": "/bin/sh -c"}), "the entrypoint '/bin/sh -c' is not allowed here"),
    ("entrypoint_more", policy(entrypoints=["python3"]), request("run", {"Entrypoint": "python3 -i"}), "the entrypoint 'python3 -i' is not allowed here"),
    # images
    ("other_digest", policy(images=["user-env@" + OTHER]), request("run"), f"the image user-env:latest (now {GOOD}) is not allowed here"),
    ("other_content", policy(images=[OTHER]), request("run"), "is not allowed here"),
    ("other_image", policy(images=["user-env"]), request("run", image_name="evil/user-env"), "the image evil/user-env:latest"),
    ("pull_other", policy(images=["hub.example.org/team/*"]), request("pull", {"OrgAndReg": "evil.example.org/team"}), "the image evil.example.org/team/trainer:1 is not allowed here"),
    ("run_the_sl", NO_RULES, request("run", image_name="swarm-learning/sl"), "which would be run as a training program"),
    ("replace_the_sl", NO_RULES, request("build", outcome="docker.io/swarm-learning/sl:latest"), "which the task would replace"),
    ("pull_the_sl", NO_RULES, request("pull", {"OrgAndReg": "docker.io/swarm-learning", "RepoName": "sl", "Tag": "latest"}), "which the task would replace"),
    ("replace_another", NO_RULES, request("build", outcome="postgres", replaced=Image("postgres:latest", OTHER)), "there is an image postgres here that no task made"),
    # builds
    ("from_other", policy(images=["user-env"]), request("build"), "the image tensorflow/tensorflow:2.7.0 is not allowed here"),
    ("from_variable", policy(images=["user-env", "tensorflow/*"]), request("build", {"BuildSteps": ["ARG B=evil", "FROM $B"]}), "which is known only while it is built"),
    ("from_split", policy(images=["user-env", "tensorflow/*"]), request("build", steps("FROM \\", "evil")), "the image evil:latest is not allowed here"),
    ("from_word_split", policy(images=["user-env", "tensorflow/*"]), request("build", steps("FR\\", "OM evil")), "the image evil:latest is not allowed here"),
    ("from_behind_comment", policy(images=["user-env", "tensorflow/*"]), request("build", steps("FROM \\", "# x", " ", "evil")), "the image evil:latest is not allowed here"),
    ("from_number", policy(images=["user-env", "tensorflow/*"]), request("build", {"BuildSteps": ["FROM 0"]}), "the image 0:latest is not allowed here"),
    ("copy_from", policy(images=["user-env", "tensorflow/*"]), request("build", steps("COPY --from=evil /x /x")), "the image evil:latest is not allowed here"),
    ("mount_from", policy(images=["user-env", "tensorflow/*"]), request("build", steps("RUN --mount=type=bind,from=evil,target=/x ls")), "the image evil:latest is not allowed here"),
    ("onbuild", policy(images=["user-env", "tensorflow/*"]), request("build", steps("ONBUILD COPY --from=evil /x /x")), "the image evil:latest is not allowed here"),
    ("copy_the_sl", NO_RULES, request("build", steps("COPY --from=swarm-learning/sl:latest / /")), "which a build would start from"),
    ("step_lines", NO_RULES, request("build", steps("RUN x\nFROM evil")), "build step 2 has several lines"),
    ("syntax", NO_RULES, request("build", {"BuildSteps": ["# syntax=evil/frontend", "FROM x"]}), "has the directive 'syntax'"),
    ("escape", NO_RULES, request("build", {"BuildSteps": ["#escape=`", "FROM x"]}), "has the directive 'escape'"),
    ("insecure", NO_RULES, request("build", steps("RUN --security=insecure mount")), "asks for privileges"),
    ("host_network", NO_RULES, request("build", steps("RUN --network=host x")), "asks for the network of the host"),
    ("host_keys", NO_RULES, request("build", steps("run --mount=type=ssh git clone x")), "asks for keys of this host"),
    ("add", policy(downloads=["https://example.org/*"]), request("build", steps("ADD http://169.254.169.254/x /x")), "downloads from 'http://169.254.169.254/x' are not allowed here"),
    ("context", policy(volumes=["data-*"]), request("build"), "the volume sl-cli-lib is not allowed here"),
    # content
    ("file_address", NO_RULES, request("content", download("file:///etc/passwd")), "is not an address of the web"),
    ("path_address", NO_RULES, request("content", download("/etc/passwd")), "is not an address of the web"),
    ("password_address", NO_RULES, request("content", download("https://u:p@x/a")), "the address of a download on x has a user name or password in it"),
    ("out", NO_RULES, request("content", download("https://x/a", "../a")), "Out leads out of the volume"),
    ("out_absolute", NO_RULES, request("content", download("https://x/a", "/etc/a")), "Out leads out of the volume"),
    ("extract", NO_RULES, request("content", {"OpsList": [{"Operation": "EXTRACT", "Target": "../a.tgz", "Options": None}]}), "EXTRACT leads out of the volume"),
    # who and what
    ("author", policy(authors=["swci/ada"]), request("run", registrant="swci/eve"), "it was registered by swci/eve, who is not among the authors"),
    ("author_pattern", policy(authors=["swci/ada"]), request("run", registrant="swci/ada-2"), "who is not among the authors"),
    ("same_name_other_key", policy(authors=["sha256:" + ADA.hex()]), request("run", fingerprint=bytes(32)), "who is not among the authors"),
    ("type", policy(tasktypes=["RUN_SWARM"]), request("build"), "tasks of type MAKE_USER_CONTAINER are not allowed here"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "task", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_hostile_task_is_refused_with_its_reason(rules: Policy, task: TaskRequest, reason: str) -> None:
    assert any(reason in said for said in decide(rules, task, host()))


@pytest.mark.parametrize(
    ("options", "rules", "reason"),
    [
        ([{"privileged": True}], NO_RULES, "'privileged: True'"),
        ([{"privileged": "true"}], NO_RULES, "'privileged: true'"),
        ([{"cap-add": "SYS_PTRACE"}], NO_RULES, "'cap-add: SYS_PTRACE'"),
        ([{"security-opt": "seccomp=unconfined"}], NO_RULES, "'security-opt: seccomp=unconfined'"),
        ([{"ipc": "host"}], NO_RULES, "'ipc: host'"),
        ([{"device": "/dev/sda"}], NO_RULES, "hands out the device /dev/sda"),
        ([{"device": "/dev/dri/../sda"}], NO_RULES, "hands out the device /dev/dri/../sda"),
        ([{"device": "/dev/dri"}], policy(gpus=[]), "hands out the GPU /dev/dri"),
        ([{"gpus": "all"}], policy(gpus=[]), "hands out GPUs (all)"),
        ([{"gpus": "all"}], policy(gpus=["0"]), "the policy allows 0"),
        ([{"gpus": "2"}], policy(gpus=["0"]), "the policy allows 0"),
        ([{"gpus": "device=0,3"}], policy(gpus=["0"]), "the policy allows 0"),
    ],
)  # fmt: skip
def test_power_over_the_host_is_refused_unless_the_policy_says_so(
    options: list[dict[str, Any]], rules: Policy, reason: str
) -> None:
    assert any(reason in said for said in decide(rules, request("run"), host(*options)))
    everything = policy(privileged=["privileged", "cap-add", "security-opt", "ipc", "device"])
    assert decide(everything, request("run"), host(*options)) == ()


def test_amd_gpus_and_harmless_options_need_no_word_of_a_policy() -> None:
    options: list[dict[str, Any]] = [
        {"device": "/dev/kfd"}, {"device": "/dev/dri"}, {"shm-size": "8g"}, {"group-add": "video"}, {"ipc": "private"},
        {"security-opt": "no-new-privileges"}, {"privileged": False},
    ]  # fmt: skip
    assert decide(NO_RULES, request("run"), host(*options)) == ()


def test_all_reasons_are_told_at_once() -> None:
    rules = policy(authors=["swci/ada"], entrypoints=["python3"])
    reasons = decide(rules, request("run", {"Entrypoint": "sh"}, registrant="swci/eve"), host())
    assert len(reasons) == 2


def test_an_image_that_a_task_made_may_be_made_again() -> None:
    made = Image("user-env:latest", OTHER, labels={"swarm.task": "build"})
    assert decide(NO_RULES, request("build", replaced=made), host()) == ()
    foreign = Image("user-env:latest", OTHER)
    assert decide(policy(images=["user-env", "tensorflow/*"]), request("build", replaced=foreign), host()) == ()


# --- mounts ------------------------------------------------------------------------------------------


def shared(source: str) -> SharedMount:
    return SharedMount.model_validate({"Src": source, "Tgt": "/model", "MType": "BIND"})


def test_an_allowed_source_is_mounted_as_a_part_of_what_the_policy_names() -> None:
    rules = policy(bindsources=["/srv", "/srv/shared:ro"])
    assert confined(rules, shared("/srv/shared/a/b")) == Mount(
        MountKind.BIND, "/srv/shared", "/model", read_only=True, subpath="a/b", seen_here=True
    )
    rest = Mount(MountKind.BIND, "/srv", "/model", seen_here=True)
    assert confined(rules, shared("/srv/other")) == replace(rest, subpath="other")
    assert confined(rules, shared("/srv")) == rest
    with pytest.raises(MountEscapes, match="/etc"):
        confined(rules, shared("/etc"))


@given(parts=st.lists(st.sampled_from(["..", ".", "", "srv", "shared", "a", "~", "shared2", "*"]), max_size=8))
def test_whatever_is_allowed_lies_below_a_directory_of_the_policy(parts: list[str]) -> None:
    source = "/" + "/".join(parts)
    task = request("run", bind(source), real_paths={source: source, "/srv/shared": "/srv/shared"})
    if decide(SHARED, task, host()) == ():
        mount = confined(SHARED, shared(source))
        assert mount.source == "/srv/shared"
        assert ".." not in (mount.subpath or "").split("/")


# --- names of images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "means"),
    [
        ("python", "python", True),
        ("python", "docker.io/library/python:3.11", True),
        ("docker.io/library/python", "python", True),
        ("python:3.*", "python:3.11", True),
        ("python:3.*", "python:2.7", False),
        ("python", "evil/python", False),
        ("python", "evil.example.org/python", False),
        ("*/python", "evil.example.org/python", True),
        ("localhost:5000/x", "localhost:5000/x:1", True),
        ("localhost:5000/x:2", "localhost:5000/x:1", False),
        ("python:3.11", f"python:3.11@{GOOD}", False),
        (f"python@{GOOD}", f"python:3.11@{GOOD}", True),
        (f"python:3.11@{GOOD}", f"python@{GOOD}", True),
        (f"python@{GOOD}", f"python@{OTHER}", False),
        (f"python@{GOOD}", f"other@{GOOD}", False),
        (GOOD, f"other@{GOOD}", True),
    ],
)
def test_a_pattern_means_the_images_that_it_names(pattern: str, name: str, means: bool) -> None:
    assert allowed([pattern], ImageName.parse(name)) is means


@given(text=st.text(max_size=40))
def test_no_name_of_an_image_is_an_option_or_a_path(text: str) -> None:
    try:
        parsed = str(ImageName.parse(text))
    except ValueError as error:
        assert "not the name of an image" in str(error)
    else:
        assert not parsed.startswith(("-", "/", "."))
        assert ".." not in parsed and parsed.isascii() and not any(character.isspace() for character in parsed)


# --- the file ----------------------------------------------------------------------------------------


def test_a_policy_is_a_file_next_to_the_profile_or_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("approval: every\nmaxmemory: 16g\nmaxminutes: 90\nmaxprocesses: 100\n")
    for uri in ("policy.yaml", str(tmp_path / "policy.yaml"), (tmp_path / "policy.yaml").as_uri()):
        rules = read_policy(uri, tmp_path)
        assert rules.approval == "every"
        assert rules.limits == ResourceLimits(16 << 30, 100)
        assert rules.max_seconds == 5400.0
    assert read_policy(None, tmp_path) == ACCEPTS_AS_DOCUMENTED
    assert ACCEPTS_AS_DOCUMENTED.limits == ResourceLimits() and ACCEPTS_AS_DOCUMENTED.max_seconds is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("author: [swci/a]", "line 1: author: this key is not known; perhaps authors is meant."),
        ("authors: swci/a", "line 1: authors: 'swci/a' stands here, but a list is needed."),
        ("authors: [Ada]", "line 1: authors[0]: 'Ada' stands here, but an author is swci/NAME, admin/NAME or sha256:"),
        ("tasktypes: [RUN]", "line 1: tasktypes[0]: 'RUN' stands here, but it must be 'RUN_SWARM',"),
        ("\nbindsources: [data]", "line 2: bindsources[0]: 'data' stands here, but an absolute path without '..' is"),
        ("bindsources: [/a/../b]", "line 1: bindsources[0]: '/a/../b' stands here, but an absolute path without '..'"),
        ("maxmemory: lots", "line 1: maxmemory: 'lots' stands here, but a size such as 512m or 16g is needed."),
        ("maxminutes: 0", "line 1: maxminutes: 0 stands here, but at least 1 is needed."),
        ("approval: ask", "line 1: approval: 'ask' stands here, but it must be 'none' or 'every'."),
        ("gpus: [0]", "line 1: gpus[0]: 0 stands here, but text is needed (put it in quotes)."),
        ("privileged: [all]", "line 1: privileged[0]: 'all' stands here, but it must be 'privileged', 'cap-add',"),
        ("- a", "line 1: file: a list stands here, but keys and values are needed: authors, tasktypes,"),
    ],
)
def test_a_broken_policy_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(DocumentUnusable) as refused:
        read_policy("policy.yaml", tmp_path)
    assert f"policy.yaml, {sentence}" in str(refused.value)


def test_a_policy_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(PolicyUnusable, match=r"the file is empty; \{\} is a policy"):
        read_policy("empty.yaml", tmp_path)
    with pytest.raises(FileUnreadable, match="No such file"):
        read_policy("none.yaml", tmp_path)
    for uri in ("https://example.org/policy", "file://other-host/policy"):
        with pytest.raises(PolicyUnusable, match="only a file of this host"):
            read_policy(uri, tmp_path)
