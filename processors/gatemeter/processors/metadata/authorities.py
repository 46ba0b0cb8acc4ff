"""Which gateway makes the fact where two see one call: set from a time on, and ended at one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gatemeter.processors.metadata.control import Applied
from gatemeter.processors.metadata.entries import CHARGING, Authority, MetadataError
from gatemeter.processors.metadata.gateways import Connection
from gatemeter.processors.metadata.keyrotation import utc
from gatemeter.processors.metadata.publishing import Draft
from gatemeter.processors.metadata.views import View


def set_authority(connection: Connection, entry: Authority, *, reason: str = "") -> Applied:
    """Puts an authority in force. Raises `MetadataError` for gateways that are not there, or that cannot charge.

    A circle of authorities is refused with the record.
    """
    view = connection.view()
    _registered(view, entry.gateway_id)
    _registered(view, entry.authority_id)
    if view.gateways[entry.authority_id].role != CHARGING:
        raise MetadataError(
            f"gateway {entry.authority_id!r} is corroborating: it makes no facts, so it is nobody's authority"
        )
    if entry.gateway_id in view.corroborating:
        raise MetadataError(
            f"gateway {entry.gateway_id!r} is corroborating: all of its events are evidence, whoever makes the facts"
        )
    return connection.apply([draft_of(entry)], reason)


def _registered(view: View, gateway_id: str) -> None:
    if gateway_id not in view.gateways:
        known = ", ".join(sorted(view.gateways)) or "none"
        raise MetadataError(f"gateway {gateway_id!r} is not registered; known are {known}")


@dataclass(frozen=True, slots=True)
class Ended:
    """An authority with its end."""

    entry: Authority
    applied: Applied


def end_authority(connection: Connection, gateway_id: str, route: str, at_us: int, *, reason: str = "") -> Ended:
    """Ends the authority that is in force at a time. Raises `MetadataError` where there is none, or one begins then."""
    entries = connection.view().authorities.get(gateway_id, {}).get(route, ())
    entry = next((entry for entry in entries if entry.in_force(at_us)), None)
    if entry is None:
        raise MetadataError(
            f"gateway {gateway_id!r} has no authority on route {route!r} at {utc(at_us)};"
            " see: gatemeter authorities list"
        )
    if entry.effective_from_us == at_us:
        raise MetadataError(f"time must be after {utc(at_us)}, when the authority begins")
    dates = {"effective_from_us": entry.effective_from_us, "effective_to_us": at_us}
    ended = Authority(entry.gateway_id, entry.route, entry.authority_id, **dates)
    return Ended(ended, connection.apply([draft_of(ended)], reason))


def draft_of(entry: Authority) -> Draft:
    """The metadata record that says an authority."""
    datum = {
        "gateway_id": entry.gateway_id,
        "route": entry.route,
        "authority_gateway_id": entry.authority_id,
        "effective_from": entry.effective_from_us,
        "effective_to": entry.effective_to_us,
    }
    return Draft("Authority", datum)


def all_authorities(view: View) -> Iterable[Authority]:
    """Every authority by gateway and route, the newest first."""
    for _, routes in sorted(view.authorities.items()):
        for _, entries in sorted(routes.items()):
            yield from entries
