"""Hosts on one machine: each has its own network, processes, home and SSH server, and can lose its plug or its cable.

    with Lab(folder, laptop=1, head=1, worker=2) as lab:
        lab["laptop"].run("ray", "up", "-y", "cluster.yaml")
        lab["worker"].pull_the_plug()

A host is a process that is first in namespaces of its own. All hang on one switch, a namespace too, so nothing of it is
seen from the machine itself, and two labs do not meet. The hosts see the machine's disk, but each has its own /root and
/tmp, and /mnt is one folder for all of them, as a shared file system would be. It needs root and Debian's
openssh-server, openssh-client, rsync and iproute2 (.ci/hosts installs them); without them a test is skipped, with
REQUIRE_HOSTS=1 it fails.
"""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOOLS = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "rsync", "ip", "nsenter", "unshare", "setpriv")
NETWORK = "10.78.0"
ENVIRONMENT = "adaloss-env"  # in a host's home, as the cluster files of docker/ have it
HOME = "/root"  # in every host, a folder of its own
KEY = f"{HOME}/.ssh/id_ed25519"  # that every host has and accepts
# Ray gives a host up after these instead of half a minute, so that its tests do not wait for that.
HEALTH_CHECKS = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000"}


def require_hosts() -> None:
    """Skip the test where no hosts can be made; with REQUIRE_HOSTS=1, fail it."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    reason = f"no hosts can be made: {', '.join(missing)} missing (see .ci/hosts)" if missing else ""
    if sys.platform != "linux" or os.geteuid() != 0:
        reason = "hosts are made of Linux's namespaces, by root"
    if reason and os.environ.get("REQUIRE_HOSTS") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.3)


def system(*command: object) -> str:
    """Run a command on the machine itself and return what it prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout}{done.stderr}"
    return done.stdout


def end(process: subprocess.Popen[str]) -> None:
    """End a command on a host: what was started here, and what it became there, which is its child."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.kill()


class Host:
    """One host of a lab.

    Args:
        lab: whose switch it hangs on.
        name: of the host.
        number: last part of its address.
        cpus: cores that Ray takes it to have.
    """

    def __init__(self, lab: "Lab", name: str, number: int, cpus: int) -> None:
        self.name, self.ip, self.cpus = name, f"{NETWORK}.{number}", cpus
        self.home = lab.folder / name  # its /root
        self._lab, self._namespace, self._port = lab, f"{lab.name}-{number}", f"port{number}"
        self._boot: subprocess.Popen[bytes] | None = None

    # --- Life ---

    def start(self) -> None:
        """Boot, with the disk that the host had when it last ran."""
        if not self.home.exists():
            self._install()
            self._wire()
        self.mend()
        script = self.home / ".host" / "boot"
        script.write_text(self._boot_script())
        inside = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", str(script)]
        with (self.home / ".host" / "log").open("ab") as log:
            self._boot = subprocess.Popen(
                # A host does not outlive the tests, even if those are killed.
                ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self._namespace, *inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, f"SSH on {self.name}, see {self.home}/.host/log", 60)

    def pull_the_plug(self) -> None:
        """End the host at once: nobody on the network hears from it again."""
        self.cut()
        assert self._boot is not None
        first = self._first_process()
        if first:
            os.kill(first, signal.SIGKILL)  # the kernel ends the rest with it
        self._boot.kill()
        self._boot.wait()
        self._boot = None

    @property
    def is_up(self) -> bool:
        """Whether it has power."""
        return self._boot is not None

    def cut(self) -> None:
        """Take the cable out."""
        system("ip", "-n", self._lab.switch, "link", "set", self._port, "down")

    def mend(self) -> None:
        """Put the cable back."""
        system("ip", "-n", self._lab.switch, "link", "set", self._port, "up")

    def remove(self) -> None:
        """Leave nothing of it but its disk."""
        if self.is_up:
            self.pull_the_plug()
        subprocess.run(["ip", "netns", "del", self._namespace], capture_output=True)

    # --- Work ---

    def start_command(self, *command: object, cwd: Path | str = PROJECT) -> subprocess.Popen[str]:
        """Start a command on the host, in a login shell as somebody who sits there would."""
        words = shlex.join(str(part) for part in command)
        return subprocess.Popen(
            [*self._enter(), "bash", "--login", "-c", f"cd {shlex.quote(str(cwd))} && exec {words}"],
            env={"HOME": HOME, "TERM": "dumb", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: object, cwd: Path | str = PROJECT, timeout: float = 600, check: bool = True) -> str:
        """Run a command on the host and return what it prints."""
        process = self.start_command(*command, cwd=cwd)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            end(process)
            output, _ = process.communicate()
            pytest.fail(f"{shlex.join(map(str, command))} on {self.name} took more than {timeout:g} s: {output}")
        assert not check or process.returncode == 0, f"{shlex.join(map(str, command))}: {process.returncode}\n{output}"
        return output

    def processes(self, word: str, program: str = "") -> list[psutil.Process]:
        """Return the host's processes that run a program and have a word in their command line."""
        if not self.is_up:
            return []
        own = Path(f"/proc/{self._first_process()}/ns/pid").readlink()
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if Path(f"/proc/{process.pid}/ns/pid").readlink() == own:
                    words = process.cmdline()
                    if words and Path(words[0]).name.startswith(program) and any(word in part for part in words):
                        found.append(process)
        return found

    def listens(self, port: int) -> bool:
        """Return whether something listens at a port of its loopback."""
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"]
        return subprocess.run([*self._enter(), *probe], capture_output=True).returncode == 0

    def received_bytes(self) -> int:
        """Return how much has come over the cable."""
        (link,) = json.loads(system("ip", "-n", self._namespace, "-json", "-statistics", "link", "show", "eth0"))
        return int(link["stats64"]["rx"]["bytes"])

    # --- Making ---

    def _install(self) -> None:
        """Fill the host's disk as it is before anybody launches a cluster.

        Its environment has the packages of the running Python, through a .pth file, so that they need not be
        downloaded; the project is not among them, because no .pth file is read through another.
        """
        ssh, own = self.home / ".ssh", self.home / ".host"
        for folder in (self.home, ssh, own):
            folder.mkdir(mode=0o700)
        shutil.copy(self._lab.key, ssh / Path(KEY).name)
        shutil.copy(f"{self._lab.key}.pub", ssh / "authorized_keys")
        shutil.copy(self._lab.key, own / "server_key")
        options = {
            "HostKey": f"{HOME}/.host/server_key",
            "PermitRootLogin": "yes",
            "StrictModes": "no",
            "PidFile": "none",
        }
        (own / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))

        python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
        environment = self.home / ENVIRONMENT
        system(python, "-m", "venv", "--without-pip", environment)
        (site_packages,) = environment.glob("lib/python*/site-packages")
        (site_packages / "installed.pth").write_text(f"{_site_packages()}\n")
        ray = environment / "bin" / "ray"
        ray.write_text(f"#!{HOME}/{ENVIRONMENT}/bin/python\nfrom ray.scripts.scripts import main\nmain()\n")
        ray.chmod(0o755)
        pip = self.home / ".config" / "pip" / "pip.conf"
        pip.parent.mkdir(parents=True)
        pip.write_text("[global]\nno-index = true\nno-build-isolation = false\n")  # "false" is how pip wants it

        variables = {
            "PATH": f"{python.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": self.cpus}),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # of equal right with what else the machine does
            "RAY_prestart_worker_first_driver": "0",  # trials do not use those
            "PYTHONDONTWRITEBYTECODE": "1",
            **HEALTH_CHECKS,
        }
        (self.home / ".bashrc").write_text("".join(f"export {k}={shlex.quote(v)}\n" for k, v in variables.items()))
        (self.home / ".bash_profile").write_text("source ~/.bashrc\n")

    def _wire(self) -> None:
        inside = ("ip", "-n", self._namespace)
        system("ip", "netns", "add", self._namespace)
        ends = ("eth0", "netns", self._namespace, "type", "veth", "peer", "name", self._port, "netns", self._lab.switch)
        system("ip", "link", "add", *ends)
        system("ip", "-n", self._lab.switch, "link", "set", self._port, "master", "switch")
        system(*inside, "link", "set", "lo", "up")
        system(*inside, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        system(*inside, "link", "set", "eth0", "up")
        system(*inside, "route", "add", "default", "via", f"{NETWORK}.254")  # Ray finds its address through the way out

    def _boot_script(self) -> str:
        """Return what the first process does: hide what is not the host's, serve SSH, and bury the dead.

        What the host shall see and lies in what is hidden is put back where it was.
        """
        covered = [path for path in self._lab.visible if path.is_relative_to(HOME) or path.is_relative_to("/tmp")]
        aside = {Path("/mnt/home"): self.home, Path("/mnt/shared"): self._lab.shared}
        aside |= {Path(f"/mnt/{number}"): path for number, path in enumerate(covered)}
        lines = ["set -e", "mount -t tmpfs tmpfs /mnt"]
        lines += [f"mkdir {place}; mount --bind {path} {place}" for place, path in aside.items()]
        lines += ["mount -t tmpfs tmpfs /tmp", f"mount --bind /mnt/home {HOME}"]
        lines += [f"mkdir -p {path}; mount --bind /mnt/{number} {path}" for number, path in enumerate(covered)]
        lines += ["mount --bind /mnt/shared /mnt", "mkdir -p /run/sshd", f"cd {HOME}"]
        lines += [f"/usr/sbin/sshd -f {HOME}/.host/sshd_config", "while :; do sleep 1000 & wait $!; done"]
        return "\n".join(lines) + "\n"

    def _first_process(self) -> int | None:
        if self._boot is None:
            return None
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()
            return int(children[0]) if children else None
        return None

    def _enter(self) -> list[str]:
        first = self._first_process()
        assert first is not None, f"{self.name} is down"
        return ["nsenter", "--target", str(first), "--mount", "--net", "--pid"]

    def _answers(self) -> bool:
        assert self._boot is not None
        assert self._boot.poll() is None, (self.home / ".host" / "log").read_text()
        if self._first_process() is None:
            return False
        return self.listens(22)


class Lab:
    """Some hosts on a switch.

    Args:
        folder: for their disks; must not exist. Short-lived.
        cpus: of each host, by its name.
        visible: further folders of the machine that hosts see wherever those lie.
    """

    def __init__(self, folder: Path, *, visible: tuple[Path, ...] = (), **cpus: int) -> None:
        self.folder, self.name = folder.resolve(), f"hosts-{os.getpid()}-{secrets.token_hex(2)}"
        self.switch = f"{self.name}-switch"
        self.key = self.folder / "key"
        self.shared = self.folder / "shared"  # /mnt of every host
        needed = (PROJECT, Path(sys.prefix), Path(sys.base_prefix), *visible)
        self.visible = [path.resolve() for path in dict.fromkeys(needed)]
        self.hosts = {name: Host(self, name, number, count) for number, (name, count) in enumerate(cpus.items(), 1)}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> "Lab":
        _remove_abandoned()
        self.folder.mkdir(parents=True)
        self.shared.mkdir()
        system("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        system("ip", "netns", "add", self.switch)
        try:
            system("ip", "-n", self.switch, "link", "add", "switch", "type", "bridge")
            system("ip", "-n", self.switch, "link", "set", "switch", "up")
            for host in self.hosts.values():
                host.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.remove()
        subprocess.run(["ip", "netns", "del", self.switch], capture_output=True)


@contextlib.contextmanager
def hosts(folder: Path, **cpus: int) -> Iterator[Lab]:
    """Make a lab for a test, or skip it."""
    require_hosts()
    data = Path(os.environ.get("ADALOSS_DATA", PROJECT.parent / "shared" / "data"))
    with Lab(folder, visible=(data,) if data.is_dir() else (), **cpus) as lab:
        yield lab


def _remove_abandoned() -> None:
    """Delete the namespaces of tests that were killed; what ran in them died with them."""
    for line in system("ip", "netns", "list").splitlines():
        name = line.split()[0]
        process = name.split("-")[1] if name.startswith("hosts-") else ""
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _site_packages() -> str:
    """Return the folder of the running environment's packages."""
    return next(path for path in sys.path if path.endswith("site-packages") and path.startswith(sys.prefix))
