"""What ends each kind of wait, and who has to do it: for people who have read nothing."""

from __future__ import annotations

BY_ITSELF, YOU = "ends by itself", "waits for you"

ADVICE: dict[str, str] = {
    "budget": f"{BY_ITSELF} when a VM named is healthy again; if that one is stuck, mend it",
    "dependency": f"{BY_ITSELF} when the VM named is healthy at its desired generation",
    "hold": f"{YOU}: push a fix, or `reconciler retry` the VM that failed",
    "suspended": f"{YOU}: `reconciler resume`, with the name of what is suspended; or its time is over",
    "blocked": f"{YOU}: push a fix, or `reconciler retry {{vm}}` if the cause lay elsewhere",
    "broken": f"{YOU}: push a fix, or `reconciler retry {{vm}}` if the cause lay elsewhere",
    "image": f"{BY_ITSELF} when it is built; no guest is stopped before that",
    "build": f"{BY_ITSELF}: it is tried again after a pause",
    "backoff": f"{BY_ITSELF}: it is started again after a pause; `reconciler logs {{vm}}` has the cause",
    "busy": f"{BY_ITSELF}: each step has a deadline",
    "port": "looked at every 5 s: end what has it (`ss -anp` names it), or push another port",
    "memory": "looked at every 5 s: free memory of the host, or push a smaller spec.memory",
    "disk": "looked at every 5 s: free space under the daemon's state_dir",
    "conflict": f"{YOU}: look at the process named; it is never ended for you",
    "quarantine": f"{YOU}: push a fix, `reconciler retry {{vm}}`, or `reconciler rollback {{vm}} --to N`",
    "prune": f"{YOU}: it runs on until what is named allows its removal",
    "kept": f"{YOU}: it runs on; `reconciler remove {{vm}}` removes it alone, source.prune all that leave",
    "starting": f"{BY_ITSELF}: its checks pass, or at the deadline it goes back to the last good one",
    "soak": f"{BY_ITSELF}: it stays healthy for so long, or goes back to the last good one",
    "checks": f"{BY_ITSELF}: changed checks replace the present ones, or are refused; no guest is stopped",
    "probe": f"{BY_ITSELF} when its checks can be asked; nothing is concluded meanwhile",
    "rollback": f"{BY_ITSELF}: the last good generation is healthy, or it waits for a person (quarantine)",
    "pinned": f"{YOU}: `reconciler resume {{vm}}`, or push a change",
    "window": f"{BY_ITSELF} when a window opens; what is down is mended all the same",
    "approval": f"{YOU}: `reconciler promote {{group}}`",
    "breaker": f"{BY_ITSELF} within the hour: many changes failed, so look at the host",
    "repair": f"{BY_ITSELF}, one VM after the other: many fail at once, so look at the host",
    "rename": f"{BY_ITSELF} when its images are ready and its turn has come",
    "moved-from": f"{YOU}: push the name that the VM really had, or remove metadata.movedFrom",
    "burst": f"{BY_ITSELF} within 30 s; the guest is not stopped for what is overtaken already",
    "crash-loop": f"{BY_ITSELF} when it has been steady for a minute; `reconciler logs {{vm}}` has the cause",
    "readiness": f"{BY_ITSELF} when its checks pass: see what the guest lacks; `purpose: liveness` restarts it",
    "ended": f"{YOU}: `reconciler restart {{vm}}`, or a push; a boot of the host starts it, too",
    "network": "looked at every 5 s: mend what is named; nothing is stopped meanwhile",
}


def advice(kind: str, vm: str, group: str | None) -> str:
    """Nothing for a kind that only a newer daemon knows."""
    return ADVICE.get(kind, "").format(vm=vm, group=group or vm)
