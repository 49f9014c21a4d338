"""A dict that counts its changes: what was derived from it is made again only when the count differs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def _counted(change: Callable[..., Any]) -> Any:
    @wraps(change)
    def counted(self: CountedDict[Any, Any], *given: Any, **named: Any) -> Any:
        self.changes += 1
        return change(self, *given, **named)

    return counted


class CountedDict(dict[K, V]):
    """`changes` grows whenever something may have changed, and never else."""

    changes = 0

    __setitem__ = _counted(dict.__setitem__)
    __delitem__ = _counted(dict.__delitem__)
    __ior__ = _counted(dict.__ior__)
    clear = _counted(dict.clear)
    pop = _counted(dict.pop)
    popitem = _counted(dict.popitem)
    setdefault = _counted(dict.setdefault)
    update = _counted(dict.update)
