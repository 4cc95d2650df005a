"""The Kubernetes example: valid by Kubernetes's own schemas, and its parts fit each other and the server."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployment import DEPLOY, ROOT, serve_options

FOLDER = DEPLOY / "kubernetes"
FILES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yaml"))}
POD = FILES["deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VERSIONS = ("1.25", "1.31", kubernetes_validate.latest_version())


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("version", VERSIONS)
def test_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(FILES[name], version, strict=True)


def test_parts_find_each_other() -> None:
    labels = FILES["deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert FILES["deployment"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert FILES["service"]["spec"]["selector"].items() <= labels
    (port,) = FILES["service"]["spec"]["ports"]
    assert port["targetPort"] in {named["name"] for named in CONTAINER["ports"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes.keys()
    assert volumes["model"]["persistentVolumeClaim"]["claimName"] == FILES["claim"]["metadata"]["name"]


def test_the_server_can_drain() -> None:
    options = serve_options(["--model=/model", *CONTAINER["args"]])
    (_, pause) = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert POD["terminationGracePeriodSeconds"] >= int(pause) + options["drain_timeout"] + 10
    keys = next(mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "api-keys")
    assert options["api_key_file"].as_posix() == f"{keys['mountPath']}/api-keys"


def test_probes_ask_for_pages_that_there_are() -> None:
    documented = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    probes: dict[str, Any] = {name: probe for name, probe in CONTAINER.items() if name.endswith("Probe")}
    asked = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert asked == {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"}
    assert all(f"| `GET {path}` |" in documented for path in asked.values())


def test_the_container_may_do_nothing_else() -> None:
    security = CONTAINER["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert POD["securityContext"]["runAsNonRoot"]
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"])
