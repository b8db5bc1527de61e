"""What is deployed fits the service: its metrics, its settings, its documents."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from seatsvc import metrics, settings
from seatsvc.settings import Settings
from tests.conftest import SECRET
from tests.test_docs import variable

ROOT = Path(__file__).parents[1]
GRAFANA, KUBERNETES = ROOT / "deploy" / "grafana", ROOT / "deploy" / "kubernetes"
RUNBOOK = "docs/operations.md"
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text())
[GROUP] = yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"]
ALERTS: list[dict[str, Any]] = GROUP["rules"]
DRAWN: list[str] = [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]
WATCHED: list[str] = [alert["expr"] for alert in ALERTS]
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
RESOURCES: dict[Path, list[dict[str, Any]]] = {
    file: list(yaml.safe_load_all(file.read_text())) for file in sorted(KUBERNETES.rglob("*.yaml"))
}
KUSTOMIZE = "kustomize.config.k8s.io/"  # whose documents no cluster ever sees
OLDEST_KUBERNETES = "1.30"
SECRETS = {
    "DATABASE_URL": "postgresql://seatsvc@postgres/seatsvc",
    "REDIS_URL": "redis://redis",
    "JWT_SECRET": SECRET,
}


def families() -> Iterator[tuple[str, set[str]]]:
    """Each metric of ours, and what its series are called."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            yield family.name, {family.name + suffix for suffix in SUFFIXES[family.type]}


def named(expressions: list[str]) -> set[str]:
    return set(re.findall(r"\bseatsvc_\w+", " ".join(expressions)))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for file in RESOURCES.values() for each in file if each["kind"] == kind]


def pods() -> list[dict[str, Any]]:
    """What the deployment and the job make."""
    return [each["spec"]["template"] for each in of_kind("Deployment") + of_kind("Job")]


def test_what_is_drawn_and_watched_is_measured() -> None:
    series = set().union(*(names for _, names in families()))
    assert named(DRAWN) - series == set()
    assert named(WATCHED) - series == set()


def test_all_that_is_measured_is_drawn() -> None:
    assert [name for name, names in families() if not names & named(DRAWN)] == []


@pytest.mark.parametrize("expression", DRAWN + WATCHED)
def test_expressions_parse(expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "1m"))


def test_dashboard_can_be_imported() -> None:
    [choice] = DASHBOARD["templating"]["list"]
    assert (choice["name"], choice["type"], choice["query"]) == (
        "datasource", "datasource", "prometheus",
    )  # fmt: skip
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alerts_say_what_to_do(alert: dict[str, Any]) -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / RUNBOOK).read_text(), re.M)
    assert alert["alert"] in headings
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#{alert['alert'].lower()}"
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]


def test_runbook_names_no_alert_of_the_past() -> None:
    headings = re.findall(r"^### (.+)$", (ROOT / RUNBOOK).read_text(), re.M)
    assert headings == [alert["alert"] for alert in ALERTS]


def test_runbook_names_settings_that_exist() -> None:
    said = set(re.findall(r"\bSEATSVC_[A-Z_]*[A-Z]\b", (ROOT / RUNBOOK).read_text()))
    assert said
    assert said <= {variable(*each) for each in Settings.model_fields.items()}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
def test_manifests_are_what_kubernetes_takes(version: str) -> None:
    """By its own schemas, which here know of no field that it does not."""
    checked = 0
    for file in RESOURCES.values():
        for resource in file:
            if not resource["apiVersion"].startswith(KUSTOMIZE):
                kubernetes_validate.validate(resource, version, strict=True)
                checked += 1
    assert checked >= len(RESOURCES) - 3
    assert f"is for {OLDEST_KUBERNETES} or newer" in (ROOT / RUNBOOK).read_text()


def test_schemas_see_what_is_misspelt() -> None:
    [deployment] = of_kind("Deployment")
    deployment = copy.deepcopy(deployment)
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, OLDEST_KUBERNETES, strict=True)


def test_kustomizations_name_their_files() -> None:
    for file, [resource] in RESOURCES.items():
        if file.name == "kustomization.yaml":
            others = {each.name for each in file.parent.glob("*.yaml")} - {file.name}
            assert set(resource.get("resources", ())) == others, file
            parts = [file.parent / part for part in resource.get("components", ())]
            assert all((part / "kustomization.yaml").exists() for part in parts), file


def test_settings_of_the_pods_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Together with the secrets they are enough for a start, and none is misspelt."""
    [service] = [each for each in of_kind("Kustomization") if "configMapGenerator" in each]
    [config] = service["configMapGenerator"]
    given = dict(line.split("=", 1) for line in config["literals"])
    assert given.keys() <= {variable(*each) for each in Settings.model_fields.items()}
    for name, value in (given | SECRETS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # where no .env is
    assert settings.load().public_url == given["SEATSVC_PUBLIC_URL"]


def test_migration_gets_the_secrets() -> None:
    [job] = of_kind("Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == SECRETS.keys()


def test_no_secret_is_written_down() -> None:
    assert of_kind("Secret") == []
    for pod in pods():
        for container in pod["spec"]["containers"]:
            assert all("secretKeyRef" in each["valueFrom"] for each in container.get("env", ()))


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["spec"]["containers"][0]["name"])
def test_pods_may_do_little(pod: dict[str, Any]) -> None:
    """As Kubernetes' restricted standard asks, and they need no more than the image's user."""
    spec = pod["spec"]
    [container] = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    user = spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]
    assert f"USER {user[0]}:{user[1]}" in (ROOT / "Dockerfile").read_text()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


def test_selectors_find_the_service_only() -> None:
    [deployment], [service] = of_kind("Deployment"), of_kind("Service")
    [budget], [policy] = of_kind("PodDisruptionBudget"), of_kind("NetworkPolicy")
    own = deployment["spec"]["template"]["metadata"]["labels"]
    [job] = of_kind("Job")
    assert deployment["spec"]["selector"]["matchLabels"] == own
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"] == own
    assert not own.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    for pod in pods():
        chosen = policy["spec"]["podSelector"]["matchLabels"]
        assert chosen.items() <= pod["metadata"]["labels"].items()


def test_connections_fit_into_postgresql() -> None:
    """With PostgreSQL's defaults, even while a rollout has three pods more than there should be."""
    [autoscaler], [deployment] = of_kind("HorizontalPodAutoscaler"), of_kind("Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    workers = int(container["args"][container["args"].index("--workers") + 1])
    pool = int(str(Settings.model_fields["pool_size"].default))
    assert (autoscaler["spec"]["maxReplicas"] + 3) * workers * pool <= 97
