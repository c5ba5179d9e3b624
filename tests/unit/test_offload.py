"""Threads under structured concurrency: nobody returns before their thread has stopped."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ecr_async_pull.transfer.offload import WorkerSlots, first_of, in_thread


@pytest.mark.timeout(20)
@pytest.mark.parametrize("cancels", [1, 3])
def test_a_cancelled_thread_call_returns_only_when_the_thread_has_stopped(cancels: int) -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        may_end.wait(10)
        ended.set()

    async def run() -> None:
        task = asyncio.create_task(in_thread(None, call))
        await asyncio.to_thread(began.wait)
        for _ in range(cancels):
            task.cancel()
            done, _ = await asyncio.wait((task,), timeout=0.02)
            assert not done
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(run())


@pytest.mark.timeout(20)
def test_a_call_cancelled_while_it_queues_leaves_the_pool_usable() -> None:
    may_end = threading.Event()

    async def run() -> int:
        with ThreadPoolExecutor(1) as pool:
            first = asyncio.create_task(in_thread(pool, may_end.wait))
            second = asyncio.create_task(in_thread(pool, lambda: None))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.sleep(0)
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert await first
            return await in_thread(pool, lambda: 7)

    assert asyncio.run(run()) == 7


def test_what_the_call_raises_is_raised() -> None:
    def call() -> None:
        raise ValueError("from the thread")

    with pytest.raises(ValueError, match="from the thread"):
        asyncio.run(in_thread(None, call))


@pytest.mark.timeout(20)
def test_an_error_of_a_cancelled_call_is_not_reported_as_lost() -> None:
    began, may_end = threading.Event(), threading.Event()
    lost: list[object] = []

    def call() -> None:
        began.set()
        may_end.wait(10)
        raise ValueError("too late")

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
        task = asyncio.create_task(in_thread(None, call))
        await asyncio.to_thread(began.wait)
        task.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert lost == []


def test_the_first_of_several_waits_ends_the_others() -> None:
    ended: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def soon() -> None:
        await asyncio.sleep(0)

    assert asyncio.run(first_of(forever("a"), soon(), forever("b"))) == 1
    assert sorted(ended) == ["a", "b"]


@pytest.mark.timeout(20)
def test_slots_go_to_who_has_the_most_left_and_none_is_lost_by_cancelling() -> None:
    async def run() -> list[int]:
        slots, order = WorkerSlots(1), list[int]()
        release = asyncio.Event()

        async def work(size: int, first: bool = False) -> None:
            async with slots.hold(abs(size), has_begun=size < 0):
                order.append(size)
                if first:
                    await release.wait()

        tasks = [asyncio.create_task(work(0, first=True))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(work(size)) for size in (1, 5, 3, 4, -2, -1)]
        await asyncio.sleep(0)
        assert slots.is_idle_elsewhere is False
        tasks[4].cancel()
        release.set()
        await asyncio.wait(tasks)
        order.append(int(slots.is_idle_elsewhere))
        return order

    assert asyncio.run(run()) == [0, -2, -1, 5, 3, 1, 1]


@pytest.mark.timeout(20)
def test_a_slot_given_to_one_that_is_cancelled_at_that_moment_goes_on_to_the_next() -> None:
    async def run() -> None:
        slots = WorkerSlots(1)
        holding, release = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with slots.hold(1, has_begun=False):
                holding.set()
                await release.wait()

        async def work(size: int) -> int:
            async with slots.hold(abs(size), has_begun=size < 0):
                return size

        holder = asyncio.create_task(hold())
        await holding.wait()
        unlucky, lucky = asyncio.create_task(work(9)), asyncio.create_task(work(2))
        await asyncio.sleep(0)
        release.set()
        await holder  # which hands its slot to the unlucky one
        unlucky.cancel()
        assert await lucky == 2
        assert slots.is_idle_elsewhere

    asyncio.run(run())
