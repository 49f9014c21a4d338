"""The documents keep pace with the code: lists are complete, links lead somewhere, pages stay short."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from pydantic import BaseModel

from reconciler.cli.app import MODULES
from reconciler.cli.exit_codes import ExitCode
from reconciler.config import Config, NotificationConfig
from reconciler.errors import (
    BuildFailed,
    BuildUnavailable,
    DeliveryError,
    DeliveryErrorKind,
    DriverError,
    GuestConflict,
    GuestErrorKind,
    ImageError,
    LedgerError,
    LedgerErrorKind,
    LedgerTooNew,
    LedgerUnwritable,
    ReconcilerError,
    SourceErrorKind,
)
from reconciler.image_registries import RegistryConfig
from reconciler.model.event import FAILED, EventKind
from reconciler.model.record import Evidence
from reconciler.model.waits import WAITS
from reconciler.notify.selection import ENDS, OPENS
from tests.house import House

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "docs").is_dir():
    pytest.skip("no documents beside this code", allow_module_level=True)

OPERATIONS = sorted((ROOT / "docs/operations").glob("*.md"))
INDEX = ROOT / "docs/operations.md"
DESIGN = (ROOT / "docs/design.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
READMES = sorted(
    page for room in ("reconciler", "tests", "dashboards") for page in (ROOT / room).rglob("*.md")
)
"""Of the folders: how to add a kind of something, or what is there."""
PAGES += READMES
MOST_LINES = {
    "README.md": 120,
    "CONTRIBUTING.md": 60,
    "docs/design.md": 240,
    "docs/limits.md": 140,
    "docs/testing.md": 140,
}
MOST_DECISION_LINES = 60
MOST_OPERATIONS_LINES = 250
MOST_PICTURE_BYTES = 150 * 1024
EVENTS = set(get_args(EventKind))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


TABLES = {"notifications": get_args(NotificationConfig), "registries": (RegistryConfig,)}
"""Lists of tables in the config, and what an entry may be."""


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level = heading.split(" ", maxsplit=1)[0]
    found = re.split(rf"^{re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)
    assert len(found) == 2, f"no section {heading!r}"
    return re.split(rf"^{level} ", found[1], maxsplit=1, flags=re.MULTILINE)[0]


def operations(heading: str) -> str:
    """The section of the one page below docs/operations/ that has this heading."""
    pages = [path.read_text(encoding="utf-8") for path in OPERATIONS]
    having = [page for page in pages if f"\n{heading}\n" in page]
    assert len(having) == 1, f"{len(having)} pages have the heading {heading!r}"
    return section(having[0], heading)


def rows(heading: str) -> dict[str, list[str]]:
    """The table of a section of the operations pages: cells of each row, by its bare first cell."""
    found = {}
    for line in operations(heading).splitlines():
        if line.startswith("| `"):
            first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
            found[first.strip("`")] = others
    return found


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the config with its default, as TOML writes it."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings(inner, f"{prefix}{name}.")
        elif f"{prefix}{name}" in TABLES:
            for one in TABLES[name]:
                yield from settings(one, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else json.dumps(field.default)
            yield f"{prefix}{name}", default


def code_of(*rooms: str) -> str:
    return "".join(
        path.read_text("utf-8")
        for room in rooms
        for path in sorted((ROOT / "reconciler" / room).rglob("*.py"))
    )


def test_every_key_of_the_config_is_explained_with_its_default() -> None:
    told = {key: cells[0].strip("`") for key, cells in rows("## Config keys").items()}
    assert told == dict(settings(Config))


def test_every_reason_for_waiting_is_explained() -> None:
    assert set(rows("## Reasons for waiting")) == set(WAITS)


def test_every_verdict_against_a_generation_is_explained() -> None:
    kinds = get_args(get_type_hints(Evidence)["kind"])
    assert set(rows("## Why a generation was condemned")) == set(kinds)


def test_every_kind_of_event_is_explained() -> None:
    assert set(rows("## Events")) == EVENTS


def test_every_kind_of_event_happens() -> None:
    code = code_of("planning", "requests", "engine")
    assert {kind for kind in EVENTS - set(FAILED.values()) if f'"{kind}"' not in code} == set()


def test_every_kind_of_error_happens() -> None:
    classes: tuple[type[ReconcilerError], ...] = (
        BuildFailed, BuildUnavailable, DriverError, GuestConflict, ImageError, LedgerError,
        LedgerTooNew, LedgerUnwritable, DeliveryError,
    )  # fmt: skip
    happens = {error.default_kind for error in classes}
    code = code_of("source", "supervisor", "vmm", "image", "children", "engine", "ledger", "notify")
    kinds = (SourceErrorKind, GuestErrorKind, LedgerErrorKind, DeliveryErrorKind)
    all_kinds = {kind for one in kinds for kind in get_args(one)}
    assert {kind for kind in all_kinds - happens if f'"{kind}"' not in code} == set()
    assert happens <= all_kinds


def test_every_trouble_with_a_source_is_explained() -> None:
    assert set(rows("## Source errors")) == set(get_args(SourceErrorKind))


def test_every_trouble_with_a_guest_or_an_image_is_explained() -> None:
    assert set(rows("## Guest and image errors")) == set(get_args(GuestErrorKind))


def test_every_trouble_with_the_ledger_is_explained() -> None:
    assert set(rows("## Ledger errors")) == set(get_args(LedgerErrorKind))


def test_every_trouble_with_a_notification_is_explained() -> None:
    assert set(rows("## Notification errors")) == set(get_args(DeliveryErrorKind))


def test_every_failure_is_a_condition_and_every_condition_an_event() -> None:
    assert {*OPENS, *ENDS} <= EVENTS
    assert {kind for kind in EVENTS if kind.endswith("-failed")} <= set(OPENS)


def test_every_condition_that_is_told_of_is_explained() -> None:
    assert set(rows("## Conditions")) == set(OPENS.values())


def test_every_exit_code_is_explained() -> None:
    assert set(rows("## Exit codes")) == {str(code.value) for code in ExitCode}


def test_every_command_is_explained() -> None:
    commands = {command for group in MODULES.values() for command in group}
    assert {line.split(" ")[0] for line in rows("## Commands")} == commands


def picture(text: str, heading: str) -> list[set[str]]:
    """The first picture of a section whose lines are levels: the names on each."""
    lines = section(text, heading).split("```")[1].strip().splitlines()
    return [{name.strip() for name in line.split("|")} for line in lines]


def test_the_picture_of_the_rooms_says_the_same_as_the_contracts_of_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    contract = [{name.strip() for name in line.split("|")} for line in layers]
    assert picture(DESIGN, "## Rooms") == contract


def test_the_picture_of_the_planner_has_all_its_rooms_and_every_import_points_down() -> None:
    house = House()
    levels = picture(ARCHITECTURE, "## Rooms of the planner")
    level = {name: number for number, names in enumerate(levels) for name in names}
    assert set(level) == house.rooms
    assert [(a, b) for a, b in sorted(house.arrows) if level[a] >= level[b]] == []


def test_the_architecture_gives_every_room_a_line() -> None:
    told = re.findall(r"^\| `([a-z_]+)(?:/|\.py)`", section(ARCHITECTURE, "## Rooms"), re.MULTILINE)
    rooms = {
        path.stem
        for path in (ROOT / "reconciler").iterdir()
        if not path.name.startswith("__") and (path.is_dir() or path.suffix == ".py")
    }
    assert sorted(told) == sorted(rooms)


def test_the_architecture_names_files_that_are_there() -> None:
    named = set(re.findall(r"`([a-z_/]+\.py)`", ARCHITECTURE))
    assert named
    missing = {
        name
        for name in named
        if not (ROOT / name).exists() and not (ROOT / "reconciler" / name).exists()
    }
    assert missing == set()


def test_the_design_has_all_laws() -> None:
    found = re.findall(r"^\| ([0-9]+) \|", section(DESIGN, "## Laws"), re.MULTILINE)
    laws = [int(number) for number in found]
    assert laws == sorted(set(laws))
    assert {*range(1, 16)} <= set(laws)


def test_documents_point_to_tests_by_a_marker_and_not_by_name() -> None:
    named = {
        str(page.relative_to(ROOT)): names
        for page in PAGES
        if (names := re.findall(r"`test_\w+`", page.read_text("utf-8")))
    }
    assert named == {}


def test_tests_that_the_documents_name_are_there() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text())
    }
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_files_that_a_folder_s_readme_names_are_there() -> None:
    """From the root, from the package, or from the README's own folder; NAME stands for a new one."""
    missing = [
        (str(page.relative_to(ROOT)), name)
        for page in READMES
        for name in re.findall(r"`([\w./-]+\.(?:py|md|json|yaml|toml))`", page.read_text("utf-8"))
        if "NAME" not in name
        and not any((at / name).exists() for at in (ROOT, ROOT / "reconciler", page.parent))
    ]
    assert missing == []


def test_decisions_are_numbered_and_have_one_form() -> None:
    numbers = [path.name.split("-")[0] for path in DECISIONS]
    assert len(set(numbers)) == len(numbers), "two pages have one number"
    for path in DECISIONS:
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Choice", "Cost"], path.name
        assert f"decisions/{path.name}" in DESIGN, f"{path.name} is not listed in the design"


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=~!\[ ]", line)[0] for line in project["dependencies"]}
    page = next(path for path in DECISIONS if path.name.startswith("0011"))
    told = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert told == wanted
    extras = {
        re.split(r"[<>=~!\[ ]", one)[0] for one in project["optional-dependencies"]["tracing"]
    }
    page = next(path for path in DECISIONS if path.name.startswith("0013"))
    told = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert told == extras


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    dead = []
    for target in LINK.findall(text):
        path = (page.parent / target.partition("#")[0]).resolve()
        if "://" in target or target.startswith("#") or path.exists():
            continue
        dead.append(target)
    assert dead == []


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_heading_find_it(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    dead = []
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        at = (page.parent / path).resolve() if path else page
        if anchor and "://" not in target and anchor not in anchors(at):
            dead.append(target)
    assert dead == []


def test_the_index_of_the_operations_leads_to_every_page() -> None:
    linked = {
        (INDEX.parent / target).resolve() for target in LINK.findall(INDEX.read_text("utf-8"))
    }
    assert set(OPERATIONS) <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    """A bare `|`, also between backticks, is the end of a cell."""
    cells, odd = 0, []
    for line in re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL).splitlines():
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if found and cells and found != cells:
            odd.append(line)
        cells = found and (cells or found)
    assert odd == []


def test_commands_that_the_documents_name_are_there() -> None:
    commands = {command for group in MODULES.values() for command in group}
    named = {
        name
        for page in PAGES
        for name in re.findall(r"`reconciler ([a-z][a-z-]*)", page.read_text("utf-8"))
    }
    assert named - commands == set()


def test_pictures_are_small_and_shown_somewhere() -> None:
    pictures = sorted((ROOT / "docs/images").iterdir())
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > MOST_PICTURE_BYTES] == []
    assert [path.name for path in pictures if f"images/{path.name}" not in text] == []


def test_pages_stay_short_enough_to_be_read() -> None:
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in MOST_LINES}
    lengths |= {path.name: len(path.read_text().splitlines()) for path in DECISIONS}
    lengths |= {f"operations/{p.name}": len(p.read_text().splitlines()) for p in OPERATIONS}
    bounds = {**MOST_LINES, **dict.fromkeys((p.name for p in DECISIONS), MOST_DECISION_LINES)}
    bounds |= dict.fromkeys((f"operations/{p.name}" for p in OPERATIONS), MOST_OPERATIONS_LINES)
    assert {name: n for name, n in lengths.items() if n > bounds[name]} == {}
