"""Quota: so many connections of one address."""

from __future__ import annotations

from hypothesis import given, strategies as st

from bunws.quota import Quota


def test_an_address_has_so_many_places_and_no_more() -> None:
    quota = Quota(2)
    assert [quota.take(number, "192.0.2.1") for number in range(3)] == [True, True, False]
    assert quota.take("other", "192.0.2.2")
    quota.give_back(0)
    assert quota.take("next", "192.0.2.1")


def test_a_place_is_passed_on_and_given_back_by_the_heir() -> None:
    quota = Quota(1)
    quota.take("request", "192.0.2.1")
    quota.pass_on("request", "socket")
    quota.give_back("request")
    assert not quota.take("another", "192.0.2.1")
    quota.give_back("socket")
    assert quota.take("another", "192.0.2.1")


def test_a_customer_with_many_ipv6_addresses_is_one_customer() -> None:
    quota = Quota(1)
    assert quota.take(1, "2001:db8:1:2::1")
    assert not quota.take(2, "2001:db8:1:2:ffff::2")
    assert quota.take(3, "2001:db8:1:3::1")
    assert quota.take(4, "::1")
    assert quota.take(5, "fe80::1%eth0")


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["192.0.2.1", "192.0.2.2", "::1"]), st.booleans())))
def test_no_address_has_more_places_than_it_may_and_none_is_lost(steps: list[tuple[int, str, bool]]) -> None:
    quota, model = Quota(2), dict[int, str]()
    for guest, address, comes in steps:
        if comes and guest not in model:
            there = list(model.values()).count(address) < 2
            assert quota.take(guest, address) is there
            if there:
                model[guest] = address
        elif not comes:
            model.pop(guest, None)
            quota.give_back(guest)
        assert len(quota) == len(model)
