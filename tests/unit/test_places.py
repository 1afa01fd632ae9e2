"""What a bus keeps is its owner's alone, and what user code sees holds no secret that it did not declare."""

import os
import stat
from pathlib import Path

import pytest

from interlock import AgentContext, App, LocalBus, Message, ToolContext, WorkflowContext
from interlock.actors.supervisor.sqlite_journal import SqliteJournal
from interlock.clock import SystemClock
from interlock.cluster.code import Code
from interlock.cluster.config import private_folder, scrub
from interlock.cluster.store import CODE_FILE, write_code
from interlock.hosts import declared_secrets, secrets_of
from interlock.schemas.errors import BadDeclaration, NotPrivate


class Ask(Message, contract="places.ask", version="1.0.0"):
    pass


class Told(Message, contract="places.told", version="1.0.0"):
    text: str


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_private_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mode(private_folder(tmp_path / "a" / "b")) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "open")) == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "open")
    with pytest.raises(NotPrivate, match="link"):
        private_folder(tmp_path / "link")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(NotPrivate, match="open"):
        private_folder(tmp_path / "open")


def test_journal_and_code_are_their_owner_s(tmp_path: Path) -> None:
    SqliteJournal(tmp_path / "supervisor.db", SystemClock(), create=True).close()
    write_code(str(tmp_path), Code(), {}, {})
    assert (mode(tmp_path / "supervisor.db"), mode(tmp_path / CODE_FILE)) == (0o600, 0o600)


def test_what_looks_like_a_secret_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {
        "MY_API_KEY": "k",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer x",
        "DATABASE_URL": "postgres://ann:hush@db/shop",
        "REDIS": "redis://:hush@cache:6379/0",
    }
    plain = {"PLACE": "http://localhost:80/a@b:c", "PATHS": "/a:/b", "RAY_TOKEN_PATH": "/x"}
    for name, value in {**secret, **plain}.items():
        monkeypatch.setenv(name, value)
    scrub(os.environ)
    assert [name for name in secret if name in os.environ] == []
    assert [name for name in plain if name not in os.environ] == []


def make_app() -> App:
    app = App("shop")

    @app.tool(effect="read", secrets=["SHOP_TOKEN"])
    async def look(ctx: ToolContext) -> str:
        """Look."""
        return ctx.secrets["SHOP_TOKEN"]

    @app.agent("clerk", version="1.0.0", tools=[look])
    async def clerk(request: Ask, ctx: AgentContext) -> Told:
        return Told(text=await ctx.call(look))

    @app.workflow("ask", version="1.0.0")
    async def ask(request: Ask, ctx: WorkflowContext) -> Told:
        return await ctx.ask(request, returns=Told)

    return app


def test_a_declared_secret_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app()
    assert declared_secrets(app) == {"clerk": ["SHOP_TOKEN"]}
    with pytest.raises(BadDeclaration, match="secret SHOP_TOKEN: a tool of agent clerk declares it"):
        secrets_of(app, {})
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    with pytest.raises(BadDeclaration, match="SHOP_TOKEN"):
        LocalBus(app)


def test_a_tool_on_a_local_bus_gets_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "hush")
    with LocalBus(make_app()) as bus:
        assert bus.submit_json("ask", {}).result(timeout=20) == {"text": "hush"}
