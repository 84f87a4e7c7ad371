"""Inventories of our own form and of Ansible's, read from what a file holds."""

from __future__ import annotations

import pytest

from hybrid_provider.exceptions import ConfigurationError
from hybrid_provider.hooks.fleet import fleet_of
from hybrid_provider.targets.docker import Serving
from hybrid_provider.targets.inventory import read_inventory

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHAHJ0NHzX+zH0UZ2XMI7hlDgvBRHKdTq5KxXWKJxJxl"
SERVER = {"image": "server"}


def engine(fleet=None, **settings):
    (spec,) = read_inventory({"targets": {"gpu": {"kind": "docker", **settings}}}, serving=fleet)
    return spec


def test_an_engine_with_a_host_is_reached_over_ssh_and_one_without_by_its_socket():
    over_ssh = engine(SERVER, host="10.0.0.21", user="models", host_key=KEY)
    assert (over_ssh.address.ssh.host, over_ssh.address.ssh.user) == ("10.0.0.21", "models")
    assert engine(SERVER).address.ssh is None


def test_an_engine_on_a_port_needs_all_three_files():
    files = {"ca_cert": "/ca.pem", "client_cert": "/cert.pem", "client_key": "/key.pem"}
    assert engine(SERVER, url="tcp://gpu:2376", **files).address.tls.client_key.name == "key.pem"
    del files["ca_cert"]
    with pytest.raises(ConfigurationError, match=r"gpu: .*ca_cert, client_cert and client_key are missing"):
        engine(SERVER, url="tcp://gpu:2376", **files)


@pytest.mark.parametrize("fleet", [{"image": "server", "port": 1}, Serving(image="server", port=1)])
def test_what_an_engine_says_of_its_serving_goes_over_what_the_fleet_does(fleet):
    assert engine(fleet).serving.port == 1
    own = engine(fleet, serving={"port": 2})
    assert (own.serving.image, own.serving.port) == ("server", 2)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "it has no serving"),
        ({"serving": {"port": 1}}, "a mapping with an image"),
        ({"serving": {"image": "server", "prot": 1}}, "no setting is called prot"),
        ({"serving": "server"}, "serving is 'server'"),
        ({"serving": SERVER, "reload_command": "x"}, "no setting is called reload_command"),
    ],
)
def test_an_engine_that_cannot_be_right_is_explained(settings, fault):
    with pytest.raises(ConfigurationError, match=f"gpu: .*{fault}"):
        engine(**settings)


def test_a_host_behind_another_says_so_in_both_forms():
    jump = {"host": "bastion", "user": "hop", "host_key": KEY}
    (own,) = read_inventory({"targets": {"edge": {"host": "10.1.0.1", "host_key": KEY, "jump": jump}}})
    variables = {"ansible_host": "10.1.0.1", "hybrid_host_key": KEY, "hybrid_jump": jump}
    (ansible,) = read_inventory({"all": {"hosts": {"edge": variables}}})
    assert own.address == ansible.address
    assert own.address.where == "10.1.0.1:22 over bastion:22"
    proxied = {"host": "10.1.0.1", "host_key": KEY, "proxy_command": "nc %h %p"}
    assert read_inventory({"targets": {"edge": proxied}})[0].address.proxy_command == "nc %h %p"
    for wrong, message in (
        ({**proxied, "jump": jump}, "a jump host and a proxy command"),
        ({**proxied, "proxy_command": "nc %h %q"}, "%q is none of"),
        ({"host": "h", "host_key": KEY, "jump": "bastion"}, "jump 'bastion': write {host"),
        (
            {"host": "h", "host_key": KEY, "jump": {"host": "b", "known_hosts": "/nowhere"}},
            "knows no key for b",
        ),
    ):
        with pytest.raises(ConfigurationError, match=message):
            read_inventory({"targets": {"edge": wrong}})


def test_a_group_of_an_ansible_inventory_is_a_fleet(tmp_path):
    path = tmp_path / "hosts.yml"
    path.write_text(
        f"""
all:
  vars: {{ansible_user: models, hybrid_host_key: "{KEY}", ansible_port: 2200}}
  children:
    hall:
      vars: {{hybrid_group: hall-1}}
      children:
        line:
          hosts:
            edge[01:02]: {{ansible_host: 10.0.0.1}}
    office:
      hosts: {{desk: {{ansible_port: 22}}}}
"""
    )
    specs = fleet_of({"inventory": str(path), "group": "hall"})
    assert [spec.name for spec in specs] == ["edge01", "edge02"]
    assert (specs[0].address.host, specs[0].address.port, specs[0].address.user) == (
        "10.0.0.1",
        2200,
        "models",
    )
    assert specs[0].placement.group == "hall-1"
    assert len(fleet_of(str(path))) == 3
    listed = {
        "_meta": {"hostvars": {"a": {"ansible_host": "10.0.0.9", "hybrid_host_key": KEY}}},
        "all": {"children": ["ungrouped", "edge"]},
        "edge": {"hosts": ["a"]},
    }
    assert read_inventory(listed, "edge")[0].address.host == "10.0.0.9"


def test_all_faults_of_an_inventory_are_in_one_message():
    tree = {
        "all": {
            "hosts": {
                "a": {"ansible_connection": "winrm"},
                "b": {"ansible_ssh_common_args": "-o StrictHostKeyChecking=no"},
                "c": {"ansible_host": "{{ address }}"},
            }
        }
    }
    with pytest.raises(
        ConfigurationError, match=r"(?s)a: .*winrm.*b: .*host's key.*c: .*template"
    ) as failure:
        read_inventory(tree)
    assert len(str(failure.value).splitlines()) == 3
    with pytest.raises(ConfigurationError, match=r"there is no group 'x'; there are none"):
        read_inventory(tree, "x")
    with pytest.raises(ConfigurationError, match=r"(?s)a: no setting is called prot.*b: .*ssh-keyscan"):
        read_inventory({"targets": {"a": {"prot": 1}, "b": {"known_hosts": "/nowhere"}}})
