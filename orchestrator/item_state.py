"""What is known of an inbox item, as a fold of its entries; `apply` in `state.py` changes it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Item:
    """Something that waits for a human."""

    id: str
    task: str
    kind: str
    expires: int
    n: int = 0
    dispatch: str = ""
    effect: str = ""
    decision: str = ""
    by: str = ""
    note: str = ""
    digest: str = ""
