"""Who a sender's items speak of: where a product's log names tenant, app and workload, and the request ids of ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from gatemeter.producers.events import MAX_ID_LENGTH, MAX_TEXT_LENGTH
from gatemeter.producers.foreign import Item
from gatemeter.producers.networks import MAX_ADDRESS_LENGTH, network_of

_IDENTITY: Final = ("tenant_id", "app_id", "workload_id", "credential_fingerprint", "end_user")
_NAMED: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("tenant_id", "app_id", "credential_fingerprint"), MAX_ID_LENGTH),
        **dict.fromkeys(("workload_id", "end_user", "route"), MAX_TEXT_LENGTH),
        **dict.fromkeys(("client_request_id", "trace_id", "idempotency_key", "parent_request_id"), MAX_ID_LENGTH),
        **dict.fromkeys(("provider", "model", "region", "request_id"), MAX_ID_LENGTH),
        "client_network": MAX_ADDRESS_LENGTH,
    }
)
"""What `fields` and `constants` may name, and how much of each is kept."""
_CONSTANT: Final = ("tenant_id", "app_id", "workload_id", "provider", "region")
_CLAIMS: Final = ("request.", "input.")
"""Paths below which the caller's own words stand: its headers, its query."""


class NamingError(ValueError):
    """A setting of a sender that cannot be used. One line: the entry, what is accepted."""


@dataclass(frozen=True)
class Naming:
    """Of one sender. `fields`: by our name, the dotted path in an item. `constants`: what is always so.

    `providers`: the product's name of a provider, or its route, and what prices know it as. `verified`: identities that
    the product has verified although they stand among the caller's own words. `subject_gateway_id`: of
    policy decisions, the gateway whose requests they judge; `subject_ids` is `gatemeter` where they name its request
    ids, `native` where they name those of the product before this collector. Raises `NamingError`.
    """

    gateway_id: str
    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    providers: Mapping[str, str] = field(default_factory=dict)
    verified: tuple[str, ...] = ()
    subject_gateway_id: str | None = None
    subject_ids: str = "gatemeter"

    def __post_init__(self) -> None:
        for section, accepted in (("fields", tuple(_NAMED)), ("constants", _CONSTANT)):
            for name in getattr(self, section):
                if name not in accepted:
                    raise NamingError(f"{section}: must be of {', '.join(accepted)}, got {name!r}")
        for name in self.verified:
            if name not in _IDENTITY:
                raise NamingError(f"verified: must be of {', '.join(_IDENTITY)}, got {name!r}")
        if self.subject_ids not in ("gatemeter", "native"):
            raise NamingError(f"subject_ids: must be gatemeter or native, got {self.subject_ids!r}")

    def named(self, item: Item, defaults: Mapping[str, str]) -> dict[str, str]:
        """Who and what an item names, by our names: what the sender's settings say, else where `defaults` look."""
        found = {}
        for name, path in {**defaults, **self.fields}.items():
            said = self.constants.get(name) or item.text(path, _NAMED[name])
            if name == "client_network":  # what products log is the address
                said = network_of(said)
            if said is not None:
                found[name] = said
        return {**found, **self.constants}

    def is_claimed(self, defaults: Mapping[str, str], named: Mapping[str, str]) -> bool:
        """Whether somebody merely said who he is: tenant or app stand where the caller's own words do."""
        paths = {**defaults, **self.fields}
        known = {*self.constants, *self.verified, "end_user"}
        told = [name for name in _IDENTITY if name in named and name not in known]
        return any(paths[name].startswith(_CLAIMS) for name in told)


def minted_request_id(gateway_id: str, native_id: str) -> str:
    """Our id of a request that a product numbered itself: 32 hex digits, the same for the same request."""
    return hashlib.blake2b(f"{gateway_id}\n{native_id}".encode(), digest_size=16).hexdigest()


def digest_of(values: Any) -> str:
    """The id of an item that has none: the same for the same item, whatever the order of its keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
