"""Text that came from elsewhere, made fit to travel: bounded, and such that it always encodes.

An exception's words are whatever its author made of them: a lone surrogate that no encoding takes, a megabyte, a `__str__` that raises
itself. None of that may keep anybody from hearing that something failed.
"""

WORDS_CHARS = 4_000


def clean(text: str, most: int = WORDS_CHARS) -> str:
    """The text's first `most` characters, lone surrogates replaced."""
    return text[:most].encode(errors="replace").decode()


def words_of(error: BaseException, most: int = WORDS_CHARS) -> str:
    """What an exception says of itself; empty where it says nothing."""
    try:
        text = str(error).strip()
    except Exception as trouble:  # noqa: BLE001 - its `__str__` is somebody's code too
        text = f"its words cannot be told: str() of it raised {type(trouble).__name__}"
    return clean(text, most)


def told(error: BaseException, most: int = WORDS_CHARS) -> str:
    """An exception's class and words, as in the last line of a traceback."""
    return f"{type(error).__name__}: {words_of(error, most)}"
