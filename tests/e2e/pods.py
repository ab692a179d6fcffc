"""Runs the pods of rendered objects of Kubernetes by Docker, as a kubelet would.

Volumes belong to root and the pod's group, files of secrets are links that the group may read, a pod's containers share
one network and one /dev/shm, services are names, and a container that fails starts again.
"""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from helm_chart import Rendered

from examples.digits.compose_swarm import docker, run

# Stricter than a kubelet is by default, as some sites are: no eventfd, pidfd, memfd or vmsplice. geth needs eventfd.
STRICT = Path(__file__).with_name("strict-seccomp.json")

WITHIN_S = 240.0
ASK_EVERY_S = 0.5


class Cluster:
    """The pods of one release, with its volumes in ``directory``. ``named``: files by secret or config map,
    and key.
    """

    def __init__(self, rendered: Rendered, directory: Path, named: dict[str, dict[str, Path]]) -> None:
        self._rendered, self._directory, self._named = rendered, directory, named
        self._name = f"swarm-pods-{os.getpid()}"
        self._containers: list[str] = []

    async def start(self) -> None:
        """All at once, as Kubernetes does."""
        await docker("network", "create", self._name)
        async with asyncio.TaskGroup() as group:
            for found in self._rendered.objects:
                if "template" in found["spec"]:
                    group.create_task(self._start(found))

    async def end(self) -> None:
        """Nothing is left of it."""
        if self._containers:
            await docker("rm", "--force", "--volumes", *self._containers)
        await docker("network", "rm", self._name)

    async def succeeded(self, *components: str) -> None:
        """Returns when all containers of these pods have ended well; each may have failed before."""
        await self._until("{{.State.Status}} {{.State.ExitCode}}", "exited 0", *components)

    async def ready(self, component: str) -> None:
        """Returns when the readiness probe of this pod's container has succeeded."""
        await self._until("{{.State.Health.Status}}", "healthy", component)

    async def _until(self, asked: str, answer: str, *components: str) -> None:
        names = [name for name in self._containers if any(f"-{component}-" in name for component in components)]
        try:
            async with asyncio.timeout(WITHIN_S):
                while set((await docker("inspect", "--format", asked, *names)).splitlines()) != {answer}:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.Event().wait(), ASK_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"{components} never came to be '{answer}':\n{await self._said()}") from None

    async def _said(self) -> str:
        """The last lines of each container."""
        script = 'for name; do echo "--- $name"; docker logs --tail 40 "$name" 2>&1; done'
        return await run("sh", "-c", script, "sh", *self._containers)

    async def _start(self, found: dict[str, Any]) -> None:
        labels, pod = found["spec"]["template"]["metadata"]["labels"], found["spec"]["template"]["spec"]
        claims = found["spec"].get("volumeClaimTemplates", [])
        volumes = {claim["metadata"]["name"]: self._volume(found, claim["metadata"]["name"], pod) for claim in claims}
        for volume in pod["volumes"]:
            volumes[volume["name"]] = self._source(found, volume, pod)
        sandbox = ""
        for container in pod["containers"]:
            name = f"{self._name}-{labels['app.kubernetes.io/component']}-{container['name']}"
            self._containers.append(name)
            words = ["--network", f"container:{sandbox}", "--ipc", f"container:{sandbox}"] if sandbox else [
                "--network", self._name, "--ipc", "shareable", *self._aliases(labels),
            ]  # fmt: skip
            await docker("run", "--detach", "--name", name, *words, *_options(pod, container, volumes))
            sandbox = sandbox or name

    def _aliases(self, labels: dict[str, str]) -> list[str]:
        services = [
            found for found in self._rendered.of("Service") if found["spec"]["selector"].items() <= labels.items()
        ]
        return [word for found in services for word in ("--network-alias", f"{found['metadata']['name']}.default.svc")]

    def _source(self, found: dict[str, Any], volume: dict[str, Any], pod: dict[str, Any]) -> Path:
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        made = self._volume(found, volume["name"], pod)
        if "secret" in volume or "configMap" in volume:
            name = volume["secret"]["secretName"] if "secret" in volume else volume["configMap"]["name"]
            data = made / "..data"
            data.mkdir()
            for key, file in self._named[name].items():
                shutil.copyfile(file, data / key)
                os.chown(data / key, 0, pod["securityContext"]["fsGroup"])
                (data / key).chmod(volume["secret"]["defaultMode"] if "secret" in volume else 0o644)
                (made / key).symlink_to(f"..data/{key}")
        return made

    def _volume(self, found: dict[str, Any], name: str, pod: dict[str, Any]) -> Path:
        made = self._directory / f"{found['metadata']['name']}-{name}"
        made.mkdir()
        os.chown(made, 0, pod["securityContext"]["fsGroup"])
        made.chmod(0o2775)
        return made


def _options(pod: dict[str, Any], container: dict[str, Any], volumes: dict[str, Path]) -> list[str]:
    """Everything of `docker run` behind the network: options, image, program."""
    user, limits = pod["securityContext"], container["securityContext"]
    words = [
        "--restart",
        "on-failure",
        "--user",
        f"{user['runAsUser']}:{user['runAsGroup']}",
        "--group-add",
        str(user["fsGroup"]),
    ]
    words += [word for name in limits["capabilities"]["drop"] for word in ("--cap-drop", name)]
    words += ["--security-opt", f"seccomp={STRICT}"] if container["name"] != "sn" else []
    words += ["--read-only"] if limits["readOnlyRootFilesystem"] else []
    words += [] if limits["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges:true"]
    words += [word for pair in container["env"] for word in ("--env", f"{pair['name']}={pair['value']}")]
    for mount in container["volumeMounts"]:
        kind = ",readonly" if mount.get("readOnly") else ""
        words += ["--mount", f"type=bind,source={volumes[mount['name']]},target={mount['mountPath']}{kind}"]
    if "readinessProbe" in container:
        *shell, check = container["readinessProbe"]["exec"]["command"]
        assert shell == ["sh", "-c"]
        words += ["--health-cmd", check, "--health-interval", "1s"]
    program = [*container.get("command", []), *container.get("args", [])]
    return [*words, *(["--entrypoint", program[0]] if program else []), container["image"], *program[1:]]
