"""Merkle trees by the letter of RFC 9162: small trees by hand, every leaf of every small size."""

from __future__ import annotations

import hashlib

import pytest

from gatemeter.schemas import merkle


def blake(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(number).encode()) for number in range(count)]


def recursive_root(nodes: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, as it is written there."""
    if not nodes:
        return blake(b"")
    if len(nodes) == 1:
        return nodes[0]
    split = 1
    while split * 2 < len(nodes):
        split *= 2
    return blake(b"\x01" + recursive_root(nodes[:split]) + recursive_root(nodes[split:]))


def test_leaves_and_inner_nodes_are_told_apart_by_their_first_byte() -> None:
    assert merkle.leaf_hash(b"body") == blake(b"\x00body")
    assert merkle.node_hash(b"l" * 32, b"r" * 32) == blake(b"\x01" + b"l" * 32 + b"r" * 32)


def test_no_leaves_have_the_digest_of_nothing() -> None:
    assert merkle.root_of([]) == blake(b"") == merkle.EMPTY_ROOT


def test_the_root_of_five_leaves_by_hand() -> None:
    a, b, c, d, e = leaves(5)
    left = merkle.node_hash(merkle.node_hash(a, b), merkle.node_hash(c, d))
    assert merkle.root_of([a, b, c, d, e]) == merkle.node_hash(left, e)


@pytest.mark.parametrize("size", range(70))
def test_every_leaf_of_every_small_tree_is_proven_and_nothing_else_is(size: int) -> None:
    nodes = leaves(size)
    root = merkle.root_of(nodes)
    assert root == recursive_root(nodes)
    for index in range(size):
        path = merkle.inclusion_path(nodes, size, index)
        assert merkle.is_included(nodes[index], index, size, path, root)
        assert not merkle.is_included(merkle.leaf_hash(b"other"), index, size, path, root)
        assert not any(
            merkle.is_included(nodes[index], other, size, path, root) for other in range(size + 1) if other != index
        )
        assert not merkle.is_included(nodes[index], index, size, (*path, bytes(32)), root)
        if path:
            assert not merkle.is_included(nodes[index], index, size, path[:-1], root)


def test_a_builder_goes_on_after_it_was_asked_for_its_root() -> None:
    builder = merkle.RootBuilder()
    for size, leaf in enumerate(leaves(20)):
        assert builder.root() == merkle.root_of(leaves(size))
        builder.add(leaf)
    assert builder.size == 20


def test_a_place_outside_the_tree_and_a_wrong_number_of_leaves_are_refused() -> None:
    with pytest.raises(ValueError, match="index: must be 0 to 2, got 3"):
        merkle.inclusion_path(leaves(3), 3, 3)
    with pytest.raises(ValueError, match="leaves: must be 3, got 2"):
        merkle.inclusion_path(leaves(2), 3, 0)
