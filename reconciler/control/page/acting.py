"""The one route that changes something. It needs a token that acts, so there is none without `http.token_file`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from markupsafe import Markup

from reconciler.control.access import Access, Right, includes
from reconciler.control.error_responses import BadQuestionError, ThrottledError, json_answer
from reconciler.control.page.forms import actions, back_to, fields_of, only_reading, same_origin
from reconciler.control.request_bodies import parse_form
from reconciler.engine.api import EngineAPI
from reconciler.errors import LedgerError, RequestRefused
from reconciler.model.names import VMName
from reconciler.model.record import VMRecord

OPERATIONS = frozenset(("retry", "rollback", "promote", "suspend", "resume"))
"""What the page offers of all that the control socket takes."""
MOST_ACTIONS, PERIOD = 30, 60.0
"""Actions of all sessions together, within so many seconds."""
PATH = "/act"


class Acting:
    """Forms beside a page, and what they ask; the script sends them with its session."""

    def __init__(self, operator: EngineAPI, access: Access, seconds: Callable[[], float]) -> None:
        self._operator = operator
        self._access = access
        self._seconds = seconds
        self._at: list[float] = []
        """When the last actions were."""

    def beside(self, right: Right | None, query: Mapping[str, str]) -> Markup:
        """What stands beside a page."""
        if not includes(right, "act"):
            return only_reading(acts=self._access.acts)
        record = self._record(query.get("name", "")) if query.get("view") == "vm" else None
        return actions(query, record)

    async def act(self, request: web.Request) -> web.Response:
        """`POST /act`: a form as JSON `{message, done, back}`, `back` being the page to show next."""
        same_origin(request)
        fields = await fields_of(request)
        self._pace()
        message, done = await self._do(fields)
        groups = frozenset(str(group.name) for group in self._operator.status().groups)
        return json_answer({"message": message, "done": done, "back": back_to(fields, groups)})

    def _pace(self) -> None:
        """Raises ThrottledError."""
        since = self._seconds() - PERIOD
        self._at = [moment for moment in self._at if moment > since]
        if len(self._at) >= MOST_ACTIONS:
            raise ThrottledError("too many actions within a minute", hint="wait")
        self._at.append(self._seconds())

    async def _do(self, fields: dict[str, str]) -> tuple[str, bool]:
        """What was done, in words; or why it was not."""
        if fields.get("op") not in OPERATIONS:
            raise BadQuestionError("the page does not offer this")
        request = parse_form(fields)
        try:
            return await self._operator.request(request, by="page"), True
        except (RequestRefused, LedgerError) as error:
            return f"{error}{f' ({error.hint})' if error.hint else ''}", False

    def _record(self, name: str) -> VMRecord | None:
        try:
            return self._operator.vm_record(VMName(name))
        except RequestRefused:
            return None
