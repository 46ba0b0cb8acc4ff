"""Any set of leaves: each is proven by its path, and no change of leaf, place, size, path or root goes unnoticed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gatemeter.schemas import merkle

BODIES = st.lists(st.binary(max_size=8), min_size=1, max_size=300, unique=True)


@settings(deadline=None)
@given(BODIES, st.data())
def test_a_leaf_is_proven_by_its_path_and_by_no_other(bodies: list[bytes], data: st.DataObject) -> None:
    nodes = [merkle.leaf_hash(body) for body in bodies]
    index = data.draw(st.integers(0, len(nodes) - 1))
    other = data.draw(
        st.integers(0, len(nodes) - 1).filter(lambda number: number != index) if len(nodes) > 1 else st.just(-1)
    )
    root = merkle.root_of(iter(nodes))
    path = merkle.inclusion_path(iter(nodes), len(nodes), index)
    assert merkle.is_included(nodes[index], index, len(nodes), path, root)
    assert not merkle.is_included(nodes[index], other, len(nodes), path, root)
    assert not merkle.is_included(nodes[other], index, len(nodes), path, root) or other == -1
    assert len(path) <= (len(nodes) - 1).bit_length()
    if path:
        place = data.draw(st.integers(0, len(path) - 1))
        changed = bytes([path[place][0] ^ 1]) + path[place][1:]
        assert not merkle.is_included(
            nodes[index], index, len(nodes), (*path[:place], changed, *path[place + 1 :]), root
        )


@settings(deadline=None)
@given(BODIES, st.data())
def test_changing_removing_or_swapping_a_leaf_changes_the_root(bodies: list[bytes], data: st.DataObject) -> None:
    nodes = [merkle.leaf_hash(body) for body in bodies]
    root = merkle.root_of(nodes)
    index = data.draw(st.integers(0, len(nodes) - 1))
    assert merkle.root_of(nodes[:index] + nodes[index + 1 :]) != root
    assert merkle.root_of([*nodes[:index], merkle.leaf_hash(b"changed, 9 b"), *nodes[index + 1 :]]) != root
    assert merkle.root_of([*nodes, nodes[-1]]) != root
    if len(nodes) > 1:
        assert merkle.root_of([*nodes[1:], nodes[0]]) != root
