"""What a person is shown before saying yes to one act, and what binds that yes to it.

The binding is a digest over effect, tool and all arguments: another argument is another act. The text shows every argument under
its name, says what it leaves out, and carries nothing that could move a terminal's cursor, hide text or turn it round.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from interlock.schemas.canonical import digest
from interlock.schemas.specs import ToolSpec

VALUE_CHARS = 400
ACT_CHARS = 8_000

_HIDING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def approval_digest(effect_key: str, tool: str, args: Mapping[str, Any]) -> str:
    """What an approval is bound to: exactly this call, in whichever attempt it comes."""
    return digest([effect_key, tool, args])


def describe_act(spec: ToolSpec, args: Mapping[str, Any]) -> str:
    """One act for a person's eyes: the tool, what it does, each argument. Arguments that do not fit are counted, never dropped unsaid."""
    where = f" on {spec.system}" if spec.system else ""
    lines = [visible(f"{spec.name} ({spec.effect}{where}): {spec.description}", VALUE_CHARS)]
    room = ACT_CHARS - len(lines[0])
    for shown, name in enumerate(args):
        line = f"  {visible(name, VALUE_CHARS)} = {_value(args[name])}"
        room -= len(line) + 1
        if room < 0:
            lines.append(f"  … and {len(args) - shown} more arguments, which are not shown here; deny it if you cannot see them elsewhere.")
            break
        lines.append(line)
    return "\n".join(lines)


def visible(text: str, most: int) -> str:
    """One line of text in which every character that hides, moves or reorders others is written out, as `\\u202e`."""
    kept = "".join(_escaped(char) if unicodedata.category(char) in _HIDING else char for char in text[:most])
    return kept if len(text) <= most else f"{kept}… ({len(text) - most} more characters)"


def _value(value: Any) -> str:
    return visible(json.dumps(value, ensure_ascii=False), VALUE_CHARS)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
