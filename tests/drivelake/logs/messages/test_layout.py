from hypothesis import given
from hypothesis import strategies as st

from drivelake.logs.messages.layout import Array, List, Scalar, Sequence, Struct, bytes_min, compile_steps, span, strides

scalars = st.sampled_from(["?", "u1", "i2", "u4", "f8"]).map(Scalar)


def structs(inner):
    return st.lists(inner, min_size=1, max_size=4).map(lambda nodes: Struct(tuple(map(str, range(len(nodes)))), tuple(nodes)))


fixed = st.recursive(
    scalars, lambda inner: structs(inner) | st.builds(Array, scalars | structs(inner), st.integers(1, 4)), max_leaves=8
)


def places(node, position, *, aligned):
    """Where a fixed value ends, one number at a time."""
    if isinstance(node, Scalar):
        return position + (-position % node.size if aligned else 0) + node.size
    for child in [node.item] * node.count if isinstance(node, Array) else node.nodes:
        position = places(child, position, aligned=aligned)
    return position


@given(node=fixed, phase=st.integers(0, 7), aligned=st.booleans())
def test_fixed_values_end_where_one_number_after_the_other_ends(node, phase, aligned):
    steps = compile_steps((node,), aligned=aligned)
    assert phase + span(steps, phase) == places(node, phase, aligned=aligned)


@given(item=structs(fixed), phase=st.integers(0, 7), count=st.integers(1, 6), aligned=st.booleans())
def test_all_items_of_a_list_but_the_first_have_one_length(item, phase, count, aligned):
    (step,) = compile_steps((Sequence(item),), aligned=aligned)
    assert isinstance(step, List)
    assert step.fixed
    first, following = strides(step, phase)
    assert phase + first + (count - 1) * following == places(Array(item, count), phase, aligned=aligned)


@given(node=fixed, phase=st.integers(0, 7), aligned=st.booleans())
def test_no_value_is_shorter_than_its_least_size(node, phase, aligned):
    assert places(node, phase, aligned=aligned) - phase >= bytes_min(node, aligned=aligned)
    assert places(node, 0, aligned=False) == bytes_min(node, aligned=aligned)
