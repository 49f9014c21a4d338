"""People who ask what changes see what changes inside of a layer, as soon as it is built; the planner needs none of it."""

from __future__ import annotations

from dataclasses import replace

from reconciler.engine.image_views import ImageViews
from reconciler.model.desired import VMSpec
from reconciler.model.image_contents import ExposedPort, LayerContents
from reconciler.model.layer_kinds.debian_layer import DebianSource
from reconciler.model.layer_kinds.oci_layer import OciSource
from reconciler.model.layers import LayerSpec
from reconciler.model.names import LayerKey, VMName, digest_of
from reconciler.model.plan import FieldChange
from reconciler.planning.diff import differences
from tests.world import World, changed, state, vm

OLD = LayerSpec.of(DebianSource("bookworm", ("nginx-light",)))
NEW = LayerSpec.of(DebianSource("bookworm", ("nginx-light",), refresh="2026-11-30"))
LATER = "packages: known after the build"
NEWER = "nginx 1.22.1-9 -> 1.22.1-10"


def parts_of(key: LayerKey) -> tuple[LayerKey, ...]:
    return (LayerKey(digest_of({"part": key})),)


def web(layer: LayerSpec) -> VMSpec:
    return changed(vm("web"), layers=(layer,))


async def running() -> World:
    world = World()
    world.images.composed = parts_of
    world.images.contents = {
        OLD.key: LayerContents({"nginx": "1.22.1-9"}),
        NEW.key: LayerContents({"nginx": "1.22.1-10"}),
    }
    await world.push(state(web(OLD)))
    await world.settle()
    return world


def planned(world: World, views: ImageViews) -> FieldChange:
    """The only change of the newest plan, as people see it."""
    assert world.reconciler.passed is not None
    (change,) = views.explained(world.reconciler.passed.plan).differences[VMName("web")]
    return change


async def test_a_plan_says_that_versions_are_known_after_the_build_and_then_which() -> None:
    world = await running()
    views = ImageViews(world.adapters, world.reconciler, world.policy)
    world.images.slow = lambda key: 60.0 if key == NEW.key else 0.0
    await world.push(state(web(NEW)))
    await world.run(10)
    assert planned(world, views).inside == (LATER,)
    while NEW.key not in world.images.layers():
        await world.run(1)
    await world.step()
    assert planned(world, views).inside == (NEWER,)


async def test_two_generations_are_compared_while_both_are_in_the_store() -> None:
    world = await running()
    views = ImageViews(world.adapters, world.reconciler, world.policy)
    await world.push(state(web(NEW)))
    await world.settle()
    both = tuple(world.generation("web", number).spec for number in (1, 2))
    (change,) = views.inside(differences(*both))
    assert change.inside == (NEWER,)
    assert [str(one) for one in differences(*both)] == [str(replace(change, inside=()))]


async def test_ports_of_an_image_are_advice_once_it_is_in_the_store_and_change_nothing() -> None:
    image = LayerSpec.of(OciSource("linux/amd64", layout="./app", tree="a" * 40))
    world = World()
    world.images.composed = parts_of
    world.images.contents = {image.key: LayerContents(exposed=(ExposedPort(8080),))}
    views = ImageViews(world.adapters, world.reconciler, world.policy)
    name = VMName("web")
    assert views.advice(name) == ()
    world.images.slow = lambda key: 60.0 if key == image.key else 0.0
    await world.push(state(changed(vm("web", port=8080), layers=(image,))))
    await world.run(10)
    assert views.advice(name) == ()
    await world.settle()
    (advice,) = views.advice(name)
    assert advice.field == "spec.interfaces[0].forward[0].guest"
    assert advice.message == "the image does not expose 80/tcp, but 8080/tcp"
    assert views.advice(VMName("db")) == ()
    assert world.last_good("web").verdict == "committed"


async def test_the_same_plan_is_explained_once() -> None:
    world = await running()
    views = ImageViews(world.adapters, world.reconciler, world.policy)
    assert world.reconciler.passed is not None
    plan = world.reconciler.passed.plan
    assert views.explained(plan) is views.explained(plan)
