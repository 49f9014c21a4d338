"""The figures of tests/house.py keep to their limits, and their readings are right."""

from pathlib import Path

import pytest

from tests.house import (
    SAME_CLASS_NAMES,
    SAME_MODULE_NAMES,
    Figure,
    House,
    strongly_connected,
)

HOUSE = House()


@pytest.mark.parametrize("figure", HOUSE.figures(), ids=lambda figure: figure.name)
def test_the_house_keeps_to_its_limits(figure: Figure) -> None:
    assert figure.holds, "\n".join((str(figure), *figure.where))


def test_every_name_that_is_used_twice_has_its_reason() -> None:
    assert set(HOUSE.twice_named_modules) == set(SAME_MODULE_NAMES)
    assert set(HOUSE.twice_named_classes) == set(SAME_CLASS_NAMES)


def test_a_circle_is_found_and_a_chain_is_none() -> None:
    assert strongly_connected({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [("b", "c")]
    assert strongly_connected({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_a_package_of_two_files_is_read_as_it_is(tmp_path: Path) -> None:
    package = tmp_path / "reconciler"
    package.mkdir()
    (package / "one.py").write_text(
        "from reconciler.two import go\n\n\ndef run() -> None:\n    go()\n"
    )
    (package / "two.py").write_text(
        "from reconciler import one\n\n\ndef go() -> None:\n    '''Qemu.'''\n"
    )
    house = House(package)
    assert house.circles == [("reconciler.one", "reconciler.two")]
    assert house.qemu_lines == ["two.py:5"]
    assert house.silent == {"one.py:4": True, "two.py:4": False}
    assert house.short_files == ["one.py", "two.py"]


def test_a_short_file_of_a_registered_kind_is_no_fragment(tmp_path: Path) -> None:
    package = tmp_path / "reconciler"
    files = {
        "probe/registry.py": "from reconciler.probe.one import One\nfrom reconciler.vmm.two import Two\n",
        "probe/one.py": "class One: ...\n",
        "probe/other.py": "",
        "vmm/registry.py": "from reconciler.vmm.qemu.driver import Driver\n",
        "vmm/two.py": "class Two: ...\n",
        "vmm/qemu/driver.py": "class Driver: ...\n",
        "vmm/qemu/part.py": "",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    fragments = House(package).short_files
    assert fragments == ["probe/other.py", "probe/registry.py", "vmm/registry.py", "vmm/two.py"]
