"""Damaged and hostile values: both ways to decode agree, nothing hangs, no gateway reaches into another's record."""

from __future__ import annotations

import io

import fastavro
import pytest

from gatemeter.schemas import codec
from support.generated_logs import many_blocks
from support.logs import Gateway, Log, build, collapse, new_fold, request, response, run, standard_view

SECOND = 1_000_000


def both(log: Log) -> tuple[dict, dict]:  # type: ignore[type-arg]
    """Collapsed tables of the plain and of the columnar fold."""
    views = {1: build(standard_view())}
    return tuple(collapse(run(new_fold(views, columnar=columnar), log.records)) for columnar in (False, True))  # type: ignore[return-value]


def started() -> tuple[Log, Gateway]:
    log = Log()
    log.control(build(standard_view()))
    return log, Gateway(log)


@pytest.mark.parametrize("tail", [b"\x00", b"x" * 40, None], ids=["one byte", "garbage", "a whole second body"])
def test_bytes_after_the_end_of_a_record_quarantine_it_alone(tail: bytes | None) -> None:
    log, gateway = started()
    gateway.send([response("good", SECOND)], SECOND)
    value = gateway.value(gateway.bodies([response("bad", SECOND)]), 1, SECOND)
    value += value[codec.PREFIX_LENGTH :] if tail is None else tail
    log.append(value, gateway.headers(value), SECOND)
    plain, columnar = both(log)
    assert plain == columnar
    assert [row["reason"] for row in columnar["quarantine"].values()] == ["undecodable"]
    assert [key[2] for key in columnar["usage_facts"]] == ["good"]


def test_a_gateway_cannot_swallow_the_record_of_another() -> None:
    log, mallory = started()
    victim = Gateway(log, "gw-b", "b-1")
    honest = victim.value(victim.bodies([response("honest", SECOND, tokens=(5_000, 7))]), 0, SECOND)
    forged = victim.value(victim.bodies([response("forged", SECOND, tokens=(1, 1))]), 0, SECOND)
    behind = forged[codec.PREFIX_LENGTH + len(victim_envelope(victim)) :]
    inside = len(honest) - codec.PREFIX_LENGTH
    swallow = victim_envelope(victim)[:-1] + b"\x02" + varint(inside)
    first = mallory.value([], 0, SECOND) + swallow
    third = behind + mallory.value([], 0, SECOND)[codec.PREFIX_LENGTH :]
    log.append(first, mallory.headers(first), SECOND)
    log.append(honest, victim.headers(honest), SECOND)
    third = codec.CURRENT["GatewayBatch"].prefix + third
    log.append(third, mallory.headers(third), SECOND)
    plain, columnar = both(log)
    assert plain == columnar
    assert [key[2] for key in columnar["usage_facts"]] == ["honest"]
    assert len(columnar["quarantine"]) == 2


def victim_envelope(gateway: Gateway) -> bytes:
    """The envelope up to and with the null of `attestation`."""
    return gateway.value([], 0, SECOND)[codec.PREFIX_LENGTH : -1]


def varint(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


def test_a_number_beyond_32_bits_quarantines_the_record_and_does_not_stop_the_worker() -> None:
    log, gateway = started()
    body = gateway.bodies([request("r1", SECOND)])[0]
    name = varint(2) + b"r1"
    assert body.startswith(b"\x00" + name + varint(1))
    body = body.replace(name + varint(1), name + varint(1 << 40), 1)
    value = gateway.value([body], 0, SECOND)
    log.append(value, gateway.headers(value), SECOND)
    plain, columnar = both(log)
    assert plain == columnar
    assert [row["reason"] for row in columnar["quarantine"].values()] == ["undecodable"]


def test_an_array_of_several_blocks_is_one_batch() -> None:
    log, gateway = started()
    bodies = gateway.bodies([request(f"r{number}", SECOND) for number in range(4)])
    value = many_blocks(gateway, bodies, 0, SECOND)
    log.append(value, gateway.headers(value), SECOND)
    gateway.send([response(f"r{number}", SECOND) for number in range(4)], 2 * SECOND, first_sequence=4)
    plain, columnar = both(log)
    assert plain == columnar
    assert len(columnar["usage_facts"]) == 4
    assert all(row["paired"] for row in columnar["usage_facts"].values())


def test_every_worker_says_the_same_about_a_record_that_is_cut() -> None:
    log, gateway = started()
    value = gateway.value(gateway.bodies([response("r1", SECOND)]), 0, SECOND)
    for cut in range(codec.PREFIX_LENGTH, len(value)):
        log.append(value[:cut], gateway.headers(value[:cut]), SECOND)
    plain, columnar = both(log)
    assert plain == columnar
    assert len(plain["quarantine"]) == len(value) - codec.PREFIX_LENGTH
    assert not any("0x" in row["detail"] for row in plain["quarantine"].values())
