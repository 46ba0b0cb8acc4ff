"""What is not one of our records is refused with a reason that can be counted."""

from __future__ import annotations

import pytest

from gatemeter.schemas import codec


def control() -> bytes:
    from hypothesis import find

    from support.avro_values import values

    return codec.encode("Control", find(values(codec.CURRENT["Control"].raw), lambda _: True))


@pytest.mark.parametrize("value", [b"", b"\xc3", b"{}", b"\xc3\x01\x00", b"\x00" * 40])
def test_a_value_without_magic_and_fingerprint_is_not_avro(value: bytes) -> None:
    with pytest.raises(codec.CodecError) as refused:
        codec.decode(value)
    assert refused.value.reason == "not_avro"


def test_an_unknown_fingerprint_is_named_in_the_usual_byte_order() -> None:
    with pytest.raises(codec.CodecError) as refused:
        codec.decode(b"\xc3\x01" + bytes(range(1, 9)) + b"body")
    assert refused.value.reason == "unknown_fingerprint"
    assert refused.value.detail == "0807060504030201"


def test_a_cut_body_is_undecodable() -> None:
    for length in range(codec.PREFIX_LENGTH, len(control())):
        with pytest.raises(codec.CodecError, match="undecodable"):
            codec.decode(control()[:length])


def test_bytes_after_the_record_are_undecodable() -> None:
    with pytest.raises(codec.CodecError, match="undecodable: 1 bytes after the end"):
        codec.decode(control() + b"\x00")


def test_an_enum_symbol_that_does_not_exist_is_undecodable() -> None:
    body = codec.encode("Control", codec.decode(control()).datum)
    with pytest.raises(codec.CodecError, match="undecodable"):
        codec.decode(codec.CURRENT["GatewayBatch"].prefix + b"\x02a\x7f" + body)


def test_encoding_names_no_schema_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        codec.encode("Nothing", {})
