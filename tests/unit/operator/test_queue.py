"""The queue: each key once, never in two hands, failures later."""

import asyncio

from mcpace_operator.queue import Queue
from mcpace_operator.resource.server import Key

A, B = Key("ns", "a"), Key("ns", "b")


async def run(queue, reconcile, workers=2):
    return [asyncio.create_task(queue.work(reconcile)) for _ in range(workers)]


async def test_many_marks_are_one_turn_and_a_mark_meanwhile_one_more():
    queue, turns, release = Queue(), [], asyncio.Event()

    async def reconcile(key):
        turns.append(key)
        await release.wait()

    for _ in range(10):
        queue.mark(A)
    tasks = await run(queue, reconcile)
    async with asyncio.timeout(5):
        while not turns:
            await asyncio.sleep(0)
        for _ in range(10):
            queue.mark(A)
        await asyncio.sleep(0)
        assert turns == [A], "one key in two workers"
        release.set()
        while len(turns) < 2 or len(queue):
            await asyncio.sleep(0)
    assert turns == [A, A]
    for task in tasks:
        task.cancel()


async def test_a_failing_key_delays_no_other_and_a_new_event_clears_its_delay():
    queue, turns = Queue(), []

    async def reconcile(key):
        turns.append(key)
        if key == A and turns.count(A) < 3:
            raise OSError("not now")

    tasks = await run(queue, reconcile, workers=1)
    async with asyncio.timeout(5):
        queue.mark(A)
        queue.mark(B)
        while B not in turns:
            await asyncio.sleep(0)
        assert turns == [A, B]
        queue.mark(A)
        while turns.count(A) < 2:
            await asyncio.sleep(0)
        while turns.count(A) < 3:  # by itself, after its delay
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
