"""What each sandbox promises, tried from inside by code that wants to break it."""

import asyncio
import os
import socket
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest

from interlock.schemas.errors import NoSandbox, ToolRefused
from interlock.tools import sandbox as module
from interlock.tools.jails import JAILS, NO_JAIL, PROCESSES, Confinement
from interlock.tools.sandbox import Completed, Sandbox, choose

PYTHON = (Path(sys.prefix), Path(sys.base_prefix))
REAL = {jail.name: Sandbox(jail) for jail in JAILS}
ALL = {**REAL, NO_JAIL.name: Sandbox(NO_JAIL)}
OURS = f"unit-test-{os.getpid()}"
MARK = {"INTERLOCK_INCARNATION": OURS}


@cache
def problem_of(name: str) -> str:
    return ALL[name].problem()


def usable(sandbox: Sandbox) -> Sandbox:
    if problem := problem_of(sandbox.name):
        pytest.skip(f"{sandbox.name} does not work on this machine: {problem}")
    return sandbox


@pytest.fixture(params=REAL)
def jailed(request: pytest.FixtureRequest) -> Sandbox:
    return usable(REAL[request.param])


@pytest.fixture(params=ALL)
def any_sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return usable(ALL[request.param])


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "work place"
    folder.mkdir()
    return folder


def python(sandbox: Sandbox, cwd: Path, code: str, seconds: float = 20, memory_mb: int = 1024, output_bytes: int = 65_536) -> Completed:
    return asyncio.run(running(sandbox, cwd, code, seconds, memory_mb, output_bytes))


async def running(sandbox: Sandbox, cwd: Path, code: str, seconds: float, memory_mb: int = 1024, output_bytes: int = 65_536) -> Completed:
    return await sandbox.run(
        [sys.executable, "-B", "-c", textwrap.dedent(code)],
        cwd,
        seconds=seconds,
        memory_mb=memory_mb,
        output_bytes=output_bytes,
        readable=PYTHON,
        mark=MARK,
    )


def shell(sandbox: Sandbox, cwd: Path, script: str, seconds: float = 20) -> Completed:
    return asyncio.run(sandbox.run(["sh", "-c", script], cwd, seconds=seconds, mark=MARK))


def carrying(value: str) -> list[psutil.Process]:
    """Processes, dead ones aside, with this in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if value in process.environ().values():
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_there_is_no_network(jailed: Sandbox, cwd: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
            import socket
            try:
                socket.create_connection(("127.0.0.1", {port}), timeout=2)
            except OSError:
                print("unreachable")
            print(sorted(name for _, name in socket.if_nameindex()))
        """
        done = python(jailed, cwd, code)
    assert done.output == "unreachable\n['lo']\n"


def test_only_the_working_directory_is_written(jailed: Sandbox, cwd: Path, tmp_path: Path) -> None:
    script = f"""
        for place in / /usr /etc /dev /proc/sys/kernel "{sys.prefix}" "{tmp_path}"; do
            touch "$place/interlock-was-here" 2>/dev/null && echo "wrote $place"
        done
        echo core >/proc/sys/kernel/core_pattern && echo "wrote a sysctl"
        chmod 000 /dev/null && echo "spoilt a device"
        touch /tmp/scratch /dev/shm/scratch inside && echo fine >/dev/null && echo fine
    """
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    done = asyncio.run(jailed.run(["sh", "-c", f"exec 2>/dev/null\n{script}"], cwd, seconds=20, readable=PYTHON, mark=MARK))
    # What was written under the parent of the working directory was the jail's own, which has vanished.
    assert set(done.output.split("\n")) - {f"wrote {tmp_path}", ""} == {"fine"}
    assert [path.name for path in tmp_path.rglob("*")] == ["work place", "inside"]
    assert not Path("/tmp/scratch").exists()
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_what_lies_beside_the_working_directory_is_not_seen(jailed: Sandbox, cwd: Path, tmp_path: Path) -> None:
    (tmp_path / "beside").write_text("for nobody's eyes")
    (cwd / "way-out").symlink_to(tmp_path / "beside")
    done = shell(jailed, cwd, f"cat '{tmp_path}/beside' way-out ../beside /etc/shadow; ls ..")
    assert "eyes" not in done.output
    assert done.output.count("No such file or directory") == 4
    assert done.output.endswith("\nwork place\n")


def test_nothing_of_the_home_directory_is_read(jailed: Sandbox, cwd: Path) -> None:
    home = Path.home()
    shown = [path for path in home.iterdir() if not any(prefix.resolve().is_relative_to(path.resolve()) for prefix in PYTHON)]
    done = python(jailed, cwd, f"import os; print([path for path in {list(map(str, shown))} if os.path.lexists(path)])")
    assert done.output == "[]\n"


def test_a_path_that_would_show_the_home_directory_is_refused(cwd: Path) -> None:
    for where, readable in ((Path.home(), []), (cwd, [Path.home().parent])):
        with pytest.raises(ToolRefused, match="home directory"):
            asyncio.run(ALL[NO_JAIL.name].run(["true"], where, seconds=5, readable=readable, mark=MARK))


def test_a_home_directory_within_the_system_is_covered(jailed: Sandbox, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/usr/share")
    done = shell(jailed, cwd, "ls -A /usr/share | wc -l; touch /usr/share/x 2>/dev/null || echo refused")
    assert done.output == "0\nrefused\n"


def test_the_environment_is_empty_but_for_the_mark(any_sandbox: Sandbox, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
    done = shell(any_sandbox, cwd, "env")
    names = {line.partition("=")[0] for line in done.output.splitlines()}
    assert names - {"PWD", "OLDPWD"} == {"PATH", "LANG", "HOME", "INTERLOCK_INCARNATION", "INTERLOCK_SANDBOX"}
    assert f"INTERLOCK_INCARNATION={OURS}\n" in done.output
    assert "HOME=/tmp\n" in done.output


def test_only_its_own_processes_are_seen_and_without_any_capability(jailed: Sandbox, cwd: Path) -> None:
    done = shell(jailed, cwd, "ls -d /proc/[0-9]* | wc -l; grep CapEff /proc/self/status; unshare --map-root-user true && echo nested")
    count, capabilities, *rest = done.output.splitlines()
    assert int(count) <= 6
    assert int(capabilities.split()[1], 16) == 0
    assert "nested" not in rest


STUBBORN = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    print("started", flush=True)
    {then}
"""


def test_a_timeout_ends_the_whole_tree(any_sandbox: Sandbox, cwd: Path) -> None:
    """Also of a command that has closed its output; both at once, for each takes its whole time."""

    async def main() -> list[Completed]:
        endings = ("time.sleep(600)", "os.close(1); os.close(2); time.sleep(600)")
        return await asyncio.gather(*(running(any_sandbox, cwd, STUBBORN.format(then=then), seconds=3) for then in endings))

    ended = asyncio.run(main())
    assert carrying(OURS) == []
    for done in ended:
        assert done.timed_out
        assert done.returncode == 137
        assert done.output == "started\n"
        assert 0.5 <= done.seconds < 10


def test_what_a_command_leaves_behind_ends_with_it(any_sandbox: Sandbox, cwd: Path) -> None:
    done = python(any_sandbox, cwd, STUBBORN.format(then="sys.exit(3)"))
    assert carrying(OURS) == []
    assert (done.returncode, done.timed_out) == (3, False)
    assert done.seconds < 10


@pytest.mark.parametrize("delay", [0, 0.01, 0.1])
def test_cancelled_it_ends_the_tree_before_it_raises(any_sandbox: Sandbox, cwd: Path, delay: float) -> None:
    async def main() -> None:
        running = asyncio.create_task(any_sandbox.run(["sh", "-c", "setsid sleep 600 & sleep 600"], cwd, seconds=100, mark=MARK))
        await asyncio.wait({running}, timeout=delay)
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert carrying(OURS) == []

    asyncio.run(main())


def test_cancelled_twice_it_still_ends_the_tree(any_sandbox: Sandbox, cwd: Path) -> None:
    async def main() -> None:
        running = asyncio.create_task(any_sandbox.run(["sleep", "600"], cwd, seconds=100, mark=MARK))
        await asyncio.wait({running}, timeout=0.2)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert carrying(OURS) == []

    asyncio.run(main())


def test_memory_is_limited(any_sandbox: Sandbox, cwd: Path) -> None:
    code = "block = bytearray(60 << 20); print('got it')"
    assert python(any_sandbox, cwd, code, memory_mb=256).output == "got it\n"
    refused = python(any_sandbox, cwd, code, memory_mb=64)
    assert refused.returncode == 1
    assert "MemoryError" in refused.output


def test_a_file_cannot_fill_the_disk(any_sandbox: Sandbox, cwd: Path) -> None:
    done = shell(any_sandbox, cwd, "truncate -s 10G big")
    assert done.returncode != 0
    assert not (cwd / "big").exists() or (cwd / "big").stat().st_size == 0


def test_scratch_space_is_bounded(jailed: Sandbox, cwd: Path) -> None:
    done = shell(jailed, cwd, "df -B1 --output=size /tmp /dev/shm | tail -n 2")
    assert [int(line) for line in done.output.split()] == [256 << 20, 256 << 20]


def test_output_is_bounded_and_keeps_its_end(any_sandbox: Sandbox, cwd: Path) -> None:
    done = python(any_sandbox, cwd, "print('first'); print('x' * 5_000_000); print('last')", output_bytes=4000)
    assert done.cut
    assert done.output.startswith("first\n")
    assert done.output.endswith("x\nlast\n")
    assert 4000 <= len(done.output) < 4100
    assert "bytes left out" in done.output


@pytest.mark.parametrize("size", [0, 1, 39, 40, 41, 80])
def test_output_up_to_the_bound_is_whole(size: int, cwd: Path) -> None:
    done = asyncio.run(ALL[NO_JAIL.name].run(["printf", "%s", "x" * size], cwd, seconds=5, mark=MARK, output_bytes=40))
    assert done.cut == (size > 40)
    assert done.output.count("x") == min(size, 40)


def test_how_it_ended_is_told(any_sandbox: Sandbox, cwd: Path) -> None:
    assert shell(any_sandbox, cwd, "exit 7").returncode == 7
    assert shell(any_sandbox, cwd, "kill -SEGV $$").returncode == 139
    assert shell(any_sandbox, cwd, "/no/such/program").returncode == 127
    assert "no-such-program" in asyncio.run(any_sandbox.run(["no-such-program"], cwd, seconds=5, mark=MARK)).output
    assert shell(any_sandbox, cwd, "cat; echo read").output == "read\n"


def test_many_at_once(any_sandbox: Sandbox, cwd: Path) -> None:
    async def main() -> list[Completed]:
        return await asyncio.gather(*(any_sandbox.run(["sh", "-c", f"echo {n}"], cwd, seconds=20, mark=MARK) for n in range(8)))

    handles = len(os.listdir("/proc/self/fd"))
    assert [done.output for done in asyncio.run(main())] == [f"{n}\n" for n in range(8)]
    assert len(os.listdir("/proc/self/fd")) == handles


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    choose.cache_clear()
    yield
    choose.cache_clear()


@pytest.mark.usefixtures("fresh_choice")
def test_the_first_that_works_is_chosen_and_without_one_only_the_unsafe_way(monkeypatch: pytest.MonkeyPatch) -> None:
    working = [sandbox for sandbox in REAL.values() if not sandbox.problem()]
    if working:
        assert choose().name == choose(unsafe=True).name == working[0].name
        assert "no network" in choose().describe()
    choose.cache_clear()
    monkeypatch.setattr(module, "JAILS", ())
    with pytest.raises(NoSandbox, match="--unsafe-exec"):
        choose()
    assert choose(unsafe=True).name == "none (unsafe)"
    assert "no isolation" in choose(unsafe=True).describe()


def test_what_else_a_user_runs_leaves_a_program_without_a_jail_its_processes(tmp_path: Path) -> None:
    what = Confinement(["true"], tmp_path, [], {}, 1.0, 64)
    limits = [int(word.removeprefix("--nproc=")) for word in NO_JAIL.command(what) if word.startswith("--nproc=")]
    assert [limit > PROCESSES for limit in limits] == [True]
