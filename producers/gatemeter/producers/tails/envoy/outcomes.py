"""How a request or an attempt ended: from the code, the flags and the details together. Code 200 is not success.

Envoy sends 200 when an answer begins; that the client left, the time was up or the provider broke off is in the flags.
A request that never reached a provider was either denied by a policy or is an error without any provider cost.
Source: Envoy 1.40, response flags and response code details, each tried on the real product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

Status = Literal["ok", "error", "cancelled", "timeout"]
LEFT_FLAGS: Final = frozenset({"DC", "DR"})
"""The caller left: its connection ended, or it reset its stream."""
TIMEOUT_FLAGS: Final = frozenset({"UT", "SI", "DT", "UMSDR"})
FAILURE_FLAGS: Final = frozenset(
    {"UPE", "UC", "UF", "UH", "UO", "UR", "URX", "LR", "LH", "NR", "NC", "NFCF", "OM", "DPE", "IH", "FI", "RL", "UAEX"}
)
_TIMEOUT_CODES: Final = (408, 504)
_DENIALS: Final = (
    ("local_rate_limited", "envoy/local_ratelimit"),
    ("request_rate_limited", "envoy/ratelimit"),
    ("ext_authz_denied", "envoy/ext_authz"),
    ("rbac_access_denied", "envoy/rbac"),
    ("jwt_authn_access_denied", "envoy/jwt_authn"),
    ("unknown_api_key", "envoy/api_key_auth"),
    ("missing_api_key", "envoy/api_key_auth"),
    ("client_not_allowed", "envoy/api_key_auth"),
    ("no_credential_for_basic_auth", "envoy/basic_auth"),
    ("invalid_credential_for_basic_auth", "envoy/basic_auth"),
)


def denying_policy(details: str, flags: Sequence[str]) -> str | None:
    """Which policy of Envoy refused a request that had no attempt; None where it failed for another reason."""
    for begin, policy in _DENIALS:
        if details.startswith(begin):
            return policy
    if "UAEX" in flags and details != "ext_authz_error":
        return "envoy/ext_authz"
    return "envoy/ratelimit" if "RL" in flags else None


def status_of(code: int, flags: Sequence[str]) -> Status:
    """How the client's side ended (access log), or one try (upstream log)."""
    if LEFT_FLAGS.intersection(flags):
        return "cancelled"
    if TIMEOUT_FLAGS.intersection(flags) or code in _TIMEOUT_CODES:
        return "timeout"
    if FAILURE_FLAGS.intersection(flags) or code >= 400 or code == 0:
        return "error"
    return "ok"
