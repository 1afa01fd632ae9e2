"""Leaving memory: a dropped workflow asks nothing any more and makes no noise."""

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from interlock.actors.activation import Activation
from interlock.actors.context import WorkflowContext
from interlock.actors.definitions import WorkflowDefinition
from interlock.actors.desk import Detached
from interlock.schemas.frames import Command, Start
from interlock.schemas.message import Message


class Text(Message, contract="test.text", version="1.0.0"):
    text: str


Workflow = Callable[[Text, WorkflowContext], Any]


async def ask(ctx: WorkflowContext, text: str = "?") -> str:
    return (await ctx.ask(Text(text=text), returns=Text)).text


def drop(workflow: Workflow, caplog: pytest.LogCaptureFixture) -> list[Command]:
    """What a workflow asked for until it was dropped from memory; fails on any noise."""
    noise: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: noise.append(repr(unraisable))

    async def host() -> list[Command]:
        activation = Activation(WorkflowDefinition("w", "1.0.0", workflow, Text, Text), Start("tsk_test", "w", b'{"text":""}', 0, []))
        commands = activation.begin()
        assert all(command.n for command in commands), "it has not ended"
        activation.drop()
        assert (activation.problems, len(asyncio.all_tasks())) == ([], 1)
        return commands

    try:
        commands = asyncio.run(host())
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert (noise, caplog.records) == ([], [])
    return commands


def test_a_detached_workflow_asks_nothing_any_more(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    async def workflow(request: Text, ctx: WorkflowContext) -> None:
        calls: list[Callable[[], Any]] = [ctx.now, ctx.random, ctx.uuid, lambda: asyncio.create_task(asyncio.sleep(0))]
        try:
            await ask(ctx)
        finally:
            for call in calls:
                try:
                    call()
                except Detached:
                    heard.append("detached")
            await ask(ctx, "release")
            heard.append("never")

    assert [command.n for command in drop(workflow, caplog)] == [1]
    assert heard == ["detached"] * 4


def test_detaching_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    async def workflow(request: Text, ctx: WorkflowContext) -> None:
        not_yet_awaited = [ask(ctx, "later"), ctx.ask(Text(text="later"), returns=Text), asyncio.sleep(1)]
        running = [asyncio.create_task(ask(ctx, text)) for text in "ab"]

        async def stubborn() -> None:
            try:
                await ask(ctx)
            finally:
                try:
                    await asyncio.wait(running)
                finally:
                    await asyncio.wait(running)

        async def endless() -> Any:
            try:
                while True:
                    yield await ask(ctx)
            finally:
                await asyncio.sleep(1)

        async def nested() -> None:
            try:
                await stubborn()
            finally:
                await asyncio.wait(running)

        group = asyncio.gather(*running, nested(), return_exceptions=True)
        async with asyncio.timeout(60):
            async for _ in endless():
                await group
        await asyncio.gather(*not_yet_awaited)

    drop(workflow, caplog)


def test_detaching_does_not_run_what_has_not_begun(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[str] = []

    async def workflow(request: Text, ctx: WorkflowContext) -> None:
        async def child() -> None:
            begun.append("child")

        try:
            await ask(ctx)
        finally:
            asyncio.create_task(child())

    drop(workflow, caplog)
    assert begun == []
