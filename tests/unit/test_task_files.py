# ruff: noqa: E501  # sentences are compared whole
"""Files of users: accepted as documented, and refused in a sentence with file, line, key path and what is allowed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.errors import CredentialsInTask, DocumentUnusable, FileUnreadable
from services.swop.executors.spec import Owner
from services.swop.pairs import PairPlacement, pair
from services.swop.profile import Profile, read_profile
from services.tasks.definition import BODIES, MakeUserContainer, RunSwarm, TaskDefinition, check_body, read_task
from services.tasks.document import parse
from services.tasks.validation import validate

RUN = """\
Name: swarm_mnist_task
TaskType: RUN_SWARM
Author: HPESwarm
Prereq: user_env_tf_build_task
Outcome: swarm_mnist_task
Body:
  Command: model/mnist_tf.py
  Entrypoint: python3
  WorkingDir: /tmp/test
  Envvars:
  - DATA_DIR: app-data
  - MAX_EPOCHS: 2
  - EMPTY: ""
  - UNSET: ~
  PrivateContent: /tmp/test/
  SharedContent:
  - Src: /opt/hpe/swarm-learning/workspace/mnist/model
    Tgt: /tmp/test/model
    MType: BIND
"""
BUILD = """\
Name: user_env_tf_build_task
TaskType: MAKE_USER_CONTAINER
Author: HPESwarm
Prereq: ROOTTASK
Outcome: user-env-tf2.7.0-swop
Body:
  BuildContext: sl-cli-lib
  BuildType: INLINE
  BuildSteps:
  - FROM tensorflow/tensorflow:2.7.0
  - ' '
  - RUN pip3 install --upgrade pip && pip3 install keras matplotlib
  - COPY swarmlearning-client-py3-none-manylinux_2_24_x86_64.whl ./
"""
PULL = """\
Name: pull
TaskType: PULL_IMAGE
Author: A
Prereq: ROOTTASK
Outcome: x
Body: {Tag: '1', RepoName: r, OrgAndReg: hub/o, Auth: ~}
"""
CONTENT = """\
Name: content
TaskType: MAKE_SWARM_USER_CONTENT
Author: A
Prereq: ROOTTASK
Outcome: vol
Body:
  ContentType: BUILDCONTENT
  OpsList:
  - Operation: DOWNLOAD
    Target: https://example.org/a.tgz
    Options:
    - Out: a.tgz
"""
PROFILE = """\
groupname: mnist-swop
taskrunner: defaulttaskbb.taskdb.sml.hpe
policyuri: ~
resourcemgr:
  mgrtype: DOCKER
  accessinfo:
    accesstype: FROMENV
network: host-1-net
apls:
  locator:
    host: 172.1.1.1
    port: 5814
apisrv:
  locator:
    host: 172.1.1.1
    port: 30304
    service: ~
envvars:
- SL_WAIT_FOR_FULL_QUORUM_SECONDS: 120
- http_proxy: ~
nodes:
- slnodedef:
    idx: 0
    identity:
    - attribute:
        aType: KEY
        mType: BIND
        src: /opt/cert/sl-1-key.pem
        tgt: /swarm-cert/sl-1-key.pem
        subPath: ~
    - attribute:
        aType: CERT
        mType: BIND
        src: /opt/cert/sl-1-cert.pem
        tgt: /swarm-cert/sl-1-cert.pem
    slhostname: sl1
    slhostip: 172.1.1.1
    slport: 16000
    usrhostname: user1
    privatedata:
      src: /opt/app-data-1
      mType: BIND
    slenvvars: ~
    usrenvvars: ~
    usrcontaineropts:
    - gpus: all
"""


def read(text: str) -> Any:
    """A task, or a profile, as the text says."""
    if text.startswith("groupname") or "\nnodes:" in text:
        return validate(parse(text, "profile.yaml"), Profile)
    return read_task(text, "task.yaml")


@pytest.mark.parametrize("text", [RUN, BUILD, PULL, CONTENT], ids=["run", "build", "pull", "content"])
def test_a_task_in_the_documented_schema_is_accepted_and_its_body_comes_back(text: str) -> None:
    task = read_task(text, "task.yaml")
    assert isinstance(task, TaskDefinition)
    assert yaml.safe_load(task.body_text) == yaml.safe_load(text)["Body"]
    assert check_body(task.header.task_type, task.body_text) == task.body


def test_not_set_and_empty_are_two_things() -> None:
    task = read_task(RUN, "task.yaml")
    assert isinstance(task.body, RunSwarm)
    assert task.body.envvars is not None
    assert task.body.envvars[2:] == [{"EMPTY": ""}, {"UNSET": None}]


def test_long_lines_and_other_scripts_are_no_trap() -> None:
    step = "RUN echo " + "é" * 3000
    task = read_task(BUILD.replace("- ' '", f"- {step}"), "task.yaml")
    assert isinstance(task.body, MakeUserContainer)
    assert step in task.body.build_steps
    assert step in task.body_text


def test_the_documented_profile_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "swop_profile.yaml"
    path.write_text(PROFILE)
    profile = read_profile(path)
    (node,) = profile.definitions
    assert (profile.group, node.sl_port, node.sl_hostname) == ("mnist-swop", 16000, "sl1")
    assert profile.env == [{"SL_WAIT_FOR_FULL_QUORUM_SECONDS": 120}, {"http_proxy": None}]


def test_an_sl_of_a_profile_finds_the_passphrase_of_its_key() -> None:
    file = {"aType": "KEYPASSPHRASE", "mType": "BIND", "src": "/opt/cert/passphrase", "tgt": "/swarm-cert/passphrase"}
    given = yaml.safe_load(PROFILE)
    given["nodes"][0]["slnodedef"]["identity"].append({"attribute": file})
    profile = read(yaml.safe_dump(given, sort_keys=False))
    place = PairPlacement("swop-1", profile.runner, 1, Owner(1000, 1000), "swarm-learning/sl", sn="sn:1", license="l:1")
    sl = pair(profile, profile.definitions[0], read(RUN), "user-ml", place).sl
    assert sl.environment["SWARM_ID_KEY_PASSPHRASE_FILE"] == file["tgt"]
    mounted = {mount.target: (mount.source, mount.read_only) for mount in sl.mounts}
    assert mounted[file["tgt"]] == (file["src"], True)


def test_a_profile_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match="No such file"):
        read_profile(tmp_path / "none.yaml")


@pytest.mark.parametrize("auth", ["{Username: u, Password: p}", "{token: t}"])
def test_credentials_never_get_near_the_chain(auth: str) -> None:
    with pytest.raises(CredentialsInTask, match=r"line 6.*docker login") as refused:
        read_task(PULL.replace("Auth: ~", f"Auth: {auth}"), "task.yaml")
    assert "Password" not in str(refused.value)


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


BROKEN: list[tuple[str, Callable[[], str | bytes], str]] = [
    ("not_utf8", lambda: RUN.encode().replace(b"HPESwarm", b"HPE\xff"), "task.yaml, line 3: file: byte 0xff is not UTF-8; save the file as UTF-8."),
    ("not_yaml", lambda: edited(RUN, "Author: HPESwarm", "Author: [HPESwarm"), "task.yaml, line 4: file: this is not YAML: "),
    ("tab", lambda: edited(RUN, "  Entrypoint", "\tEntrypoint"), "task.yaml, line 8: file: this is not YAML: "),
    ("control", lambda: edited(RUN, "HPESwarm", "HPE\x00"), "task.yaml, line 1: file: this is not YAML: special characters are not allowed"),
    ("empty", lambda: "", "task.yaml, line 1: file: ~ (not set) stands here, but keys and values are needed: Name, TaskType, Author, Prereq, Outcome, Body."),
    ("list", lambda: "- a\n", "task.yaml, line 1: file: a list stands here, but keys and values are needed: Name,"),
    ("text", lambda: "hello\n", "task.yaml, line 1: file: 'hello' stands here, but keys and values are needed: Name,"),
    ("large", lambda: RUN + "#" * (1024 * 1024), "task.yaml, line 1: file: the file has more than 1,048,576 bytes"),
    ("two", lambda: RUN + "---\n" + RUN, "task.yaml, line 20: file: this is not YAML: but found another document."),
    ("deep", lambda: edited(RUN, "HPESwarm", "[" * 30 + "]" * 30), "nested deeper than 20 levels."),
    ("anchor", lambda: edited(RUN, "HPESwarm", "&a x"), "task.yaml, line 3: file: 'a' refers to another part of the file; write the value out."),
    ("alias", lambda: edited(RUN, "HPESwarm", "*a"), "task.yaml, line 3: file: 'a' refers to another part of the file; write the value out."),
    ("tag", lambda: edited(RUN, "HPESwarm", "!!python/object/apply:os.system [x]"), "task.yaml, line 3: Author: a list stands here, but text is needed (put it in quotes)."),
    ("own_tag", lambda: edited(RUN, "HPESwarm", "!secret x"), "task.yaml, line 3: Author: the tag !secret is not allowed; write a plain value."),
    ("binary", lambda: edited(RUN, "HPESwarm", "!!binary aGk="), "task.yaml, line 3: Author: the tag tag:yaml.org,2002:binary is not allowed; write a plain value."),
    ("twice", lambda: edited(RUN, "Author: HPESwarm", "Name: other"), "task.yaml, line 3: Name: this key stands here twice."),
    ("key_number", lambda: edited(RUN, "Author: HPESwarm", "5: x"), "task.yaml, line 3: file: the key 5 is not a word."),
    ("unknown_key", lambda: edited(RUN, "Author: HPESwarm", "Auther: HPESwarm"), "task.yaml, line 3: Auther: this key is not known; perhaps Author is meant."),
    ("unknown_far", lambda: edited(RUN, "Author: HPESwarm", "Zzz: 1\nAuthor: A"), "task.yaml, line 3: Zzz: this key is not known; allowed are Name, TaskType, Author, Prereq, Outcome, Body."),
    ("missing", lambda: edited(RUN, "Author: HPESwarm\n", ""), "task.yaml, line 1: Author: this key is missing."),
    ("type", lambda: edited(RUN, "RUN_SWARM", "BUILD_SWARM"), "task.yaml, line 2: TaskType: 'BUILD_SWARM' stands here, but it must be 'RUN_SWARM', 'MAKE_USER_CONTAINER', 'PULL_IMAGE' or 'MAKE_SWARM_USER_CONTENT'."),
    ("number", lambda: edited(RUN, "Author: HPESwarm", "Author: 5"), "task.yaml, line 3: Author: 5 stands here, but text is needed (put it in quotes)."),
    ("no_name", lambda: edited(RUN, "Name: swarm_mnist_task", "Name: ''"), "task.yaml, line 1: Name: '' stands here, but at least 1 character is needed."),
    ("long_name", lambda: edited(RUN, "Name: swarm_mnist_task", "Name: " + "n" * 129), "stands here, but at most 128 characters are allowed."),
    ("line_in_name", lambda: edited(RUN, "Name: swarm_mnist_task", 'Name: "a\\nb"'), "but only printable characters are allowed."),
    ("body_text", lambda: edited(PULL, "Body: {Tag: '1', RepoName: r, OrgAndReg: hub/o, Auth: ~}", "Body: x"), "task.yaml, line 6: Body: 'x' stands here, but keys and values are needed."),
    ("body_missing", lambda: edited(RUN, "  Entrypoint: python3\n", ""), "task.yaml, line 7: Body.Entrypoint: this key is missing."),
    ("relative", lambda: edited(RUN, "WorkingDir: /tmp/test", "WorkingDir: tmp"), "task.yaml, line 9: Body.WorkingDir: 'tmp' stands here, but an absolute path without '..' is needed."),
    ("dots", lambda: edited(RUN, "Tgt: /tmp/test/model", "Tgt: /tmp/../etc"), "task.yaml, line 18: Body.SharedContent[0].Tgt: '/tmp/../etc' stands here, but an absolute path without '..' is needed."),
    ("mount", lambda: edited(RUN, "MType: BIND", "MType: NFS"), "task.yaml, line 19: Body.SharedContent[0].MType: 'NFS' stands here, but it must be 'BIND' or 'VOLUME'."),
    ("two_variables", lambda: edited(RUN, "- MAX_EPOCHS: 2", "- A: 1\n    B: 2"), "task.yaml, line 12: Body.Envvars[1]: a mapping stands here, but one NAME: value is needed in each entry of the list."),
    ("variable_name", lambda: edited(RUN, "MAX_EPOCHS", "MAX EPOCHS"), "task.yaml, line 12: Body.Envvars[1]: a mapping stands here, but 'MAX EPOCHS' is not the name of a variable"),
    ("variables_mapping", lambda: edited(CONTENT, "    Options:\n    - Out: a.tgz", "    Options: {Out: a.tgz}"), "task.yaml, line 11: Body.OpsList[0].Options: a mapping stands here, but a list is needed."),
    ("build_steps", lambda: edited(BUILD, "  - FROM tensorflow/tensorflow:2.7.0\n", "  - 5\n"), "task.yaml, line 10: Body.BuildSteps[0]: 5 stands here, but text is needed (put it in quotes)."),
    ("build_type", lambda: edited(BUILD, "INLINE", "REMOTE"), "task.yaml, line 8: Body.BuildType: 'REMOTE' stands here, but it must be 'INLINE'."),
    ("volume", lambda: edited(BUILD, "sl-cli-lib", "../lib"), "task.yaml, line 7: Body.BuildContext: '../lib' stands here, but "),
    ("operation", lambda: edited(CONTENT, "DOWNLOAD", "RUN"), "task.yaml, line 9: Body.OpsList[0].Operation: 'RUN' stands here, but it must be 'DOWNLOAD' or 'EXTRACT'."),
    ("manager", lambda: edited(PROFILE, "mgrtype: DOCKER", "mgrtype: K8S"), "profile.yaml, line 5: resourcemgr.mgrtype: 'K8S' stands here, but it must be 'DOCKER', 'PODMAN' or 'PROCESS'."),
    ("port", lambda: edited(PROFILE, "slport: 16000", "slport: 70000"), "profile.yaml, line 38: nodes[0].slnodedef.slport: 70000 stands here, but at most 65535 is needed."),
    ("port_text", lambda: edited(PROFILE, "port: 5814", "port: '5814'"), "profile.yaml, line 12: apls.locator.port: '5814' stands here, but a whole number is needed."),
    ("profile_key", lambda: edited(PROFILE, "slhostname: sl1", "slhostnam: sl1"), "profile.yaml, line 36: nodes[0].slnodedef.slhostnam: this key is not known; perhaps slhostname is meant."),
    ("no_nodes", lambda: PROFILE[: PROFILE.index("nodes:")] + "nodes: []\n", "profile.yaml, line 21: nodes: a list stands here, but at least 1 entry is needed."),
    ("attribute", lambda: edited(PROFILE, "aType: CERT", "aType: PEM"), "profile.yaml, line 32: nodes[0].slnodedef.identity[1].attribute.aType: 'PEM' stands here, but it must be 'KEY', 'CERT',"),
    ("option", lambda: edited(PROFILE, "- gpus: all", "- gpus: [0]"), "profile.yaml, line 46: nodes[0].slnodedef.usrcontaineropts[0].gpus: a list stands here, but "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_file_is_refused_in_one_sentence(text: Callable[[], str | bytes], sentence: str) -> None:
    content = text()
    with pytest.raises(DocumentUnusable) as refused:
        read(content) if isinstance(content, str) else read_task(content, "task.yaml")
    said = str(refused.value)
    assert sentence in said
    assert len(said) < 400
    assert said.endswith("Correct the file and try again.")


def test_there_are_forty_of_them() -> None:
    assert len(BROKEN) >= 40


def test_the_published_schemas_are_json_schema(request: pytest.FixtureRequest) -> None:
    directory = request.config.rootpath / "docs" / "schemas"
    names = {path.name.removesuffix(".schema.json") for path in directory.glob("*.json")}
    assert names == {"profile", "policy", "project", *(str(kind).lower().replace("_", "-") for kind in BODIES)}
    for path in directory.glob("*.json"):
        assert json.loads(path.read_text())["additionalProperties"] is False
