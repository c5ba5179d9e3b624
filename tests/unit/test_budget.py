"""How many connections, how many bytes a second."""

from __future__ import annotations

import asyncio
import itertools
import time

from ecr_async_pull.transfer.budget import ConnectionBudget, RateLimit, Rates


def test_a_throttle_halves_once_however_many_connections_tell_it() -> None:
    budget = ConnectionBudget(16)
    for _ in range(16):
        budget.throttled()
    assert budget.limit == 8


def test_the_budget_never_falls_below_one() -> None:
    budget = ConnectionBudget(1)
    budget.throttled()
    assert budget.limit == 1


def test_successes_win_back_one_connection_at_a_time_up_to_the_most() -> None:
    budget = ConnectionBudget(4)
    budget.throttled()
    assert budget.limit == 2
    limits = []
    for _ in range(100):
        budget.succeeded()
        limits.append(budget.limit)
    assert limits[0] == 2
    assert limits[-1] == 4
    assert {after - before for before, after in itertools.pairwise(limits)} <= {0, 1}


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
