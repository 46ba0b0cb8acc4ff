"""Merkle trees as in RFC 9162 (Certificate Transparency 2.0), with BLAKE2b-256: root, inclusion proof, verification.

A leaf is BLAKE2b-256(00 ‖ body), an inner node BLAKE2b-256(01 ‖ left ‖ right), the root of no leaves BLAKE2b-256("").
The left subtree of n leaves holds the greatest power of two below n. Leaves are streamed: a tree of any size needs the
memory of one node a level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

HASH_LENGTH: Final = 32


def digest(data: bytes) -> bytes:
    """BLAKE2b-256."""
    return hashlib.blake2b(data, digest_size=HASH_LENGTH).digest()


EMPTY_ROOT: Final = digest(b"")


def leaf_hash(body: bytes) -> bytes:
    """The leaf of a body."""
    return hashlib.blake2b(b"\x00" + body, digest_size=HASH_LENGTH).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The inner node above two nodes."""
    return hashlib.blake2b(b"\x01" + left + right, digest_size=HASH_LENGTH).digest()


class RootBuilder:
    """The root of leaves that are added one after the other; holds at most one node a level."""

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[bytes] = []  # roots of complete subtrees, left to right: sizes are the bits of `size`

    def add(self, leaf: bytes) -> None:
        """Adds the next leaf (its hash, 32 bytes)."""
        node = leaf
        size = self.size
        while size & 1:
            node = node_hash(self._nodes.pop(), node)
            size >>= 1
        self._nodes.append(node)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Adds leaves in order."""
        for leaf in leaves:
            self.add(leaf)

    def root(self) -> bytes:
        """The root of what was added so far; more may be added afterwards."""
        if not self._nodes:
            return EMPTY_ROOT
        node = self._nodes[-1]
        for left in reversed(self._nodes[:-1]):
            node = node_hash(left, node)
        return node


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root of leaf hashes in order."""
    builder = RootBuilder()
    builder.extend(leaves)
    return builder.root()


def inclusion_path(leaves: Iterable[bytes], size: int, index: int) -> tuple[bytes, ...]:
    """The nodes that lead from leaf `index` to the root, from the bottom up. `leaves`: all `size` hashes, streamed.

    Raises `ValueError` where `index` is not 0 to size − 1 or `leaves` has another number.
    """
    ranges = _sibling_ranges(size, index)
    order = sorted(range(len(ranges)), key=lambda place: ranges[place])
    builders = [RootBuilder() for _ in ranges]
    current, seen = 0, 0
    for leaf in leaves:
        while current < len(order) and seen >= ranges[order[current]][1]:
            current += 1
        if current < len(order) and seen >= ranges[order[current]][0]:
            builders[order[current]].add(leaf)
        seen += 1
    if seen != size:
        raise ValueError(f"leaves: must be {size}, got {seen}")
    return tuple(builder.root() for builder in builders)


def _sibling_ranges(size: int, index: int) -> list[tuple[int, int]]:
    """[first, next) leaves below each node of the path, from the bottom up."""
    if not 0 <= index < size:
        raise ValueError(f"index: must be 0 to {size - 1}, got {index}")
    ranges = []
    first, end = 0, size
    while end - first > 1:
        middle = first + (1 << ((end - first - 1).bit_length() - 1))
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((first, middle))
            first = middle
    return ranges[::-1]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that leaf `index` of `size` has by this path; None where they do not fit (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, place, last = leaf, index, size - 1
    for sibling in path:
        if last == 0 or len(sibling) != HASH_LENGTH:
            return None
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        place >>= 1
        last >>= 1
    return node if last == 0 else None


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether leaf `index` of `size` is under `root`."""
    return root_from_path(leaf, index, size, path) == root
