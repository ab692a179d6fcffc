"""The Helm chart: its objects are valid, its nodes accept their settings, its pods have only the rights they need."""

import json
import re
from typing import Any

import kubernetes_validate
import pytest
from helm_chart import NEWEST, ROOT, Rendered, helm

from services.license_server.settings import LicenseServerSettings
from services.runtime.settings import NodeSettings
from services.sl.settings import SLSettings
from services.sn.settings import SNSettings
from services.swci.settings import SWCISettings
from swarm_callback.session import REQUEST_VARIABLE, RESPONSE_VARIABLE

EXAMPLE = ("--values", str(ROOT / "kubernetes" / "example-values.yaml"))
# The default begins a swarm, the example joins one; the last sets all options that are off in both.
DATABASE = (
    "--set",
    "licenseServer.databaseSecret.name=postgresql",
    "--set",
    "licenseServer.settings.SWARM_LOG_LEVEL=DEBUG,identity.caConfigMap=flu-cas",
)
NODE_PORTS = tuple(
    word
    for node in ("sn", "swci", "licenseServer")
    for word in ("--set", f"{node}.service.type=NodePort,{node}.nodeSelector.disk=ssd")
)
VALUES = {"default": (), "example": EXAMPLE, "more": DATABASE + NODE_PORTS}
OLDEST = "1.25"
NODES: dict[str, type[NodeSettings]] = {
    "sn": SNSettings, "license-server": LicenseServerSettings, "swci": SWCISettings, "sl": SLSettings,
}  # fmt: skip

pytestmark = pytest.mark.needs("helm")


@pytest.fixture(scope="module", params=VALUES)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return Rendered.by(*VALUES[request.param])


@pytest.fixture(scope="module")
def example() -> Rendered:
    return Rendered.by(*EXAMPLE)


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The variables with values in the chart."""
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def settings(container: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings that the node reads from its variables."""
    node = container["name"]
    with monkeypatch.context() as patch:
        for name, value in environment(container).items():
            patch.setenv(name, value)
        return NODES[node].load(node, {})


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_finds_nothing_to_complain_of(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", *values)
    assert done.returncode == 0 and "WARNING" not in done.stdout, done.stdout + done.stderr


def test_kubernetes_knows_every_field(rendered: Rendered) -> None:
    kinds = {"StatefulSet", "Deployment", "Service", "NetworkPolicy"}
    assert kinds <= {found["kind"] for found in rendered.objects}
    for found in rendered.objects:
        for version in (OLDEST, NEWEST):
            assert kubernetes_validate.validate(found, version, strict=True) == version


def test_names_are_unique_and_not_too_long(rendered: Rendered) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in rendered.objects]
    assert len(set(names)) == len(names) and max(len(name) for _, name in names) <= 63


def test_no_secret_stands_in_what_is_rendered(rendered: Rendered) -> None:
    assert rendered.of("Secret") == [] and rendered.of("ConfigMap") == []
    assert "PRIVATE KEY" not in rendered.text and "BEGIN CERTIFICATE" not in rendered.text
    written = {name for container in rendered.containers() for name in environment(container)}
    assert [name for name in written if re.search("PASSWORD|TOKEN|SECRET|DATABASE", name)] == []
    for pod in rendered.pods():
        identity = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "identity")
        assert identity["secret"]["secretName"].startswith("flu-") and identity["secret"]["defaultMode"] == 0o440


def test_every_variable_is_one_that_its_node_accepts(rendered: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [container for container in rendered.containers() if container["name"] in NODES]
    assert nodes
    for container in nodes:
        names = {variable["name"] for variable in container["env"]}
        assert names <= NODES[container["name"]].variables(), container["name"]
        read = settings(container, monkeypatch)
        mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert (read.cacert is None) != (read.trust is None)
        for path in (read.cert, read.key, read.cacert or read.trust, read.data_dir):
            assert any(str(path).startswith(mount) for mount in mounted), f"{container['name']} does not find {path}"


def test_every_pod_has_the_trust_file_with_what_it_names(example: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {container["name"] for container in example.containers() if "SWARM_ID_TRUST" in environment(container)} == {
        "sn", "swci", "sl",
    }  # fmt: skip
    for pod in example.pods():
        volume = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "trust")
        assert volume["configMap"] == {"name": "flu-trust"}
        node = next(container for container in pod["spec"]["containers"] if container["name"] in NODES)
        assert {"name": "trust", "mountPath": "/trust", "readOnly": True} in node["volumeMounts"]
        assert str(settings(node, monkeypatch).trust) == "/trust/trust.yaml"


def test_a_passphrase_of_keys_comes_from_the_same_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = Rendered.by("--set", "identity.keyPassphrase=passphrase")
    nodes = [container for container in rendered.containers() if container["name"] in NODES]
    assert nodes
    for container in nodes:
        assert str(settings(container, monkeypatch).key_passphrase_file) == "/identity/passphrase"


def test_nodes_of_the_default_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = Rendered.by("--namespace", "hospital")
    services = {f"{found['metadata']['name']}.hospital.svc": found["spec"]["ports"] for found in rendered.of("Service")}
    sn, swci = (settings(rendered.container(name), monkeypatch) for name in ("sn", "swci"))
    assert sn.sentinel and sn.license_servers == swci.license_servers == ["flu-license-server.hospital.svc:5814"]
    assert sn.api == ("flu-sn.hospital.svc", 30304) and swci.first_context.address == "flu-sn.hospital.svc:30304"
    assert services["flu-license-server.hospital.svc"][0]["port"] == 5814
    assert [port["port"] for port in services["flu-sn.hospital.svc"]] == [sn.api[1], sn.p2p[1]]


@pytest.mark.parametrize(("given", "found_with"), [("", "own"), (",sn.foundWith=trust-file", "trust-file")])
def test_a_swarm_begins_with_the_organizations_that_are_said(
    given: str, found_with: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = Rendered.by("--set", f"identity.trustConfigMap=flu-trust{given}")
    assert settings(rendered.container("sn"), monkeypatch).found_with == found_with


def test_what_is_announced_leads_to_what_is_bound(example: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    sn, sl = (settings(example.container(name), monkeypatch) for name in ("sn", "sl"))
    assert sn.through == "swarm.hospital-a.example:30304" and not sn.sentinel
    assert (sn.api, sn.p2p) == (("198.51.100.7", 16004), ("198.51.100.7", 16003))
    assert sl.announced(sl.listens_on) == ("198.51.100.8", 16005)
    assert sl.sn_address == "flu-sn.default.svc:16004"
    assert sn.license_servers == ["license.hospital-a.example:5814", "license-2.hospital-a.example:5814"]
    assert (sn.lost_after_s, sl.quorum_wait_s) == (30, 120)  # further settings
    services = {found["metadata"]["name"]: found["spec"]["ports"] for found in example.of("Service")}
    bound = {
        port["name"]: port["containerPort"] for container in example.containers() for port in container.get("ports", [])
    }
    led = {port["port"]: bound[port["targetPort"]] for name in ("flu-sn", "flu-sl-2") for port in services[name]}
    assert led == {16004: sn.listens_on, 16003: sn.p2p_listens_on, 16005: sl.listens_on}


def test_behind_a_reverse_proxy_service_names_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "sn.announce.apiService=sn.b.example,sn.announce.p2pService=p2p.b.example:443"
    rendered = Rendered.by(*EXAMPLE, "--set", names, "--set", "training[0].announce.service=sl.b.example",
                           "--set", "training[0].name=sl-2,training[0].ml.image.repository=flu")  # fmt: skip
    sn, sl = (settings(rendered.container(name), monkeypatch) for name in ("sn", "sl"))
    assert (sn.api, sn.p2p) == (("sn.b.example", 443), ("p2p.b.example", 443))
    assert sl.announced(0) == ("sl.b.example", 443)


def test_sl_and_program_share_two_pipes_and_nothing_else(example: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    sl, ml = example.container("sl"), example.container("ml")
    request, response = settings(sl, monkeypatch).channels
    assert (environment(ml)[REQUEST_VARIABLE], environment(ml)[RESPONSE_VARIABLE]) == (str(request), str(response))
    shared = {mount["name"] for mount in sl["volumeMounts"]} & {mount["name"] for mount in ml["volumeMounts"]}
    assert shared == {"pipes"}
    (job,) = example.of("Job")
    assert {"name": "pipes", "emptyDir": {}} in job["spec"]["template"]["spec"]["volumes"]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"


def test_pods_may_do_nothing_that_they_need_not(rendered: Rendered) -> None:
    for pod in rendered.pods():
        spec = pod["spec"]
        assert spec["enableServiceLinks"] is False and spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        context = spec["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0 and context["runAsGroup"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_a_node_is_asked_as_its_image_asks(rendered: Rendered) -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    check = json.loads(re.search(r"^HEALTHCHECK .*\n +CMD (\[.*\])$", dockerfile, re.MULTILINE)[1])  # type: ignore[index]
    for container in rendered.containers():
        probes = [
            container.get(f"{kind}Probe", {}).get("exec", {}).get("command")
            for kind in ("startup", "readiness", "liveness")
        ]
        assert probes == [check if container["name"] in NODES else None] * 3


def test_networks_let_through_what_nodes_listen_on(example: Rendered) -> None:
    policies = {found["metadata"]["name"]: found["spec"] for found in example.of("NetworkPolicy")}
    everything = policies.pop("flu")
    assert everything["policyTypes"] == ["Ingress", "Egress"] and everything["ingress"] == []
    assert {"ipBlock": {"cidr": "203.0.113.0/24"}} in [
        peer for rule in everything["egress"] for peer in rule.get("to", [])
    ]
    for pod in example.pods():
        labels = pod["metadata"]["labels"]
        assert everything["podSelector"]["matchLabels"].items() <= labels.items()
        (own,) = [spec for spec in policies.values() if spec["podSelector"]["matchLabels"].items() <= labels.items()]
        listens = {
            port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports", [])
        }
        assert {port["port"] for rule in own["ingress"] for port in rule["ports"]} == listens
    commands = [peer.get("ipBlock") for rule in policies["flu-swci"]["ingress"] for peer in rule["from"]]
    assert commands == [None, {"cidr": "10.20.0.0/16"}]


def test_an_upgrade_begins_a_training_anew_only_where_it_changed(example: Rendered) -> None:
    def name(*arguments: str) -> str:
        (job,) = Rendered.by(*EXAMPLE, *arguments).of("Job")
        return str(job["metadata"]["name"])

    (before,) = (job["metadata"]["name"] for job in example.of("Job"))
    assert name("--set", "swci.image.tag=2.0") == before
    assert name("--set", "slImage.tag=2.0") != before


def test_an_image_is_named_by_registry_and_digest(example: Rendered) -> None:
    digest = "sha256:" + 64 * "0"
    rendered = Rendered.by(*EXAMPLE, "--set", f"sn.image.digest={digest},images.tag=1.2")
    assert rendered.container("sn")["image"] == f"registry.hospital-b.example/swarm-learning/sn@{digest}"
    assert rendered.container("sl")["image"] == "registry.hospital-b.example/swarm-learning/sl:1.2"
    assert rendered.container("ml")["image"].startswith("registry.hospital-b.example/research/flu@sha256:")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("sn.enabled=yes", "at '/sn/enabled': got string, want boolean"),
        ("sn.sentinal=true", "at '/sn': additional properties 'sentinal' not allowed"),
        ("sn.announce.apiPort=99999", "at '/sn/announce/apiPort': maximum: got 99,999, want 65,535"),
        ("sn.settings.SN_LOST_AFTER_SECONDS=30", "at '/sn/settings/SN_LOST_AFTER_SECONDS': got number, want string"),
        ("sn.announce.host=https://b.example", "at '/sn/announce/host': 'https://b.example' does not match pattern"),
        ("user=0", "at '/user': minimum: got 0, want 1"),
        ("training[0].ml.image.repository=flu", "at '/training/0': missing property 'name'"),
        ("training[0].name=sl-1", "at '/training/0': missing property 'ml'"),
        ("training[0].name=sn,training[0].ml.image.repository=flu", "the name sn is that of a node of another kind"),
        ("networkPolicy.peers[0]=10.0.0.1", "at '/networkPolicy/peers/0': '10.0.0.1' does not match pattern"),
        ("sn.sentinel=false", "sn.join is missing: say HOST[:PORT] of an SN to join"),
        ("identity.caConfigMap=a,identity.trustConfigMap=b", "identity.trustConfigMap takes the place of"),
        ("sn.join=a.example", "sn.sentinel begins a swarm and sn.join joins one"),
        ("sn.foundWith=trust-file", "sn.foundWith=trust-file needs a trust file: give identity.trustConfigMap"),
        ("sn.foundWith=all", "at '/sn/foundWith': value must be one of 'own', 'trust-file'"),
        ("sn.enabled=false", "swarm.sn.host is missing: say which SN"),
        ("licenseServer.enabled=false", "swarm.licenseServer.host is missing: say where the license server is"),
    ],
)
def test_bad_values_are_a_sentence(given: str, sentence: str) -> None:
    done = helm("template", "--set", given)
    assert done.returncode != 0 and done.stdout == "" and sentence in done.stderr


def test_two_pairs_of_one_name_are_refused() -> None:
    pair = "training[{0}].name=sl-1,training[{0}].ml.image.repository=flu"
    done = helm("template", "--set", pair.format(0), "--set", pair.format(1))
    assert done.returncode != 0 and "two pairs are called sl-1" in done.stderr
