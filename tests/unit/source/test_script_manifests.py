"""What a manifest may say of a script, which programs are its, and where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config import KernelsConfig, PolicyConfig, ScriptConfig, parse_config
from reconciler.errors import ConfigError, ManifestErrors
from reconciler.model.desired import VMSpec
from reconciler.model.layer_kinds.script_layer import ScriptSource
from reconciler.model.names import VMName
from reconciler.source.manifests.folder import Folder, load_folder
from reconciler.source.manifests.resolve import Resolver
from tests.unit.source.repositories import vm


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "make-app"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def policy(program: Path) -> PolicyConfig:
    return PolicyConfig(scripts={"make-app": ScriptConfig(path=str(program))})


def written(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "fleet"
    (folder / "in").mkdir(parents=True, exist_ok=True)
    (folder / "a.yaml").write_text(vm("a", layers=f"[script: {{{text}}}]"))
    return folder


def resolved(folder: Path, policy: PolicyConfig) -> VMSpec:
    return load_folder(folder, policy)[0].vms[VMName("a")]


def test_a_script_is_a_layer_of_its_program_as_the_host_has_it(
    tmp_path: Path, policy: PolicyConfig, program: Path
) -> None:
    folder = written(tmp_path, 'run: make-app, args: ["--size", "5"], inputs: ./in')
    first = resolved(folder, policy)
    (layer,) = first.layers
    source = layer.source
    assert isinstance(source, ScriptSource)
    assert (source.run, source.args, source.inputs) == ("make-app", ("--size", "5"), "./in")
    assert (len(source.tree), len(source.program)) == (40, 64)
    program.write_text("#!/bin/sh\n# another\n")
    assert resolved(folder, policy).digest != first.digest


def test_a_program_that_changed_is_another_layer_also_when_the_manifest_is_known(
    tmp_path: Path, policy: PolicyConfig, program: Path
) -> None:
    folder = Folder(written(tmp_path, "run: make-app"), 100, 10_000)
    resolver = Resolver(policy, KernelsConfig())
    first, again = resolver.resolve(folder), resolver.resolve(folder)
    assert first.vms[VMName("a")] is again.vms[VMName("a")]
    program.write_text("#!/bin/sh\n# another\n")
    assert resolver.resolve(folder).vms[VMName("a")].digest != first.vms[VMName("a")].digest


def test_each_of_its_inputs_is_part_of_the_key() -> None:
    source = ScriptSource("make", ("a", "b"), "./in", "1" * 40, "2" * 64)
    others = (
        ScriptSource("other", ("a", "b"), "./in", "1" * 40, "2" * 64),
        ScriptSource("make", ("a b",), "./in", "1" * 40, "2" * 64),
        ScriptSource("make", ("a", "b", ""), "./in", "1" * 40, "2" * 64),
        ScriptSource("make", ("a", "b"), "./in", "3" * 40, "2" * 64),
        ScriptSource("make", ("a", "b"), "", "", "2" * 64),
        ScriptSource("make", ("a", "b"), "./in", "1" * 40, "4" * 64),
    )
    assert all(other.key_inputs != source.key_inputs for other in others)
    moved = ScriptSource("make", ("a", "b"), "./elsewhere", "1" * 40, "2" * 64)
    assert moved.key_inputs == source.key_inputs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run: make-ap", "script.run: make-ap is not allowed by the host's policy (did you mean make-app?)"),
        ("run: /bin/sh", 'run: "/bin/sh" is not well formed'),
        ("args: [a]", "script.run is missing"),
        ("run: make-app, inputs: ./none", "none does not exist"),
        ("run: make-app, inputs: /etc", "is absolute"),
        ('run: make-app, args: ["a\\0b"]', "is not well formed (no control characters)"),
        ("run: make-app, args: 5", "args: 5 is not a list"),
        ("run: make-app, network: true", "network: unknown field"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_at_its_place(
    tmp_path: Path, policy: PolicyConfig, text: str, says: str
) -> None:
    with pytest.raises(ManifestErrors) as caught:
        resolved(written(tmp_path, text), policy)
    (problem,) = caught.value.problems
    assert str(problem).startswith("a.yaml:5:")
    assert says in str(problem)


def test_by_default_a_host_runs_no_script(tmp_path: Path) -> None:
    with pytest.raises(ManifestErrors, match=r"policy\.scripts has: none"):
        load_folder(written(tmp_path, "run: make-app"))


def test_a_program_that_is_gone_or_cannot_run_is_named_with_the_manifest(
    tmp_path: Path, policy: PolicyConfig, program: Path
) -> None:
    folder = written(tmp_path, "run: make-app")
    program.chmod(0o644)
    with pytest.raises(
        ManifestErrors, match=r"policy.scripts.make-app: .* is not an executable file"
    ):
        resolved(folder, policy)
    program.unlink()
    with pytest.raises(ManifestErrors, match="No such file"):
        resolved(folder, policy)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"make": {}}, "policy.scripts.make.path: is missing"),
        ({"make": {"path": "/x", "root": True}}, "policy.scripts.make.root: unknown key"),
        ({"Make": {"path": "/x"}}, "policy.scripts.Make"),
        ({"make": "/x"}, "policy.scripts.make"),
    ],
)
def test_a_wrong_program_of_the_config_is_named_with_its_key(
    table: dict[str, object], says: str
) -> None:
    raw: dict[str, object] = {"source": {"url": "/r"}, "policy": {"scripts": table}}
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, "config.toml")
    assert says in str(caught.value)
