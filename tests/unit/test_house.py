"""The figures of tests/house.py keep to their limits, and their readings are right."""

from collections.abc import Mapping
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
    house = house_of(
        tmp_path,
        {
            "one.py": "from reconciler.two import go\n\n\ndef run() -> None:\n    go()\n",
            "two.py": "from reconciler import one\n\n\ndef go() -> None:\n    '''Qemu.'''\n",
        },
    )
    assert house.circles == [("reconciler.one", "reconciler.two")]
    assert house.qemu_lines == ["two.py:5"]
    assert house.silent == {"one.py:4": True, "two.py:4": False}
    assert house.short_files == ["one.py", "two.py"]


ACTIONS = """\
class Start: ...


class Stop: ...


Action = Start | Stop
"""
OPERATIONS = """\
from reconciler.model.actions import Start


def begin() -> None:
    print(
        Start,
    )
"""


def test_rooms_arrows_and_bare_imports_of_a_small_planning_are_read(tmp_path: Path) -> None:
    house = house_of(
        tmp_path,
        {
            "model/actions.py": ACTIONS,
            "planning/__init__.py": "",
            "planning/context.py": "def once() -> int:\n    return 1\n",
            "planning/steps/operations.py": OPERATIONS,
            "planning/steps/next_step.py": "from reconciler.planning.steps import operations\n",
            "planning/planner.py": (
                "from reconciler.planning import context\n"
                "from reconciler.planning.context import Builder, once\n"
                "from reconciler.planning.steps import next_step\n"
            ),
        },
    )
    assert house.rooms == {"context", "steps", "planner"}
    assert house.arrows == {("planner", "context"), ("planner", "steps")}
    assert house.bare_imports == ["planning/planner.py <- reconciler.planning.context"]


def test_files_that_name_an_action_and_lines_of_functions_are_counted(tmp_path: Path) -> None:
    house = house_of(
        tmp_path, {"model/actions.py": ACTIONS, "planning/steps/operations.py": OPERATIONS}
    )
    assert house.action_files == {
        "Start": ["model/actions.py", "planning/steps/operations.py"],
        "Stop": ["model/actions.py"],
    }
    assert house.function_p90 == 4


def test_stilted_words_are_found_in_each_file_with_prose(tmp_path: Path) -> None:
    house = house_of(tmp_path, {"one.py": "# Nobody told it.\n"})
    (tmp_path / "README.md").write_text("Well said.\nWhoever reads this.\n")
    assert house.stilted == ["reconciler/one.py:1", "reconciler/one.py:1", "README.md:2"]


def house_of(root: Path, files: Mapping[str, str]) -> House:
    package = root / "reconciler"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return House(package)


def test_a_short_file_of_a_registered_kind_is_no_fragment(tmp_path: Path) -> None:
    files = {
        "probe/registry.py": "from reconciler.probe.one import One\nfrom reconciler.vmm.two import Two\n",
        "probe/one.py": "class One: ...\n",
        "probe/other.py": "",
        "vmm/registry.py": "from reconciler.vmm.qemu.driver import Driver\n",
        "vmm/two.py": "class Two: ...\n",
        "vmm/qemu/driver.py": "class Driver: ...\n",
        "vmm/qemu/part.py": "",
    }
    fragments = house_of(tmp_path, files).short_files
    assert fragments == ["probe/other.py", "probe/registry.py", "vmm/registry.py", "vmm/two.py"]
