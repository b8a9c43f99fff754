from __future__ import annotations

import os
import sys

import pytest

from omnivec.errors import DownloadError
from omnivec.hub import pip_settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the places differ")


@pytest.fixture
def files(tmp_path, home, monkeypatch):
    """Writes pip's settings files: machine, user, environment."""
    places = {
        "machine": tmp_path / "xdg" / "pip" / "pip.conf",
        "user": home / ".config" / "pip" / "pip.conf",
        "venv": tmp_path / "venv" / "pip.conf",
    }
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(pip_settings, "_machine_files", lambda: [places["machine"]])
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.delenv("PIP_INDEX_URL")

    def write(**contents):
        for place, text in contents.items():
            places[place].parent.mkdir(parents=True, exist_ok=True)
            places[place].write_text(text)

    return write


def test_without_settings_it_is_pypi(files):
    settings = pip_settings.read()
    assert settings.indexes == ("https://pypi.org/simple",)
    assert settings.find_links == ()
    assert settings.network.timeout == 15.0
    assert settings.network.certificates is None


def test_later_places_win(files, monkeypatch):
    files(machine="[global]\nindex-url = http://machine\ntimeout = 1\ncert = /machine.pem\nproxy = http://p")
    files(user="[global]\nindex_url = http://user\ntimeout = 2\ncert = /user.pem")
    files(venv="[global]\nindex-url = http://venv\ntimeout = 3")
    monkeypatch.setenv("PIP_INDEX_URL", "http://variable")
    settings = pip_settings.read()
    assert settings.indexes == ("http://variable",)
    assert settings.network.timeout == 3.0
    assert settings.network.certificates == "/user.pem"
    assert settings.network.proxy == "http://p"


def test_the_section_of_install_wins_over_global_of_any_file(files):
    files(machine="[install]\nindex-url = http://install", user="[global]\nindex-url = http://global")
    assert pip_settings.read().indexes == ("http://install",)


def test_a_stated_file_wins_and_hides_the_user_s(files, tmp_path, monkeypatch):
    files(user="[global]\nindex-url = http://user\ntimeout = 2", machine="[global]\ncert = /machine.pem")
    stated = tmp_path / "stated.conf"
    stated.write_text("[global]\nindex-url = http://stated")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(stated))
    settings = pip_settings.read()
    assert settings.indexes == ("http://stated",)
    assert settings.network.timeout == 15.0
    assert settings.network.certificates == "/machine.pem"
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert pip_settings.read().network.certificates is None


def test_lists_credentials_and_trusted_hosts(files, monkeypatch):
    files(user="[global]\nextra-index-url =\n    https://me:p%40ss@one/simple\n    http://two:81/simple\n")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels file:///more")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "one two:81")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "7")
    settings = pip_settings.read()
    assert settings.indexes == ("https://pypi.org/simple", "https://one/simple", "http://two:81/simple")
    assert settings.find_links == ("/wheels", "file:///more")
    assert settings.network.credentials == {"https://one:443": ("me", "p@ss")}
    assert settings.network.trusted_hosts == {"one", "two:81"}
    assert settings.network.timeout == 7.0


def test_no_index_leaves_the_folders(files, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    settings = pip_settings.read()
    assert settings.indexes == ()
    assert settings.find_links == ("/wheels",)


@pytest.mark.parametrize("text", ["index-url = without a section", "[global]\ntimeout = soon"])
def test_settings_that_cannot_be_read_are_named(files, text):
    files(user=text)
    with pytest.raises(DownloadError, match=r"pip.conf|'soon'"):
        pip_settings.read()
