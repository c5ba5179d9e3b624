"""How many connections, how many bytes a second."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from ecr_async_pull.transfer.budget import ConnectionBudget, RateLimit, Rates


def test_a_throttle_halves_once_however_many_connections_tell_it() -> None:
    budget = ConnectionBudget(32)
    used = budget.limit
    for _ in range(16):
        budget.throttled()
    assert (budget.limit, budget.ceiling) == (used // 2, used)


def test_the_budget_never_falls_below_one() -> None:
    budget = ConnectionBudget(1)
    budget.throttled()
    assert budget.limit == budget.ceiling == 1


def test_successes_win_back_one_connection_at_a_time_up_to_the_most() -> None:
    budget = ConnectionBudget(4)
    budget.throttled()
    assert budget.ceiling == 2
    ceilings = []
    for _ in range(100):
        budget.succeeded()
        ceilings.append(budget.ceiling)
    assert ceilings[0] == 2
    assert ceilings[-1] == 4
    assert {after - before for before, after in itertools.pairwise(ceilings)} <= {0, 1}


def _after(budget: ConnectionBudget, seconds: float, bytes_s_of: Callable[[int], float]) -> int:
    """The limit after so long on a link that gives so much to so many connections."""
    received = 0.0
    for step in range(int(seconds * 20)):
        budget.observe(int(received), 1000 + step / 20 + 1e-6 * step, is_full=True)
        received += bytes_s_of(budget.limit) / 20
    return budget.limit


def test_connections_grow_to_the_most_where_each_brings_more() -> None:
    assert _after(ConnectionBudget(32), 1, lambda count: 40e6 * count) == 16


def test_connections_that_bring_nothing_are_taken_back() -> None:
    budget = ConnectionBudget(32)
    first = budget.limit
    assert _after(budget, 1, lambda _: 500e6) == first


def test_idle_places_are_no_reason_to_grow() -> None:
    budget = ConnectionBudget(32)
    first = budget.limit
    for step in range(100):
        budget.observe(step * 1000, 1000 + step / 20, is_full=False)
    assert budget.limit == first


def test_a_rate_limit_holds_over_many_takers() -> None:
    async def measure() -> float:
        limit = RateLimit(1_000_000)
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(limit.take(50_000))
        return time.monotonic() - started

    assert 0.29 <= asyncio.run(measure()) < 2


def test_no_limit_never_waits() -> None:
    async def measure() -> float:
        started = time.monotonic()
        for _ in range(1000):
            await RateLimit(None).take(1 << 40)
        return time.monotonic() - started

    assert asyncio.run(measure()) < 1


def test_few_rates_have_no_median() -> None:
    rates = Rates()
    assert rates.median([5.0, 6.0]) is None
    rates.note(7.0)
    assert rates.median([5.0, 6.0]) == 6.0
    assert rates.median([1.0, 2.0, 3.0]) == 2.0
