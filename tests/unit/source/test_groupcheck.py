"""What a group's policy gets wrong about its members, and about this host; on real commits."""

from __future__ import annotations

import pytest

from reconciler.errors import ManifestErrors
from reconciler.model.desired import DesiredState
from reconciler.model.names import GroupName
from tests.unit.source.repositories import InProcess, Repository, group, vm

SLOW = "health: {startupDeadline: 5m, minHealthyTime: 10s}"
G = GroupName("g")
QUICK = "health: {startupDeadline: 30s, minHealthyTime: 5s}"


@pytest.fixture
def fleet(repository: Repository) -> FleetOf:
    return FleetOf(repository)


class FleetOf:
    """A quick and a slow member, and a group with this policy."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def state(self, policy: str) -> DesiredState:
        members = {
            "a.yaml": vm("a", spec=QUICK, group="g"),
            "b.yaml": vm("b", spec=SLOW, group="g"),
            "c.yaml": vm("c", spec="health: {startupDeadline: 24h}"),
        }
        return InProcess(self._repository).read({**members, "g.yaml": group("g", policy)})

    async def problems(self, policy: str) -> list[str]:
        with pytest.raises(ManifestErrors) as caught:
            await self.state(policy)
        return [str(problem) for problem in caught.value.problems]


async def test_a_rollout_has_more_time_than_its_slowest_member(fleet: FleetOf) -> None:
    (problem,) = await fleet.problems("{progressDeadline: 310s}")
    assert problem == (
        "g.yaml:4:26: spec.progressDeadline: 310s is not longer than startupDeadline and"
        " minHealthyTime of b (more than 310s, or lower those at b.yaml:6:11)"
    )
    assert (await fleet.state("{progressDeadline: 311s}")).group(G).progress_deadline == 311.0


async def test_a_rollout_has_time_for_its_canaries_to_soak(fleet: FleetOf) -> None:
    policy = "{canary: [a], canarySoak: 10m, progressDeadline: %s}"
    (problem,) = await fleet.problems(policy % "10m")
    assert (
        "10m is not longer than canarySoak and startupDeadline and minHealthyTime of b" in problem
    )
    assert "(more than 910s, or" in problem
    assert (await fleet.state(policy % "16m")).group(G).canary_soak == 600.0


async def test_a_deadline_of_a_group_without_members_is_nobodys_trouble(
    repository: Repository,
) -> None:
    files = {"g.yaml": group("g", "{progressDeadline: 1s}"), "a.yaml": vm("a")}
    assert InProcess(repository).read(files).vms


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Europe", "did you mean Europe/Rome?"),
        ("Qqqq/Xxxx", "is the package tzdata installed?"),
        ("tzdata.zi", "a name of the IANA database: Europe/Berlin"),
    ],
)
async def test_a_zone_that_this_host_does_not_know_is_refused_at_its_place(
    fleet: FleetOf, zone: str, hint: str
) -> None:
    deny = f'{{windows: [{{deny: {{cron: "0 2 * * *", duration: 2h, timeZone: {zone}}}}}]}}'
    (problem,) = await fleet.problems(deny)
    assert problem.startswith("g.yaml:4:69: spec.windows[0].deny.timeZone: ")
    assert problem.endswith(f"({hint})")


async def test_windows_of_known_zones_are_taken(fleet: FleetOf) -> None:
    allow = '{windows: [{allow: {cron: "30 2 * * *", duration: 1h, timeZone: Europe/Berlin}}]}'
    (window,) = (await fleet.state(allow)).group(G).windows
    assert (window.allow, window.time_zone) == (True, "Europe/Berlin")
