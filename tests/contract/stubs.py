"""One more kind behind each seam, as a newcomer would add it: its values, and what does the work.

The contract suites run on these through the registries, beside the kinds of the product.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from reconciler.clock import Clock
from reconciler.config import KernelsConfig, PolicyConfig, SinkConfig, SourceConfig
from reconciler.errors import DeliveryError
from reconciler.image.build_site import BuildSite
from reconciler.image.layer_input import LayerInput
from reconciler.image.registry import INPUTS, InputKinds
from reconciler.model.checks import Purpose
from reconciler.model.fields import FieldConflict
from reconciler.model.health import ProbeResult
from reconciler.model.layer_kinds.described_source import LayerPolicy, StoreFormat
from reconciler.notify.message import Message
from reconciler.notify.registry import SINKS, SinkKinds
from reconciler.notify.sink_interface import Sink
from reconciler.probe.asker import AskedGuest
from reconciler.probe.registry import ASKERS, AskerKinds
from reconciler.spans import Tracer
from tests.fakes.source import FakeSource

ENDLESS = "endless"
"""The text of a layer whose build does not end."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """A layer of one file, whose text stands in the manifest."""

    text: str
    kind: Literal["text"] = "text"
    brings_init: ClassVar[bool] = False
    default_format: ClassVar[StoreFormat] = "erofs"
    needs_contract: ClassVar[int] = 1
    folders: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = "text"

    def resolved(self, _ids: tuple[str, ...], /) -> TextSource:
        return self

    def refusal(self, policy: LayerPolicy, /) -> FieldConflict | None:
        if self.text.startswith("/") and self.text not in policy.host_paths:
            return FieldConflict(("text",), f"{self.text} is not allowed", "policy.host_paths")
        return None

    @property
    def key_inputs(self) -> Mapping[str, str]:
        return {"kind": self.kind, "text": self.text}


async def build_text(source: TextSource, site: BuildSite) -> None:
    site.folder.mkdir()
    (site.folder / "0").write_text(source.text)
    if source.text == ENDLESS:
        await asyncio.Event().wait()
    await site.make_image(len(source.text))


LAYER_INPUTS: InputKinds = {**INPUTS, "text": LayerInput(build_text, seconds=30.0)}


@dataclass(frozen=True, slots=True)
class ConsoleCheck:
    """A text that the guest must have printed; a kind without a timeout, for it waits for no guest."""

    text: str
    purpose: Purpose = "readiness"
    kind: Literal["console"] = "console"


class ConsoleAsker:
    async def ask(self, check: ConsoleCheck, guest: AskedGuest) -> tuple[ProbeResult, str]:
        printed = (await guest.console()).text
        found = check.text in printed
        return ("success", "printed") if found else ("failure", f"no {check.text!r} on the console")

    async def close(self) -> None:
        """It holds nothing open."""


CHECKS: AskerKinds = {**ASKERS, "console": ConsoleAsker}


class MemoryConfig(SourceConfig):
    """Of a source that a test fills."""


class MemorySource(FakeSource):
    def __init__(self) -> None:
        super().__init__()
        self.is_open = False

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


def make_memory_source(
    _config: MemoryConfig, _policy: PolicyConfig, _kernels: KernelsConfig, _folder: Path,
    _clock: Clock, _tracer: Tracer,
) -> MemorySource:  # fmt: skip
    return MemorySource()


class FileConfig(SinkConfig):
    """Of a sink that appends lines to a file."""

    type: Literal["file"]
    path: str


class FileSink:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, message: Message) -> None:
        if self._path.with_name("full").exists():
            raise DeliveryError("the file takes nothing like it", kind="refused")
        try:
            with self._path.open("a") as file:
                file.write(json.dumps({"id": message.id}) + "\n")
        except OSError as error:
            raise DeliveryError(f"{self._path}: {error.strerror}", kind="network") from None

    async def close(self) -> None:
        """It holds nothing open."""


def open_file_sink(config: FileConfig, _clock: Clock) -> Sink:
    return FileSink(Path(config.path))


SINK_KINDS: SinkKinds = {**SINKS, FileConfig: open_file_sink}
