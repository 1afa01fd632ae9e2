"""Room: whether the nodes of a cluster have what a replica needs, and in which words its wait is told."""

from collections.abc import Mapping, Sequence

from interlock.schemas.sizes import told_size

Amounts = Mapping[str, float]


def lacking(needs: Amounts, nodes: Sequence[Amounts], free: Amounts) -> str:
    """Why a replica with these needs has no process yet. `nodes` are what each node has in all, `free` is what all of them have left."""
    if not any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in nodes):
        short = {name: amount for name, amount in needs.items() if not any(node.get(name, 0) >= amount for node in nodes)}
        if not short:
            return f"waits for a node: it needs {_told(needs)} on one node, and none of {len(nodes)} has all of it together"
        most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in short}
        return f"waits for a node: it needs {_told(short)}, and the most that any node has is {_told(most)}"
    short = {name: amount for name, amount in needs.items() if free.get(name, 0) < amount}
    if short:
        left = {name: free.get(name, 0) for name in short}
        return f"waits for room: it needs {_told(short)}, and what is left on all nodes is {_told(left)}"
    asked = f" ({_told(needs)})" if needs else ""
    return f"waits for its process: the nodes have room{asked}, and none was made yet"


def _told(amounts: Amounts) -> str:
    told = {"memory": told_size}
    return ", ".join(f"{name} {told.get(name, '{:g}'.format)(amount)}" for name, amount in amounts.items())
