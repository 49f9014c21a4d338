"""Commits signed by OpenPGP keys that were made for these tests and thrown away.

Made by `gpg --faked-system-time`: one key of 2024 that never expires, one of 2020 that did after a year.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

PAYLOAD = b"""\
tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
author a person <person@example.org> 1700000000 +0000
committer a person <person@example.org> 1700000000 +0000

signed
"""


@dataclass(frozen=True)
class Signed:
    """A public keyring, and a signature of PAYLOAD by its only key."""

    public: str
    signature: str

    @property
    def keyring(self) -> bytes:
        return base64.b64decode("".join(self.public.split()))

    def commit(self, payload: bytes = PAYLOAD) -> bytes:
        """The payload with the signature as its header."""
        header, _, message = payload.partition(b"\n\n")
        lines = self.signature.strip().encode().split(b"\n")
        return header + b"\ngpgsig " + b"\n ".join(lines) + b"\n\n" + message


LASTING = Signed(
    """
mDMEZZIAgBYJKwYBBAHaRw8BAQdAOBVLeTJFtfVujmpw8vuq8bU8gF47oySkHu8XRjYX/rC0HWEgcGVyc29uIDxwZX
Jzb25AZXhhbXBsZS5vcmc+iJAEExYIADgWIQSO3nZVpPdQYkAFYOpaZWS+4EmM5QUCZZIAgAIbAwULCQgHAgYVCgkI
CwIEFgIDAQIeAQIXgAAKCRBaZWS+4EmM5cTVAP4rpOlOqsA1upfjWA6SZFkqblomJxiixH3BKlQDm2ptZgD+JwJk1Z
9Gtsj6O52UVl8KoKwRt8Jz9CDTqaglLjyk/wI=
""",
    """
-----BEGIN PGP SIGNATURE-----

iIkEABYIADEWIQSO3nZVpPdQYkAFYOpaZWS+4EmM5QUCZbrfABMccGVyc29uQGV4
YW1wbGUub3JnAAoJEFplZL7gSYzlu4UBANkdHSbAp4jLWB5Tz90RXIpMLHgfm4Fw
8LsXezPYUjMjAQCBO1Z2S0b+aNHlgLsZAvW6L6Guyl9jw32rvUZLF7CiBQ==
=n92V
-----END PGP SIGNATURE-----
""",
)

EXPIRED = Signed(
    """
mDMEXgvhABYJKwYBBAHaRw8BAQdA4hMt4Flqx39sGGRHRlHZTqqPfQMA/g306HLtBR5AZl+0HnBhc3QgcGVyc29uID
xwYXN0QGV4YW1wbGUub3JnPoiWBBMWCAA+FiEErcbjRt7/o7506AIm2iZuNBMMwbgFAl4L4QACGwMFCQHhM4AFCwkI
BwIGFQoJCAsCBBYCAwECHgECF4AACgkQ2iZuNBMMwbjPLAEA/9q2xWevCnRsvrdu/NA/OBZPzPde+mqLtP9hfqaecF
MBAOdFX/YiAc6pOhjSfFb/WbB5zoaaUYCQVKUNs47Gx34B
""",
    """
-----BEGIN PGP SIGNATURE-----

iIcEABYIAC8WIQStxuNG3v+jvnToAibaJm40EwzBuAUCXjS/gBEccGFzdEBleGFt
cGxlLm9yZwAKCRDaJm40EwzBuOFVAP98tdh//fS7GoDvpzycR24laxLBcwhC0f14
ooxGGXESEQEAgh8VlKKU4IWe33hDjzuh6Kkdj10mLmlvpknMBpDdjAU=
=xfHF
-----END PGP SIGNATURE-----
""",
)
