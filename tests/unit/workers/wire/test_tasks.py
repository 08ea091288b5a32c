"""Tasks that may be given up: one job in place of another, and what goes on while nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from lora_lab.workers.wire.tasks import Background, OneJob, quietly


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_newer_job_takes_the_place_of_the_last() -> None:
    async def main() -> None:
        job = OneJob()
        assert job.doing is None and not await job.give_up()
        first = asyncio.ensure_future(job.do("first", forever()))
        await asyncio.sleep(0)
        assert job.doing == "first"
        second = asyncio.ensure_future(job.do("second", forever()))
        assert await first is False
        while job.doing != "second":
            await asyncio.sleep(0)
        assert await job.give_up() and await second is False
        assert job.doing is None
        assert await job.do("third", asyncio.sleep(0)) is True

    asyncio.run(main())


def test_a_job_ends_with_who_waits_for_it() -> None:
    async def main() -> None:
        job = OneJob()
        waiting = asyncio.ensure_future(job.do("long", forever()))
        await asyncio.sleep(0.001)
        waiting.cancel()
        assert await waiting is False and job.doing is None

    asyncio.run(main())


def test_a_jobs_error_is_that_of_who_asked_for_it() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise MemoryError

    async def main() -> None:
        job = OneJob()
        with pytest.raises(MemoryError):
            await job.do("large", fail())
        assert job.doing is None and await job.do("small", asyncio.sleep(0))

    asyncio.run(main())


def test_what_fails_in_the_background_is_told() -> None:
    told: list[Exception] = []

    async def fail() -> None:
        raise ValueError("no")

    async def main() -> None:
        background = Background(told.append)
        background.begin(fail())
        background.begin(asyncio.sleep(0.001))
        assert background.is_busy
        while background.is_busy:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert [str(error) for error in told] == ["no"]


def test_quietly_ends_a_cancelled_task_without_an_error() -> None:
    async def main() -> None:
        for ends in (forever, lambda: asyncio.sleep(0, "done")):
            task = asyncio.ensure_future(quietly(ends))
            await asyncio.sleep(0)
            task.cancel() if ends is forever else None
            assert await task == (None if ends is forever else "done") and not task.cancelled()

    asyncio.run(main())
