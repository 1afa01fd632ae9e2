"""What of Python answers differently the second time, and what a workflow uses instead.

Names are whole: `datetime.datetime.now`. Where a whole module is named, its functions are meant, and its classes where they are made.
"""

_NOW = "`ctx.now()`"
_SLEEP = "`ctx.sleep(...)` or `asyncio.sleep(...)`"
_RANDOM = "`ctx.random()`"
_UUID = "`ctx.uuid()`"
_AGENT = "an agent that does it (`ctx.ask(...)`)"
_HUMAN = "`ctx.ask_human(...)`"

_AS_A_WHOLE = "random secrets numpy.random"
_OUTSIDE = """
    socket ssl select selectors http.client http.server urllib.request urllib3 requests httpx httpx2 aiohttp websockets smtplib imaplib
    poplib ftplib telnetlib xmlrpc.client grpc openai anthropic boto3 psycopg psycopg2 asyncpg pymongo redis sqlite3 dbm shelve
    subprocess multiprocessing threading _thread concurrent.futures signal shutil tempfile glob fileinput aiofiles
"""
"""Modules that lead out of the process, or into another thread of it."""


def _named(module: str, functions: str, instead: str) -> dict[str, str]:
    return {f"{module}.{function}" if module else function: instead for function in functions.split()}


_EXACT: dict[str, str] = {
    **_named("time", "time monotonic perf_counter process_time thread_time clock_gettime", _NOW),
    **_named("time", "time_ns monotonic_ns perf_counter_ns process_time_ns thread_time_ns clock_gettime_ns", _NOW),
    **_named("datetime", "datetime.now datetime.utcnow datetime.today date.today", _NOW),
    **_named("time", "sleep", _SLEEP),
    **_named("uuid", "uuid1 uuid4 uuid6 uuid7 getnode", _UUID),
    **_named("os", "urandom getrandom", _RANDOM),
    **_named("", "open io.open io.open_code", _AGENT),
    **_named("os", "open fdopen read write listdir scandir walk stat remove unlink rename replace mkdir makedirs rmdir chdir", _AGENT),
    **_named("os", "getcwd chmod system popen fork kill execv execvp spawnv posix_spawn", _AGENT),
    **_named("os.path", "exists isfile isdir getsize getmtime", _AGENT),
    **_named("asyncio", "to_thread run_coroutine_threadsafe open_connection open_unix_connection start_server", _AGENT),
    **_named("asyncio", "start_unix_server create_subprocess_exec create_subprocess_shell", _AGENT),
    **_named("", "input", _HUMAN),
}
_MODULES: dict[str, str] = {**_named("", _AS_A_WHOLE, _RANDOM), **_named("", _OUTSIDE, _AGENT)}

_PATHS = ("pathlib.Path", "pathlib.PosixPath")
_PURE = frozenset({"as_posix", "as_uri", "joinpath", "with_name", "with_suffix", "with_stem", "relative_to", "is_relative_to", "match"})
_PURE |= {"name", "stem", "suffix", "suffixes", "parent", "parents", "parts", "anchor", "drive", "root", "is_absolute", "with_segments"}

BUILTINS = frozenset({"open", "input"})


def advice(what: str, *, called: bool, given: bool) -> str:
    """What to use in a workflow instead of the thing of this whole name; empty where it may be used as it is.

    `given`: it is called with arguments, as a source of chance with its seed.
    """
    if what in _EXACT:
        return _EXACT[what]
    for path in _PATHS:
        if what.startswith(f"{path}."):
            return "" if what.removeprefix(f"{path}.").split(".")[-1] in _PURE else _AGENT
    if what.startswith("random.Random.") or (what in ("random.Random", "numpy.random.default_rng") and given):
        return ""
    if not called and what.rpartition(".")[2][:1].isupper():
        return ""  # a class that is only named, as in a hint or after `except`
    return next((instead for module, instead in _MODULES.items() if what.startswith(f"{module}.")), "")
