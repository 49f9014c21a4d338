"""Pushes made by program."""

from pathlib import Path

import pytest

from demo.fleet import judge_sooner, manifest_of, use_ports
from demo.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path)


def files_of(repository: Repository) -> list[str]:
    return repository.git("ls-tree", "-r", "--name-only", "main", cwd=repository.bare).splitlines()


def test_a_push_arrives_in_the_bare_repository(repository: Repository) -> None:
    repository.write("web/www/index.html", "hello\n")
    revision = repository.push("first")
    assert repository.git("rev-parse", "main", cwd=repository.bare) == revision
    assert files_of(repository) == ["web/www/index.html"]


def test_removed_files_are_gone_with_the_next_push(repository: Repository) -> None:
    repository.write("a/one", "1")
    repository.write("b", "2")
    repository.push("two files")
    repository.remove("a")
    repository.push("one file")
    assert files_of(repository) == ["b"]
    repository.clear()
    repository.push("nothing")
    assert files_of(repository) == []


def test_an_empty_commit_is_pushed_too(repository: Repository) -> None:
    first = repository.push("nothing")
    assert repository.push("again nothing") != first


def test_an_earlier_state_comes_back_as_a_new_commit(repository: Repository) -> None:
    repository.write("kept", "1")
    repository.write("sub/removed", "1")
    first = repository.push("good")
    repository.remove("sub")
    repository.write("kept", "2")
    repository.write("added", "2")
    repository.push("bad")
    repository.write("never/committed", "3")
    repository.restore(first)
    assert repository.push("good again") != first
    assert files_of(repository) == ["kept", "sub/removed"]
    assert repository.read("kept") == "1"


def test_the_mode_of_a_program_is_kept(repository: Repository) -> None:
    repository.write("init", "#!/bin/sh\n", mode=0o755)
    repository.push("a program")
    assert repository.git("ls-tree", "main", "init").startswith("100755")


def test_a_replacement_that_finds_nothing_is_an_error(repository: Repository) -> None:
    repository.write("a", "text")
    with pytest.raises(ValueError, match="does not hold"):
        repository.replace("a", "other", "new")


def test_what_git_complains_about_is_said(repository: Repository) -> None:
    with pytest.raises(RuntimeError, match="rev-parse"):
        repository.git("rev-parse", "--verify", "nonsense")


def test_hooks_and_settings_of_the_caller_do_not_matter(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n")
    repository.write("a", "1")
    assert repository.push("still works")


def test_the_sample_gets_other_ports_and_keeps_its_text(repository: Repository) -> None:
    text = "metadata: {name: %s}\n# why\nforward: [{host: %d, guest: 80}]\nhttp: {port: %d}\n"
    for name, port in (("db", 8081), ("web-a", 8082), ("web-b", 8083)):
        repository.write(f"{name}.yaml", text % (name, port, port))
    use_ports(repository, {"db": 11, "web-a": 12, "web-b": 8083})
    assert repository.read("db.yaml") == text % ("db", 11, 11)
    assert repository.read("web-a.yaml") == text % ("web-a", 12, 12)
    assert repository.read("web-b.yaml") == text % ("web-b", 8083, 8083)
    assert manifest_of(repository, "web-b") == "web-b.yaml"


def test_the_sample_is_judged_sooner(repository: Repository) -> None:
    repository.write("db.yaml", "health:\n  startupDeadline: 90s # why\n  period: 2s\n")
    judge_sooner(repository, 30)
    assert repository.read("db.yaml") == "health:\n  startupDeadline: 30s # why\n  period: 2s\n"
