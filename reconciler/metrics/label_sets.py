"""The values that labels may have: closed sets, so that the number of series is bounded.

A counter has each of its values from the start with 0, or rate() would miss the first increment.
"""

from __future__ import annotations

from typing import get_args, get_type_hints

from reconciler.model.actions import OutcomeKind
from reconciler.model.image import StoredKind
from reconciler.model.record import Evidence
from reconciler.model.revision_result import Conclusion
from reconciler.model.status import RolloutState, SyncState, VMState
from reconciler.model.store_status import CheckResult, ImageState
from reconciler.model.waits import WaitKind

FETCH_RESULTS = ("updated", "unchanged", "error")
SOURCE_REASONS = (
    "auth", "network", "timeout", "verify", "ancestry", "corrupt", "limit", "missing", "empty", "unsupported", "unknown", "parse",
)  # fmt: skip
PASS_RESULTS = ("noop", "changed", "error", "blocked", "suspended")
ACTIONS = get_args(OutcomeKind)
GAP_CAUSES = ("planned", "unplanned")
DRIFTS = ("guest", "image")
"""What was found other than it was left."""
COLLECT_RESULTS = ("succeeded", "failed")
CHECK_RESULTS = tuple(result for result in get_args(CheckResult) if result)
IMAGE_KINDS: tuple[StoredKind, ...] = get_args(StoredKind)
IMAGE_STATES: tuple[ImageState, ...] = get_args(ImageState)
BUILD_RESULTS = ("built", "differs", "cached", "failed", "unavailable", "cancelled")
PROBE_RESULTS = ("success", "failure", "error")
ROLLOUT_RESULTS = ("succeeded", "failed")
PHASES = ("prepare", "snapshot", "stop", "start", "restore", "probe", "soak")
STATE_OPERATIONS = ("open", "write", "read")
NOTIFICATION_RESULTS = ("delivered", "failed", "dropped")
COMPONENTS = ("source", "planner")
GIT_SERVERS = ("github", "gitea", "gitlab", "bitbucket")
NO_WEBHOOK = ("unknown", "malformed")
"""All that can be said of a request that is no known server's."""
WEBHOOK_RESULTS = (
    "accepted", "bad_signature", "too_large", "rate_limited", "ignored", "malformed",
)  # fmt: skip

VM_STATES = tuple(state for state in get_args(VMState) if state != "unknown")
SYNC_STATES = tuple(state for state in get_args(SyncState) if state != "unknown")
"""Of a VM of which it is unknown none is 1: a VM may have 30 series, and the others say more."""
WAIT_KINDS: tuple[str, ...] = get_args(WaitKind)
ROLLOUT_STATES: tuple[str, ...] = get_args(RolloutState)
ROLLBACK_REASONS = (*get_args(get_type_hints(Evidence)["kind"]), "requested")
ROLLBACK_RESULTS = ("succeeded", "failed")
ROLLBACKS = tuple((reason, result) for reason in ROLLBACK_REASONS for result in ROLLBACK_RESULTS)
RESULTS: tuple[str, ...] = get_args(Conclusion)
RESTART_REASONS = ("crash", "rollout", "rollback", "manual")
"""Present for every VM from the start; another reason that the record names is added to them."""
