"""Invoicing: a second app, in one file. A confirmed order becomes a draft invoice, and finance is told.

Two specialists: `pricing` is code, `invoicing` is a model with tools. The orders live in a real SQLite database.

    interlock up examples/invoicing/app.py:app
    interlock submit invoice_generation '{"order_id": "7294"}'
"""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from interlock import AgentContext, App, Budget, Escalate, Keyed, Message, ToolContext, Untrusted, WorkflowContext

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (order_id TEXT PRIMARY KEY, customer TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (order_id TEXT NOT NULL, title TEXT NOT NULL, quantity INTEGER NOT NULL, unit_price TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS invoices (order_id TEXT PRIMARY KEY, number TEXT NOT NULL, total TEXT NOT NULL, status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS notices (key TEXT PRIMARY KEY, order_id TEXT NOT NULL, text TEXT NOT NULL);
"""


class Item(Message):
    title: str
    quantity: int
    unit_price: str


class Order(Message):
    order_id: str
    customer: str
    status: str
    items: list[Item]


class Draft(Message):
    number: str
    order_id: str
    total: str
    status: str


class InvoiceRequest(Message, contract="invoice.request", version="1.0.0"):
    order_id: str
    note: Untrusted[str] = ""


class PriceRequest(Message, contract="price.request", version="1.0.0"):
    order_id: str


class Price(Message, contract="price.reply", version="1.0.0"):
    order_id: str
    total: str
    items: int


class DraftRequest(Message, contract="draft.request", version="1.0.0"):
    order_id: str
    total: str
    note: Untrusted[str] = ""


class Invoice(Message, contract="invoice.reply", version="1.0.0"):
    number: str
    order_id: str
    total: str
    status: str


def make_database(path: Path) -> None:
    """A small orders database to try the app with."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        db.executemany("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", [("7294", "Ada", "confirmed"), ("7295", "Grace", "open")])
        items = [("7294", "Desk", 1, "120.00"), ("7294", "Lamp", 2, "19.50"), ("7295", "Chair", 4, "45.00")]
        once = "INSERT INTO items SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM items WHERE order_id = ? AND title = ?)"
        db.executemany(once, [(*item, *item[:2]) for item in items])


def find_order(database: str, order_id: str) -> Order:
    with closing(sqlite3.connect(database)) as db:
        order = db.execute("SELECT customer, status FROM orders WHERE order_id = ?", (order_id,)).fetchone()
        if order is None:
            known = ", ".join(row[0] for row in db.execute("SELECT order_id FROM orders ORDER BY order_id"))
            raise LookupError(f"there is no order {order_id}; there are {known}")
        rows = db.execute("SELECT title, quantity, unit_price FROM items WHERE order_id = ?", (order_id,)).fetchall()
    items = [Item(title=title, quantity=quantity, unit_price=price) for title, quantity, price in rows]
    return Order(order_id=order_id, customer=order[0], status=order[1], items=items)


def find_or_add_draft(database: str, order_id: str, total: str) -> Draft:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("INSERT OR IGNORE INTO invoices VALUES (?, ?, ?, 'draft')", (order_id, f"INV-{order_id}", total))
        row = db.execute("SELECT number, order_id, total, status FROM invoices WHERE order_id = ?", (order_id,)).fetchone()
    return Draft(number=row[0], order_id=row[1], total=row[2], status=row[3])


def add_notice(database: str, key: str, order_id: str, text: str) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("INSERT OR IGNORE INTO notices VALUES (?, ?, ?)", (key, order_id, text))


def is_draft(result: Invoice) -> bool:
    """The invoice is a draft, not sent."""
    return result.status == "draft"


def make_app(path: Path) -> App:
    """The app on the orders database at `path`."""
    app = App("billing")

    def database() -> Mapping[str, Any]:
        return {"orders": str(path)}

    @app.tool(effect="read", trusted="the orders database is ours")
    def get_order(order_id: str, ctx: ToolContext) -> Order:
        """Look up an order with its items.

        Args:
            order_id: The order's number, such as 7294.
        """
        return find_order(ctx.resources["orders"], order_id)

    @app.tool(effect="write", system="ledger-db", repeat=Keyed("order_id", scope="bus"), trusted="the invoice table is ours")
    def create_invoice(order_id: str, total: str, ctx: ToolContext) -> Draft:
        """Create a draft invoice. Calling twice with the same order_id returns the existing draft.

        Args:
            order_id: The order to invoice.
            total: The amount, as decimal money such as 159.00.
        """
        return find_or_add_draft(ctx.resources["orders"], order_id, total)

    @app.tool(effect="write", system="mail", repeat=Keyed("order_id"), trusted="it returns what it was given")
    def notify_finance(order_id: str, text: str, ctx: ToolContext) -> bool:
        """Tell finance about a draft invoice, once per order and task.

        Args:
            order_id: The order that the notice is about.
            text: What finance should read.
        """
        add_notice(ctx.resources["orders"], ctx.idempotency_key, order_id, text)
        return True

    @app.agent("pricing", version="1.0.0", tools=[get_order], resources=database)
    async def pricing(request: PriceRequest, ctx: AgentContext) -> Price:
        order = await ctx.call(get_order, order_id=request.order_id)
        total = sum((item.quantity * Decimal(item.unit_price) for item in order.items), Decimal(0))
        return Price(order_id=order.order_id, total=f"{total:.2f}", items=len(order.items))

    app.agent(
        "invoicing",
        version="1.0.0",
        accepts=DraftRequest,
        returns=Invoice,
        instructions="Create the draft invoice for the order with the total that you are given, tell finance, and answer with the draft.",
        tools=[create_invoice, notify_finance],
        replicas=(1, 8),
        resources=database,
    )

    @app.workflow(
        "invoice_generation",
        version="1.0.0",
        exit=is_draft,
        goal="Draft the invoice for order {order_id} and tell finance",
        budget=Budget(tokens=50_000, steps=20, seconds=120, writes={"ledger-db": 1, "mail": 1}),
        escalate=Escalate(to="finance", seconds=3600),
    )
    async def invoice_generation(request: InvoiceRequest, ctx: WorkflowContext) -> Invoice:
        price = await ctx.ask(PriceRequest(order_id=request.order_id), returns=Price)
        return await ctx.ask(DraftRequest(order_id=request.order_id, total=price.total, note=request.note), returns=Invoice)

    return app


app = make_app(Path(os.environ.get("INVOICING_DB", "orders.db")).absolute())
