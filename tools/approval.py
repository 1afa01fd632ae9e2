"""What a person is shown before saying yes to one act, and what binds that yes to it.

The binding is a digest over effect, tool and all arguments: another argument is another act. The text shows every argument whole, under
its name, and carries nothing that could move a terminal's cursor, hide text or turn it round.
"""

import json
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from interlock.schemas.canonical import digest
from interlock.schemas.specs import ToolSpec

_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def approval_digest(effect_key: str, tool: str, args: Mapping[str, Any]) -> str:
    """What an approval is bound to: exactly this call, in whichever attempt it comes."""
    return digest([effect_key, tool, args])


def describe_act(spec: ToolSpec, args: Mapping[str, Any], apart: Collection[str] = ()) -> str:
    """One act for a person's eyes, whole: the tool, what it does, each argument. Of those shown `apart` it says how much there is."""
    where = f" on {spec.system}" if spec.system else ""
    lines = [visible(f"{spec.name} ({spec.effect}{where}): {spec.description}")]
    for name, value in args.items():
        text = visible(json.dumps(value, ensure_ascii=False))
        lines.append(f"  {visible(name)} = {f'({len(text):,} characters, shown on their own)' if name in apart else text}")
    return "\n".join(lines)


def visible(text: str, most: int | None = None) -> str:
    """One line of text in which every character that hides, moves or reorders others is written out, as `\\u202e`. Of what is beyond
    `most` characters it says how much it is."""
    kept = "".join(_escaped(char) if unicodedata.category(char) in _HIDING else char for char in text[:most])
    return kept if most is None or len(text) <= most else f"{kept}… ({len(text) - most} more characters)"


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
