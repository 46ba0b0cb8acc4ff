"""No call may fall between two meters: authorities that lead back to the gateway they start from are refused."""

from __future__ import annotations

from collections.abc import Collection

from gatemeter.processors.metadata.entries import ANY_ROUTE, Authority, MetadataError

_FOR_EVER = 1 << 63


def check_no_circle(entry: Authority, others: Collection[Authority]) -> None:
    """Raises `MetadataError` where `entry` and some of `others`, at one instant and on one route, lead in a circle."""
    path = _path_back(entry.authority_id, entry, others, (entry.gateway_id,))
    if path and entry.authority_id != entry.gateway_id:
        raise MetadataError(
            f"authority of gateway {entry.gateway_id!r} on route {entry.route!r}: {' → '.join(path)} is a circle, in"
            " which nobody would make the fact; end one of them first"
        )


def _path_back(
    at: str, within: Authority, others: Collection[Authority], passed: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The gateways from the first of `passed` back to itself, on the route and in the time of `within`."""
    if at == passed[0]:
        return (*passed, at)
    if at in passed:
        return None
    for other in others:
        common = _common(within, other) if other.gateway_id == at else None
        if common is not None and other.authority_id != at:
            path = _path_back(other.authority_id, common, others, (*passed, at))
            if path is not None:
                return path
    return None


def _common(a: Authority, b: Authority) -> Authority | None:
    """`b` on the route and in the time that both have; None where they have none."""
    if a.route != b.route and ANY_ROUTE not in (a.route, b.route):
        return None
    start = max(a.effective_from_us, b.effective_from_us)
    end = min(a.effective_to_us or _FOR_EVER, b.effective_to_us or _FOR_EVER)
    if start >= end:
        return None
    route = b.route if a.route == ANY_ROUTE else a.route
    until = None if end == _FOR_EVER else end
    return Authority(b.gateway_id, route, b.authority_id, effective_from_us=start, effective_to_us=until)
