# SPDX-License-Identifier: LGPL-2.1-or-later
"""The settings in guest/: well-formed, of the schemas of those they are for, and accepted."""

import re
import shutil
import subprocess

import pytest
import yaml

from harness import libvirtd as libvirt
from harness import system
from harness.daemon import VIRTJOULED

GUEST = system.SOURCE_ROOT / "guest"
# What Kepler's own docs/user/configuration.md names, of what is set here.
KEPLER_KEYS = {"log": {"level", "format"}, "host": {"sysfs", "procfs"},
               "monitor": {"interval", "staleness"}, "rapl": {"zones"},
               "exporter": {"stdout", "prometheus"}, "web": {"listenAddresses"},
               "kube": {"enabled"}}


@pytest.mark.parametrize("path", sorted(GUEST.rglob("*.y*ml")),
                         ids=lambda path: str(path.relative_to(GUEST)))
def test_yaml(path):
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents and all(documents)


def test_kepler():
    config = yaml.safe_load((GUEST / "kepler/config.yaml").read_text())
    values = yaml.safe_load((GUEST / "kepler/values.yaml").read_text())
    assert set(values) == {"daemonset", "config"}
    for settings, sysfs in ((config, "/sys"), (values["config"], "/host/sys")):
        for section, keys in settings.items():
            assert set(keys) <= KEPLER_KEYS[section], section
        assert settings["host"]["sysfs"] == sysfs
        assert "node" in settings["exporter"]["prometheus"]["metricsLevel"]


def test_node_exporter(start_daemon, start_guest):
    """In a guest, with the arguments of the file."""
    text = (GUEST / "node_exporter/prometheus-node-exporter").read_text()
    arguments = re.search(r'^ARGS="(.*)"$', text, re.M)[1]
    daemon = start_daemon({"discovery": {"libvirt_uri": libvirt.URI}})
    guest = start_guest(daemon)
    guest.check(f"prometheus-node-exporter {arguments} >/dev/null 2>&1 &")

    def energy():
        answer = guest.run("wget -q -O - http://127.0.0.1:9101/metrics")
        return "node_rapl_package_joules_total{" in answer.output

    system.wait_until(energy, "node_exporter tells the share's energy")


# Kubernetes: by the API's own models.


def _check_object(value, kind, models, path):
    """Every key is one that the API has there, of the right type, and what it requires is there."""
    inner = re.fullmatch(r"(?:list|dict)[\[(](?:str, )?(.+)[\])]", kind)
    if inner:
        assert isinstance(value, list if kind.startswith("list") else dict), path
        items = enumerate(value) if isinstance(value, list) else value.items()
        for name, item in items:
            _check_object(item, inner[1], models, f"{path}.{name}")
        return
    model = getattr(models, kind, None)
    if not model:
        types = {"str": str, "int": int, "bool": bool, "object": (str, int, dict)}
        assert isinstance(value, types[kind]), f"{path}: not of type {kind}"
        return
    names = {json: attribute for attribute, json in model.attribute_map.items()}
    assert set(value) <= set(names), f"{path}: no such keys of {kind}: {set(value) - set(names)}"
    for name, item in value.items():
        _check_object(item, model.openapi_types[names[name]], models, f"{path}.{name}")
    # The models refuse to be made without what is required.
    model(**{names[name]: item for name, item in value.items()})


def test_kubernetes_schema():
    client = pytest.importorskip("kubernetes.client")
    kinds = []
    for path in GUEST.glob("kubernetes/*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "Kustomization":
                assert set(document["resources"]) == {
                    other.name for other in GUEST.glob("kubernetes/*.yaml")} - {path.name}
                continue
            kinds.append(document["kind"])
            _check_object(document, f"V1{document['kind']}", client, path.name)
    assert sorted(kinds) == ["DaemonSet", "Namespace", "Service"]


def test_kubernetes_references():
    daemonset, service = yaml.safe_load_all((GUEST / "kubernetes/node-energy.yaml").read_text())
    template = daemonset["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    assert daemonset["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    container, = template["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    mount, = container["volumeMounts"]
    assert volumes[mount["name"]]["hostPath"]["path"] == "/sys/class/powercap"
    sysfs = next(argument.split("=")[1] for argument in container["args"]
                 if argument.startswith("--path.sysfs="))
    assert mount["mountPath"] == f"{sysfs}/class/powercap"
    assert {port["name"] for port in container["ports"]} == {
        port["targetPort"] for port in service["spec"]["ports"]}
    # Without privileges, as the share's file mode allows.
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert template["spec"]["securityContext"]["runAsNonRoot"]


# Ansible.


def run_playbook(*arguments):
    if not shutil.which("ansible-playbook"):
        pytest.skip("no ansible-playbook")
    return subprocess.run(["ansible-playbook", *map(str, arguments)], capture_output=True,
                          text=True, timeout=system.PATIENCE_S)


def test_playbook_syntax():
    ansible = GUEST / "ansible"
    result = run_playbook("-i", ansible / "inventory.yml", "--syntax-check", ansible / "site.yml")
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr


def test_playbook_settings_are_a_configuration(directory):
    """The template, filled from the inventory by Ansible itself, is one that the daemon takes."""
    playbook = directory / "playbook.yml"
    playbook.write_text(yaml.safe_dump([{
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "tasks": [{"name": "fill", "ansible.builtin.template": {
            "src": str(GUEST / "ansible/virtjouled.conf.j2"),
            "dest": str(directory / "virtjouled.conf"),
            "validate": f"{VIRTJOULED} --check-config --config %s"}}],
        "vars": {"virtjoule_settings": _inventory_settings()}}]))
    result = run_playbook("-i", "localhost,", playbook)
    assert result.returncode == 0, result.stdout
    assert "static_policy = proportional" in (directory / "virtjouled.conf").read_text()


def _inventory_settings():
    inventory = yaml.safe_load((GUEST / "ansible/inventory.yml").read_text())
    host, = inventory["hypervisors"]["hosts"].values()
    return host["virtjoule_settings"]


@pytest.mark.parametrize("status", [0, 1])
def test_playbook_tells_what_the_doctor_says(directory, status):
    command = directory / "virtjoule"
    command.write_text(f"#!/bin/sh\necho 'error: the word of $*'\nexit {status}\n")
    command.chmod(0o755)
    playbook = directory / "playbook.yml"
    playbook.write_text(yaml.safe_dump([{
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "environment": {"PATH": f"{directory}:/usr/bin:/bin"},
        "tasks": [{"ansible.builtin.include_tasks": str(GUEST / "ansible/doctor.yml")}]}]))
    result = run_playbook("-i", "localhost,", playbook)
    assert (result.returncode == 0) == (status == 0), result.stdout
    assert "error: the word of" in result.stdout
