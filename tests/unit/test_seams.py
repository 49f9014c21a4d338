"""How much of the product one more kind touches, and what existing kinds must keep as they are."""

from __future__ import annotations

import ast
import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from reconciler.config import SINKS, PolicyConfig
from reconciler.image.registry import INPUTS
from reconciler.model.checks import CHECK_KINDS, CheckSpec, HttpCheck, ProcessCheck, TcpCheck
from reconciler.model.desired import HealthPolicy, VMSpec, checks_key
from reconciler.model.layer_kinds.busybox_layer import BusyboxSource
from reconciler.model.layer_kinds.tree_layer import OwnerRule, TreeSource
from reconciler.model.layers import LayerSource, LayerSpec
from reconciler.notify import registry as sinks
from reconciler.probe.registry import ASKERS
from reconciler.source.manifests.policy_bounds import layer_faults
from tests.contract.stubs import TextSource
from tests.world import vm

ROOT = Path(__file__).resolve().parents[2] / "reconciler"
MOST_FILES = 3
KINDS = {
    "layer tree": {"TreeSource", "build_tree"},
    "layer busybox": {"BusyboxSource", "build_busybox"},
    "layer nix": {"NixSource", "build_nix"},
    "layer oci": {"Oci", "build_oci"},
    "layer image": {"ReadyImage", "build_image"},
    "layer script": {"ScriptSource", "build_script"},
    "check http": {"HttpProbe", "HttpCheck", "HttpAsker"},
    "check tcp": {"TcpProbe", "TcpCheck", "TcpAsker"},
    "sink webhook": {"WebhookConfig", "open_webhook"},
    "sink slack": {"SlackConfig", "open_slack"},
    "sink alertmanager": {"AlertmanagerConfig", "open_alertmanager"},
    "sink email": {"EmailConfig", "open_mail", "MailSink"},
    "source git": {"GitSourceConfig", "GitSource"},
}
"""The names of a kind's parts; `process` asks nothing, and is known to planning."""
STACKS = "source/manifests/stack_check.py"
BESIDE = {
    "source git": {"cli/doctor_sources.py"},
    "layer tree": {STACKS},
    "layer busybox": {STACKS},
}
"""Files that another kind need not change: `doctor` looks at the way to a git server, and the check of
stacks knows what is in these two before they are built."""


@cache
def names() -> dict[str, frozenset[str]]:
    """All names that each file of the product uses, by its path."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.alias)}
        found[str(path.relative_to(ROOT))] = frozenset(used)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_stands_in_at_most_three_files(kind: str) -> None:
    files = {path for path, used in names().items() if used & KINDS[kind]}
    assert 2 <= len(files - BESIDE.get(kind, set())) <= MOST_FILES, files


def test_the_parts_of_each_kind_are_names_of_the_code() -> None:
    parts = set[str]().union(*KINDS.values())
    assert parts - set[str]().union(*names().values()) == set()


def test_every_kind_is_registered() -> None:
    kinds = {
        each.default for one in get_args(LayerSource) for each in fields(one) if each.name == "kind"
    }
    assert INPUTS.keys() == kinds
    assert ASKERS.keys() == set(CHECK_KINDS)
    assert sinks.SINKS.keys() == set(SINKS.values())


def test_the_keys_of_layers_are_as_in_the_first_version() -> None:
    """A key that changed would rebuild every layer, and restart every guest."""
    tree, busybox = TreeSource("a" * 40, "./web"), BusyboxSource()
    assert LayerSpec.of(tree, "erofs").key == (
        "0cc36f22121b035f89a98d85ee85d709399ea52391a391a5af7264db0f0b80b1"
    )
    assert LayerSpec.of(busybox, "squashfs").key == (
        "5b1495beb2f55d5d4c25dfacee2220a54cb2d2b9862400d0c277b5f621b07207"
    )


def test_the_key_of_checks_is_as_before_kinds_were_stored() -> None:
    """A key that changed would put the checks of every guest on trial."""
    policy = HealthPolicy((HttpCheck(8080, "/ok"), TcpCheck(5432), ProcessCheck()))
    assert checks_key(policy) == "413356f2d0f2df27cc98aa008632cc09dfb1133166d9f609ec7eb88bee0a946e"


@pytest.mark.parametrize(
    "checks",
    [(HttpCheck(8080),), (TcpCheck(5432, expect="+OK"), ProcessCheck()), (TcpCheck(5432),)],
)
@pytest.mark.parametrize(
    "source",
    [
        TreeSource("a" * 40, "./web"),
        TreeSource("a" * 40, "./web", owners=(OwnerRule("/srv/**", 33, 33, 0o640),)),
        BusyboxSource(),
    ],
)
def test_what_was_stored_before_kinds_were_named_is_read_as_what_it_was(
    checks: tuple[CheckSpec, ...], source: LayerSource
) -> None:
    stored = TypeAdapter(VMSpec)
    spec = replace(vm("web"), health=HealthPolicy(checks), layers=(LayerSpec.of(source, "erofs"),))
    now = stored.dump_json(spec)
    assert stored.validate_json(now, strict=True) == spec
    former = without_kinds(json.loads(now))
    assert stored.validate_json(json.dumps(former), strict=True) == spec


def without_kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_kinds(each) for key, each in value.items() if key != "kind"}
    return [without_kinds(each) for each in value] if isinstance(value, list) else value


def test_a_layer_that_the_host_does_not_allow_is_refused_at_its_place() -> None:
    layers = (TreeSource("", "./web"), TextSource("/etc/shadow"), TextSource("fine"))
    (fault,) = layer_faults(layers, PolicyConfig())
    assert fault.at == ("spec", "store", "layers", 1, "text", "text")
    assert list(layer_faults(layers, PolicyConfig(host_paths=["/etc/shadow"]))) == []
