"""Node sets: what we write, ClusterShell reads back; what people type means what they see."""

import random

import pytest
from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions_app.nodeset import NodeSetError, expand, fold, patterns

FLEET = [
    f"x{cabinet}c{chassis}s{slot}b{bmc}n{node}"
    for cabinet in range(3000, 3010)
    for chassis in range(8)
    for slot in range(16)
    for bmc in range(2)
    for node in range(4)
]


def read_back(text):
    return set(NodeSet(text, resolver=RESOLVER_NOGROUP))


def test_a_whole_fleet_folds_to_one_pattern():
    assert patterns(FLEET) == [("x[3000-3009]c[0-7]s[0-15]b[0-1]n[0-3]", 10240)]


def test_holes_come_back_as_they_were():
    names = set(FLEET) - set(random.Random(4).sample(FLEET, 20))
    assert read_back(fold(names, most=10_000)) == names


xnames = st.builds(
    "x{}c{}s{}b{}n{}".format,
    *(st.integers(0, top) for top in (3, 2, 12, 1, 3)),
)
padded = st.builds("nid{:06d}".format, st.integers(0, 30))
mixed = st.builds("n{}{}".format, st.sampled_from(["", "0", "00"]), st.integers(0, 120))
plain = st.sampled_from(["login", "gateway-a", "rack1-login2", "7", "0x"])


@settings(max_examples=300, deadline=None)
@given(st.sets(st.one_of(xnames, padded, mixed, plain), min_size=1, max_size=60))
def test_clustershell_reads_back_what_fold_writes(names):
    assert read_back(fold(names, most=10_000)) == names


@given(st.lists(st.one_of(xnames, padded), max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_names_does_not_matter(names):
    assert fold(names) == fold(reversed(names))


def test_nothing_folds_to_nothing():
    assert fold([]) == ""
    assert patterns([]) == []


def test_beyond_the_most_patterns_the_rest_is_counted():
    names = [f"x{number}c0s0b0n{number}" for number in range(1, 11)]
    assert fold(names, most=2) == "x1c0s0b0n1,x2c0s0b0n2 and 8 more"


def test_numbers_sort_as_numbers():
    assert fold(["x9c0s0b0n0", "x10c1s0b0n0"]) == "x9c0s0b0n0,x10c1s0b0n0"


def test_five_thousand_random_names_fold_to_all_of_them():
    names = random.Random(1).sample(FLEET, 5000)
    assert sum(count for _, count in patterns(names)) == 5000


# -- what people type ----------------------------------------------------------------------------------


def groups(name):
    return {"compute": {"x3000c0s0b0n0", "x3000c0s0b0n1", "elsewhere"}}.get(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x3000c0s0b0n0", 1),
        ("x[3000-3003]c0s[0-7]b0n0", 32),
        ("x[3000-3003]c0s*b0n0", 64),
        ("x3000c0s0b?n?", 8),
        ("x3000", 1024),
        ("x300", 0),
        ("x3000c7", 128),
        ("x3000c7s15b1", 4),
        ("X3000C0S00B0N0", 1),
        ("all", 10240),
        ("*", 10240),
        ("@compute", 2),
        ("x3000c0s0b0n0 x3000c0s0b0n1,x3000c0s0b0n1", 2),
        ("x3000!x3000c0", 896),
        ("x3000 ! x3000c0", 896),
        ("x3000&@compute", 2),
        ("x3000c0s0b0^@compute", 2),
        ("", 0),
    ],
)
def test_a_typed_set_means_what_it_says(text, expected):
    assert len(expand(text, FLEET, groups).names) == expected


def test_what_nothing_bears_is_named():
    selection = expand("x3000c0s0b0n0,x9999,@nobody,gone*", FLEET, groups)
    assert selection.names == {"x3000c0s0b0n0"}
    assert selection.unknown == ("x9999", "@nobody", "gone*")


@pytest.mark.parametrize("text", ["x[1-3", "x[3-1]c0", "x[a-b]", "x[]", "x[0-99999999]c[0-9]", "x]1["])
def test_what_cannot_be_read_is_refused_with_a_reason(text):
    with pytest.raises(NodeSetError, match="x"):
        expand(text, FLEET)


def test_host_names_are_expanded_too():
    inventory = ["nid000001", "nid000002", "login1", "login2"]
    assert expand("nid[000001-000002]", inventory).names == {"nid000001", "nid000002"}
    assert expand("login*", inventory).names == {"login1", "login2"}
