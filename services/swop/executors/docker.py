"""The executor DOCKER: a Docker Engine, reached by its socket."""

from typing import Any

from services.swop.executors.container_config import gpus_of
from services.swop.executors.containers import ContainerExecutor
from services.swop.executors.engine import DOCKER
from services.swop.executors.spec import NodeSpec


class DockerExecutor(ContainerExecutor):
    kind = "DOCKER"
    engine = DOCKER

    def host_config(self, spec: NodeSpec) -> dict[str, Any]:
        config: dict[str, Any] = {"Init": True}
        if spec.devices.gpus:
            count, names = gpus_of(spec.devices.gpus, self.kind)
            request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
            config["DeviceRequests"] = [request | ({"DeviceIDs": list(names)} if names else {"Count": count})]
        return config
