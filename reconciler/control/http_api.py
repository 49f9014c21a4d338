"""The control API: what people and scripts may ask over the unix socket, all of it under /v1."""

from __future__ import annotations

import asyncio

from aiohttp import web

from reconciler.clock import Clock
from reconciler.control.access import Access
from reconciler.control.console_tail import ConsoleReader
from reconciler.control.describe import history_answer, plan_answer, vm_answer, why_answer
from reconciler.control.error_responses import BadQuestionError, NotFoundError, json_answer
from reconciler.control.listener import Callers
from reconciler.control.reports import DiffAnswer, EventsAnswer, ProbesAnswer
from reconciler.control.request_bodies import (
    RECONCILE,
    REQUEST,
    CheckQuery,
    DiffQuery,
    EventsQuery,
    ImageQuery,
    ImagesQuery,
    LogsQuery,
    NoQuery,
    PlanQuery,
    Q,
    parse_body,
    parse_query,
)
from reconciler.control.responses import DoneAnswer, TokenAnswer, VersionAnswer, version
from reconciler.control.streams import Followers, check_lines, console_pieces, event_lines
from reconciler.engine.api import EngineAPI
from reconciler.errors import RequestRefused
from reconciler.model.names import NAME_RE, GenerationNumber, VMName
from reconciler.model.record import VMRecord
from reconciler.model.status import HostStatus, VMStatus

BODY_SECONDS = 10.0
"""How long a peer may take to send a body of at most 64 KiB over a local socket."""


class Api:
    """Handlers only: they parse, ask the operator, and serialize."""

    def __init__(
        self, operator: EngineAPI, clock: Clock, followers: Followers, access: Access
    ) -> None:
        self._operator = operator
        self._access = access
        self._clock = clock
        self._followers = followers
        self._callers = Callers()

    def routes(self) -> list[web.RouteDef]:
        """All routes, for an aiohttp application."""
        return [
            web.get("/v1/version", self.version, allow_head=False),
            web.get("/v1/token", self.token, allow_head=False),
            web.get("/v1/status", self.status, allow_head=False),
            web.get("/v1/vms/{vm}", self.vm, allow_head=False),
            web.get("/v1/why/{vm}", self.why, allow_head=False),
            web.get("/v1/plan", self.plan, allow_head=False),
            web.get("/v1/history/{vm}", self.history, allow_head=False),
            web.get("/v1/probes/{vm}", self.probes, allow_head=False),
            web.get("/v1/diff/{vm}", self.diff, allow_head=False),
            web.get("/v1/images", self.images, allow_head=False),
            web.get("/v1/image", self.image, allow_head=False),
            web.get("/v1/check-images", self.check_images, allow_head=False),
            web.get("/v1/events", self.events, allow_head=False),
            web.get("/v1/logs/{vm}", self.logs, allow_head=False),
            web.post("/v1/reconcile", self.reconcile),
            web.post("/v1/request", self.request),
        ]

    async def version(self, request: web.Request) -> web.Response:
        """`GET /v1/version`: a VersionAnswer."""
        _query(request, NoQuery)
        return json_answer(VersionAnswer(version()))

    async def token(self, request: web.Request) -> web.Response:
        """`GET /v1/token`: the tokens that read the TCP listener. A client of this socket may read everything anyway."""
        _query(request, NoQuery)
        read, metrics = self._access.token("read"), self._access.token("metrics")
        return json_answer(TokenAnswer(read, metrics))

    async def status(self, request: web.Request) -> web.Response:
        """`GET /v1/status`: the HostStatus of the newest pass."""
        _query(request, NoQuery)
        return json_answer(self._operator.status())

    async def vm(self, request: web.Request) -> web.Response:
        """`GET /v1/vms/VM`: a VMAnswer. Raises NotFoundError."""
        fleet, vm, record = self._look(request)
        return json_answer(vm_answer(fleet, vm, record, self._operator.builds(vm.name)))

    async def why(self, request: web.Request) -> web.Response:
        """`GET /v1/why/VM`: a WhyAnswer. Raises NotFoundError."""
        fleet, vm, record = self._look(request)
        advice, builds = self._operator.advice(vm.name), self._operator.builds(vm.name)
        return json_answer(why_answer(fleet, vm, record, advice, builds))

    async def plan(self, request: web.Request) -> web.Response:
        """`GET /v1/plan`: what the next pass would do; with `ref`, what that commit would change.

        Raises SourceError and ManifestErrors for a `ref` that cannot be read.
        """
        query = _query(request, PlanQuery)
        plan = await self._followers.unless_closing(self._operator.plan(query.ref))
        return json_answer(
            plan_answer(
                plan, self._clock.now(), self._operator.status(), preview=query.ref is not None
            )
        )

    async def history(self, request: web.Request) -> web.Response:
        """`GET /v1/history/VM`: a HistoryAnswer. Raises NotFoundError."""
        _query(request, NoQuery)
        return json_answer(history_answer(self._record(_vm_name(request))))

    async def probes(self, request: web.Request) -> web.Response:
        """`GET /v1/probes/VM`: the newest rounds of checks. Raises NotFoundError."""
        _query(request, NoQuery)
        name = _vm_name(request)
        self._record(name)
        return json_answer(ProbesAnswer(name, self._operator.probes(name)))

    async def diff(self, request: web.Request) -> web.Response:
        """`GET /v1/diff/VM?a=N&b=N`: the fields that differ between two generations."""
        query = _query(request, DiffQuery)
        name = _vm_name(request)
        a, b = GenerationNumber(query.a), GenerationNumber(query.b)
        return json_answer(DiffAnswer(name, a, b, self._operator.difference(name, a, b)))

    async def images(self, request: web.Request) -> web.Response:
        """`GET /v1/images`: a StoreReport; with `vm`, of what the desired state of this VM names."""
        vm = _query(request, ImagesQuery).vm
        return json_answer(self._operator.images(None if vm is None else VMName(vm)))

    async def image(self, request: web.Request) -> web.Response:
        """`GET /v1/image?name=KEY|TITLE`: its ImageUses. Raises RequestRefused."""
        return json_answer(self._operator.image_uses(_query(request, ImageQuery).name))

    async def check_images(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/check-images`: ImageChecks as JSON lines, until all are read. Raises BusyError."""
        checks = self._operator.check_images(_query(request, CheckQuery).name)
        pieces = check_lines(checks, self._followers)
        return await self._followers.stream(request, "application/x-ndjson", pieces)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/events`: an EventsAnswer; with `follow`, JSON lines without an end. Raises BusyError."""
        query = _query(request, EventsQuery)
        if query.after is None:
            found = await self._operator.latest_events(query.limit)
        else:
            found = await self._operator.events(query.after, query.limit)
        if not query.follow:
            return json_answer(EventsAnswer(tuple(found)))
        pieces = event_lines(self._operator, found, query.after or 0, self._followers)
        return await self._followers.stream(request, "application/x-ndjson", pieces)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/logs/VM`: the end of the console as bytes; with `follow`, also what is added."""
        query = _query(request, LogsQuery)
        name = _vm_name(request)
        self._record(name)
        path = self._operator.console(name, beside=query.candidate)
        if query.candidate and not path.exists():
            why = f"{name} has no candidate, and had none"
            raise NotFoundError(why, hint="only `update.strategy: handover` has candidates")
        reader = ConsoleReader(path)
        if not query.follow:
            tail = reader.tail(query.lines)
            return web.Response(body=tail, content_type="application/octet-stream")
        pieces = console_pieces(reader, query.lines, self._followers)
        return await self._followers.stream(request, "application/octet-stream", pieces)

    async def reconcile(self, request: web.Request) -> web.Response:
        """`POST /v1/reconcile`: look at the source now; with `wait`, answer when the result is known."""
        body = parse_body(RECONCILE, await _read(request))
        work = self._operator.reconcile(wait=body.wait, timeout=body.timeout, subject=body.subject)
        return json_answer(await self._followers.unless_closing(work))

    async def request(self, request: web.Request) -> web.Response:
        """`POST /v1/request`: carry out one request, and answer with what was done. Raises RequestRefused."""
        wanted = parse_body(REQUEST, await _read(request))
        words = await self._operator.request(wanted, by=await self._callers.of(request))
        return json_answer(DoneAnswer(words))

    def _look(self, request: web.Request) -> tuple[HostStatus, VMStatus, VMRecord | None]:
        """The fleet, and of the VM that is asked about its status and what is remembered."""
        _query(request, NoQuery)
        name = _vm_name(request)
        fleet = self._operator.status()
        found = next((vm for vm in fleet.vms if vm.name == name), None)
        if found is None:
            self._record(name)  # knows the nearest names
            raise NotFoundError(f"{name} is not in the desired state any more")
        return fleet, found, self._record_if_any(name)

    def _record(self, name: VMName) -> VMRecord:
        try:
            return self._operator.vm_record(name)
        except RequestRefused as error:
            raise NotFoundError(str(error), hint=error.hint) from error

    def _record_if_any(self, name: VMName) -> VMRecord | None:
        """None: declared, but nothing was done for it yet."""
        try:
            return self._operator.vm_record(name)
        except RequestRefused:
            return None


def _vm_name(request: web.Request) -> VMName:
    name = request.match_info["vm"]
    if not NAME_RE.fullmatch(name):
        raise NotFoundError("that is no name of a VM", hint="`reconciler status` lists them")
    return VMName(name)


def _query(request: web.Request, shape: type[Q]) -> Q:
    pairs = request.query
    if len(set(pairs)) != len(pairs):
        raise BadQuestionError("query: a parameter is given twice")
    return parse_query(shape, dict(pairs))


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise BadQuestionError("the body did not come in time") from error
