"""Command lines that lock a program in: one for bubblewrap, one for util-linux' `unshare`, one that locks nothing.

Pure: a jail turns a `Confinement` into an argument list and runs nothing itself. Both real jails give the program a root of
its own in which only the working directory is the machine's and writable; the limits are the kernel's own, per process.
The protocol with `interlock.tools.sandbox`: standard input is a pipe, on which the jail writes the number of the process whose death is
the death of everything inside (process 1 of the new process namespace). The program itself reads `/dev/null`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from shlex import join, quote
from subprocess import run
from typing import Protocol

from interlock.tools.processes import threads_of_user

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROCESSES = 256
FILE_BYTES = 256 << 20
SCRATCH_BYTES = 256 << 20

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "passwd", "group", "nsswitch.conf", "localtime", "mime.types")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# Root keeps its number inside, and with it the kernel's leave to write these without any capability.
_PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "driver", "mtrr", "scsi")


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is to run and what it may have. `seconds` bounds its processor time (the caller bounds the wall's)."""

    argv: Sequence[str]
    cwd: Path
    readable: Sequence[Path]
    environment: Mapping[str, str]
    seconds: float
    memory_mb: int

    def limited(self, others: int = 0) -> list[str]:
        """The program under its limits, with nothing but its own environment; the first to go when memory runs out. `others`: how many
        threads count against its number of processes that are not its own."""
        limits = (
            f"--data={self.memory_mb << 20}",
            f"--nproc={PROCESSES + others}",
            f"--fsize={FILE_BYTES}",
            f"--cpu={int(self.seconds * (os.cpu_count() or 1)) + 1}",
            "--core=0",
        )
        variables = (f"{name}={value}" for name, value in self.environment.items())
        return ["env", "-i", *variables, "choom", "-n", "1000", "--", "prlimit", *limits, "--", *self.argv]

    def hidden_home(self) -> list[Path]:
        """The home directory, where a mount of the system would show it."""
        home = Path.home().resolve()
        return [home] if any(home.is_relative_to(path) for path in (Path("/usr"), *map(Path, _SYSTEM))) else []


class Jail(Protocol):
    name: str
    promise: str
    confines: bool

    def command(self, what: Confinement) -> list[str]: ...


def _limits_promise() -> str:
    count = "the number of processes is not limited for root" if os.geteuid() == 0 else f"at most {PROCESSES} processes"
    return f"memory, processor time and file size are limited per process, {count}"


def _links() -> list[tuple[str, str]]:
    return [(os.readlink(path), path) for path in _SYSTEM if os.path.islink(path)]


def _directories() -> list[str]:
    return ["/usr", *(path for path in _SYSTEM if os.path.isdir(path) and not os.path.islink(path))]


def _etc() -> list[str]:
    return [f"/etc/{name}" for name in _ETC if os.path.exists(f"/etc/{name}")]


def _devices() -> list[str]:
    return [f"/dev/{name}" for name in _DEVICES]


def _proc_read_only() -> list[str]:
    paths = (f"/proc/{name}" for name in _PROC_READ_ONLY if os.path.exists(f"/proc/{name}"))
    return [f"mount --bind {path} {path}; mount -o remount,bind,ro {path}" for path in paths]


_NO_MORE_SPACES = "echo 0 >/proc/sys/user/max_user_namespaces"
_POWERLESS = ("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--")


class Bubblewrap:
    """Flatpak's `bwrap`."""

    name = "bubblewrap"
    confines = True
    promise = (
        "no network, a read-only system without home directories, an empty environment, its own processes; "
        "writable are only the working directory and a private /tmp and /dev/shm; " + _limits_promise()
    )

    def command(self, what: Confinement) -> list[str]:
        # The report goes to standard input's pipe, but the program must not read from there.
        reporting = ["sh", "-c", 'exec "$@" 3>&0 </dev/null', "sh"]
        spaces = [f"--unshare-{space}" for space in ("user", "ipc", "pid", "net", "uts", "cgroup-try")]
        powers, finish = self._finish()
        jail = ["bwrap", "--info-fd", "3", *spaces, "--die-with-parent", "--new-session", *powers, *self._mounts(what)]
        return [*reporting, *jail, "--", *finish, *what.limited()]

    def _finish(self) -> tuple[list[str], list[str]]:
        """Options, and a last step inside.

        Root's number alone would still let the program change sysctls and the machine's devices, so a last step with root's powers
        (over this jail only) shuts those and gives the powers up. Nobody else has them in the first place.
        """
        if os.geteuid() != 0:
            return ["--cap-drop", "ALL", *(["--disable-userns"] if "--disable-userns" in _bwrap_help() else [])], []
        powers = [word for power in ("SYS_ADMIN", "SYS_RESOURCE", "SETPCAP") for word in ("--cap-add", f"CAP_{power}")]
        shut = [_NO_MORE_SPACES, *(f"mount -o remount,bind,ro,nosuid {path}" for path in _devices()), *_proc_read_only()]
        return ["--cap-drop", "ALL", *powers], ["sh", "-ec", "\n".join([*shut, f'exec {join(_POWERLESS)} "$@"']), "sh"]

    def _mounts(self, what: Confinement) -> list[str]:
        bounded = ["--size", str(SCRATCH_BYTES)] if "--size" in _bwrap_help() else []
        words: list[str] = []
        for path in (*_directories(), *_etc()):
            words += ["--ro-bind", path, path]
        for target, path in _links():
            words += ["--symlink", target, path]
        words += ["--proc", "/proc", "--dev", "/dev", *bounded, "--tmpfs", "/dev/shm", *bounded, "--tmpfs", "/tmp"]
        for home in what.hidden_home():
            words += ["--tmpfs", str(home), "--remount-ro", str(home)]
        for readable in what.readable:
            words += ["--ro-bind", str(readable), str(readable)]
        cwd = str(what.cwd)
        return [*words, "--bind", cwd, cwd, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", cwd]


@lru_cache(maxsize=1)
def _bwrap_help() -> str:
    return run(["bwrap", "--help"], capture_output=True, text=True, check=False).stdout


class Unshare:
    """A script under util-linux' `unshare` that builds the same root by hand, as process 1 of the new namespace."""

    name = "unshare"
    confines = True
    promise = Bubblewrap.promise.replace("no network", "no network (loopback only where `ip` is installed)")

    def command(self, what: Confinement) -> list[str]:
        spaces = ["--user", "--map-root-user", "--mount", "--propagation", "private", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
        return ["unshare", *spaces, "--fork", "--kill-child", "--", "sh", "-c", self._script(what)]

    def _script(self, what: Confinement) -> str:
        lines = [_BEGIN, *(f"attach {quote(path)}" for path in _directories())]
        lines += [f"ln -s {quote(target)} $new{quote(path)}" for target, path in _links()]
        lines += [_ENTER, *(f"attach {quote(path)}" for path in (*_etc(), *_devices()))]
        lines += [f"scratch {quote(str(home))} 755" for home in what.hidden_home()]
        lines += [f"scratch {path} 1777 {SCRATCH_BYTES}" for path in ("/tmp", "/dev/shm")]
        lines += [f"attach {quote(str(path))}" for path in what.readable]
        lines += [_SEAL, f"attach {quote(str(what.cwd))}", _LEAVE]
        lines += [_NO_MORE_SPACES, *_proc_read_only()]
        return "\n".join([*lines, f"cd {quote(str(what.cwd))}", "set +e", join([*_POWERLESS, *what.limited()]), "exit $?"])


# The old root stays within reach, as /.old, until everything has been taken from it.
_BEGIN = r"""
set -eu
read -r own rest </proc/self/stat
echo "$own" >&0
exec </dev/null
old= new=/tmp
attach() {
    if [ -d "$old$1" ]; then mkdir -p "$new$1"; else mkdir -p "$new${1%/*}"; : >"$new$1"; fi
    mount --rbind "$old$1" "$new$1"
}
scratch() {
    mkdir -p "$1"
    mount -t tmpfs -o "nosuid,nodev,mode=$2,size=${3:-4096}" tmpfs "$1"
}
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /tmp
mkdir /tmp/proc /tmp/dev /tmp/.old
mount -t proc -o nosuid,nodev,noexec proc /tmp/proc
"""
_ENTER = r"""
cd /tmp
pivot_root . .old
cd /
old=/.old new=
for link in fd: stdin:/0 stdout:/1 stderr:/2; do ln -s "/proc/self/fd${link#*:}" "/dev/${link%%:*}"; done
"""
_SEAL = r"""
while read -r _ _ _ _ at rest; do
    at=$(printf '%b' "$at")
    case "$at" in
        /|/proc|/proc/*|/tmp|/dev/shm|/.old|/.old/*) ;;
        /dev/*) mount -o remount,bind,ro,nosuid "$at" ;;
        *) mount -o remount,bind,ro,nosuid,nodev "$at" ;;
    esac
done </proc/self/mountinfo
"""
_LEAVE = r"""
umount -l /.old
rmdir /.old
mount -o remount,bind,ro,nosuid,nodev /
if command -v ip >/dev/null; then ip link set lo up; fi
"""


class Nothing:
    """No jail: chosen only by someone who said that the risk is theirs."""

    name = "none (unsafe)"
    confines = False
    promise = "no isolation: the code may read and write what this user may and use the network; " + _limits_promise()

    def command(self, what: Confinement) -> list[str]:
        # Without a space of its own the kernel counts all that this user runs.
        return ["sh", "-c", 'cd "$1" && shift && exec "$@" </dev/null', "sh", str(what.cwd), *what.limited(threads_of_user())]


JAILS: tuple[Jail, ...] = (Bubblewrap(), Unshare())
NO_JAIL: Jail = Nothing()
