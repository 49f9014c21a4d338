"""Whatever a manifest may hold comes back as it was written; whatever else it holds is refused."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hypothesis import given, settings, strategies as st

from reconciler.model import manifest
from reconciler.model.quantity import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from reconciler.source.manifests import yaml_reader
from reconciler.source.manifests.parse import parse_file
from reconciler.source.manifests.yaml_builder import DocumentRefused

# PyYAML writes YAML 1.1, in which `0e0`, `0o7` and `08` are texts that need no quotes.
NUMBERS_SINCE_1_2 = re.compile(r"[0-9]+e-?[0-9]+|0o[0-7]+|0[0-9]+")
names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True).filter(
    lambda name: not NUMBERS_SINCE_1_2.fullmatch(name)
)
durations = st.integers(1, 86_400_000).map(lambda ms: format_duration(ms / 1000))
sizes = st.integers(1, 16 * 1024 * 1024).map(format_size)
memories = st.integers(manifest.LEAST_MEMORY_MIB, 16 * 1024 * 1024).map(format_size)
ports = st.integers(1, 65535)


@st.composite
def probes(draw: st.DrawFn, forwarded: list[int]) -> dict[str, Any]:
    if not forwarded:
        return {"process": {}}
    port = draw(st.sampled_from(forwarded))
    low = draw(st.integers(100, 599))
    http = {
        "port": port,
        "path": "/" + draw(names),
        "status": f"{low}-{draw(st.integers(low, 599))}",
    }
    return draw(st.sampled_from([{"http": http}, {"tcp": {"port": port}}, {"process": {}}]))


@st.composite
def machines(draw: st.DrawFn) -> dict[str, Any]:
    hosts = draw(st.lists(ports, max_size=4, unique=True))
    volumes = draw(st.lists(names, max_size=3, unique=True))
    name = draw(names)
    return {
        "apiVersion": manifest.API_VERSION,
        "kind": "MicroVM",
        "metadata": {"name": name, "labels": draw(st.dictionaries(names, names, max_size=3))},
        "spec": {
            "vcpu": draw(st.integers(1, 255)),
            "memory": draw(memories),
            "store": {
                "format": draw(st.sampled_from(["erofs", "squashfs"])),
                "layers": [{"busybox": {}}, *({"tree": f"./{n}"} for n in draw(st.lists(names, max_size=3)))],
            },
            "volumes": [
                {"name": volume, "mountPoint": f"/srv/{volume}", "size": draw(sizes)} for volume in volumes
            ],
            "interfaces": [{"type": "user", "forward": [{"host": h, "guest": draw(ports)} for h in hosts]}],
            "health": {
                "startupDeadline": "24h",
                "period": "1h",
                "checks": draw(st.lists(probes(hosts), max_size=3)),
            },
            "update": {
                "after": [n for n in draw(st.lists(names, max_size=3, unique=True)) if n != name],
                "stopTimeout": draw(durations),
            },
        },
    }  # fmt: skip


@given(machines())
def test_a_manifest_comes_back_as_it_was_written(data: dict[str, Any]) -> None:
    face = manifest.parse("MicroVM", data)
    written = face.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert manifest.parse("MicroVM", written) == face
    assert {**written["spec"], **data["spec"]}.keys() == written["spec"].keys()


@given(machines())
def test_yaml_and_its_resolution_lose_nothing(data: dict[str, Any]) -> None:
    content = yaml.safe_dump(data).encode()
    parsed = parse_file(content)
    assert not parsed.faults
    assert parse_file(content) == parsed
    (draft,) = parsed.drafts
    assert draft.spec.name == data["metadata"]["name"]


@given(machines(), st.data())
def test_an_unknown_field_anywhere_is_refused_at_its_place(
    data: dict[str, Any], draw: st.DataObject
) -> None:
    mappings = [data, data["metadata"], data["spec"], data["spec"]["store"], data["spec"]["update"]]
    draw.draw(st.sampled_from(mappings))["zzUnknown"] = 1
    lines = yaml.safe_dump(data).splitlines()
    (fault,) = parse_file("\n".join(lines).encode()).faults
    assert "zzUnknown: unknown field" in fault.message
    assert lines[fault.line - 1][fault.col - 1 :].startswith("zzUnknown")


@settings(max_examples=300)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="{}[]:,-&*!|>'\"% \n\tab01#?~", max_size=120).map(str.encode)
)
def test_any_bytes_end_in_a_value_or_in_faults_with_places(content: bytes) -> None:
    reading = yaml_reader.examine(content)
    assert all(fault.line >= 1 and fault.col >= 1 for fault in reading.faults)
    try:
        data = yaml_reader.read(content)
    except DocumentRefused:
        assert reading.faults
    else:
        assert not reading.faults
        assert data == [document.data for document in reading.documents]
    parse_file(content)


@given(st.integers(0, 86_400_000))
def test_durations_come_back(ms: int) -> None:
    assert round(parse_duration(format_duration(ms / 1000)) * 1000) == ms


@given(st.integers(1, 16 * 1024 * 1024))
def test_sizes_come_back(mib: int) -> None:
    assert parse_size(format_size(mib)) == mib
