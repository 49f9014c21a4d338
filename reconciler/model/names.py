"""Names and numbers that must not be mixed up."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NewType

VMName = NewType("VMName", str)
GroupName = NewType("GroupName", str)
Revision = NewType("Revision", str)
"""A git commit id, 40 hex digits."""
Digest = NewType("Digest", str)
"""sha256 in hex."""
GenerationNumber = NewType("GenerationNumber", int)
"""Counts from 1 for each VM, and never decreases."""
InstanceId = NewType("InstanceId", str)
"""Identifies one start of one guest; visible to the guest and in its process's environment."""
LayerKey = NewType("LayerKey", str)
"""sha256 of a layer's inputs: equal keys mean equal content."""
KernelKey = NewType("KernelKey", str)
"""sha256 of a kernel bundle's inputs."""

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"
NAME_RE = re.compile(NAME_PATTERN)


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of plain data: sorted keys, no spaces."""
    # Canonical, because digests are stored and compared with those of other versions.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
