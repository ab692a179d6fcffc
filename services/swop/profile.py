"""The profile of a SWOP: what its host offers to tasks, in the documented schema."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from services.tasks.definition import AbsolutePath, Line, Variable
from services.tasks.document import read_document
from services.tasks.validation import Schema, validate

MAX_PORT = 65535

Host = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Port = Annotated[int, Field(ge=1, le=MAX_PORT)]
Text = Annotated[str, StringConstraints(max_length=1024)]
Labels = dict[str, str] | list[str]


def _single(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) != 1:
        raise ValueError("one option: value is needed in each entry of the list")
    return value


Option = Annotated[dict[str, str | int | bool | None], AfterValidator(_single)]


class AccessInfo(Schema):
    """How to reach the runtime. FROMENV: by DOCKER_HOST or the default socket; SOCKET: by ``socket``."""

    access_type: Literal["FROMENV", "SOCKET"] = Field(alias="accesstype")
    socket: AbsolutePath | None = None


class ResourceManager(Schema):
    kind: Literal["DOCKER", "PODMAN", "PROCESS"] = Field(alias="mgrtype")
    access: AccessInfo = Field(alias="accessinfo")


class LicenseLocator(Schema):
    host: Host
    port: Port | None


class ProfileLicense(Schema):
    locator: LicenseLocator


class ApiLocator(Schema):
    host: Host | None
    port: Port | None = None
    service: Host | None


class ApiServer(Schema):
    locator: ApiLocator


class Attribute(Schema):
    """A file of an SL's identity: where it is on the host, and where the SL finds it."""

    kind: Literal["KEY", "CERT", "CACERT", "CAPATH", "SPIFFE_SOCKETPATH", "KEYPASSPHRASE"] = Field(alias="aType")
    mount: Literal["BIND", "VOLUME"] = Field(alias="mType")
    source: Annotated[str, StringConstraints(min_length=2, max_length=240)] = Field(alias="src")
    target: Annotated[str, StringConstraints(min_length=2, max_length=240)] = Field(alias="tgt")
    subpath: Line | None = Field(None, alias="subPath")


class IdentityFile(Schema):
    attribute: Attribute


class PrivateData(Schema):
    """A directory or volume of this host, mounted into one ML program at the task's PrivateContent."""

    source: Line = Field(alias="src")
    mount: Literal["BIND", "VOLUME"] = Field(alias="mType")


class NodeDefinition(Schema):
    """One pair of an SL and an ML program."""

    index: Annotated[int, Field(ge=0, le=9999)] = Field(alias="idx")
    identity: list[IdentityFile] = Field(max_length=10)
    sl_host_ip: Host | None = Field(None, alias="slhostip")
    sl_port: Port | None = Field(None, alias="slport")
    sl_fs_service: Host | None = Field(None, alias="slfsservice")
    sl_hostname: Text | None = Field(alias="slhostname")
    private_data: PrivateData | None = Field(alias="privatedata")
    sl_env: list[Variable] | None = Field(alias="slenvvars")
    sl_labels: Labels | None = Field(None, alias="sllabels")
    sl_network_options: list[Option] | None = Field(None, alias="slnetworkopts")
    ml_hostname: Text | None = Field(alias="usrhostname")
    ml_env: list[Variable] | None = Field(alias="usrenvvars")
    ml_labels: Labels | None = Field(None, alias="usrlabels")
    ml_network_options: list[Option] | None = Field(None, alias="usrnetworkopts")
    ml_options: list[Option] | None = Field(None, alias="usrcontaineropts")


class ProfileNode(Schema):
    definition: NodeDefinition = Field(alias="slnodedef")


class LocalImage(Schema):
    """For the executor PROCESS: the Python interpreter of this host to use in place of an image."""

    image: Line
    python: AbsolutePath


class Profile(Schema):
    """What a host offers to tasks. ``images``: only for the executor PROCESS."""

    group: Line = Field(alias="groupname")
    runner: Line = Field(alias="taskrunner")
    policy: Line | None = Field(None, alias="policyuri")
    resource_manager: ResourceManager = Field(alias="resourcemgr")
    network: Line
    license: ProfileLicense = Field(alias="apls")
    api_server: ApiServer = Field(alias="apisrv")
    env: list[Variable] | None = Field(None, alias="envvars")
    dns: list[Host] | None = None
    images: list[LocalImage] | None = None
    nodes: Annotated[list[ProfileNode], Field(min_length=1, max_length=1000)]

    @property
    def definitions(self) -> list[NodeDefinition]:
        """The pairs, in the order of their idx."""
        return sorted((node.definition for node in self.nodes), key=lambda definition: definition.index)

    @model_validator(mode="after")
    def _one_of_each_index(self) -> "Profile":
        indexes = [node.definition.index for node in self.nodes]
        if len(set(indexes)) < len(indexes):
            twice = next(index for index in indexes if indexes.count(index) > 1)
            raise ValueError(f"idx {twice} is given to two nodes; each needs one of its own")
        return self


def read_profile(path: Path) -> Profile:
    """Raises FileUnreadable for a file that cannot be read, DocumentUnusable with file, line and key path."""
    return validate(read_document(path, path.name), Profile)
