"""Reads pip's settings, without pip, so that models can be downloaded wherever `pip install` works.

Precedence, as in pip's documentation ("Configuration"): environment variables, PIP_CONFIG_FILE, the virtual
environment's pip.conf, the user's, the machine's; and over all files, [install] before [global].
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from omnivec.errors import DownloadError
from omnivec.hub.transfer import NetworkSettings, origin_of, without_credentials

PYPI = "https://pypi.org/simple"
_TRUE = {"1", "true", "t", "yes", "y", "on"}
_TIMEOUT = 15.0  # pip's own default, seconds
_LONGEST = 1e6


@dataclass(frozen=True)
class PipSettings:
    """The sources of packages.

    Attributes:
        find_links: folders, file URLs or pages with wheels.
        indexes: URLs of simple indexes, without credentials.
        network: settings for the connections to them.
    """

    find_links: tuple[str, ...]
    indexes: tuple[str, ...]
    network: NetworkSettings


def read() -> PipSettings:
    """The settings that pip would use for `pip install` in this process.

    Raises:
        DownloadError: a settings file cannot be read, or a setting is invalid.
    """
    settings = {**_from_files(), **_from_environment()}
    main = settings.get("index-url", PYPI)
    stated = [main, *settings.get("extra-index-url", "").split()]
    if settings.get("no-index", "").lower() in _TRUE:
        stated = []
    network = NetworkSettings(
        timeout=_seconds(settings),
        certificates=settings.get("cert")
        or os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("CURL_CA_BUNDLE"),
        client_certificate=settings.get("client-cert"),
        proxy=settings.get("proxy"),
        trusted_hosts=frozenset(settings.get("trusted-host", "").split()),
        credentials=_credentials(stated),
    )
    find_links = tuple(settings.get("find-links", "").split())
    return PipSettings(find_links, tuple(without_credentials(url) for url in stated), network)


def _seconds(settings: Mapping[str, str]) -> float:
    stated = settings.get("timeout") or settings.get("default-timeout")
    try:
        seconds = float(stated) if stated else _TIMEOUT
        if not 0 < seconds < _LONGEST:
            raise ValueError(stated)
        return seconds
    except ValueError as exc:
        raise DownloadError(f"pip's timeout setting must be a number of seconds, not {stated!r}") from exc


def _credentials(urls: list[str]) -> dict[str, tuple[str, str]]:
    credentials = {}
    for url in urls:
        try:
            parts = urlsplit(url)
            if parts.username:
                credentials[origin_of(url)] = (unquote(parts.username), unquote(parts.password or ""))
        except ValueError as exc:
            raise DownloadError(f"pip's settings name an index that is not a URL: {exc}") from exc
    return credentials


def _from_environment() -> dict[str, str]:
    prefix = "PIP_"
    return {
        _key(name.removeprefix(prefix)): value
        for name, value in os.environ.items()
        if name.startswith(prefix) and value
    }


def _key(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _from_files() -> dict[str, str]:
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in _files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError) as exc:
            first_line = str(exc).splitlines()[0]
            raise DownloadError(f"cannot read pip's settings in {file}: {first_line}") from exc
        for section, settings in sections.items():
            if parser.has_section(section):
                settings.update({_key(name): value for name, value in parser.items(section) if value})
    return {**sections["global"], **sections["install"]}


def _files() -> list[Path]:
    """The existing settings files, in the order of increasing precedence."""
    stated = os.environ.get("PIP_CONFIG_FILE")
    if stated == os.devnull:
        return []
    files = [*_machine_files()]
    if not (stated and Path(stated).exists()):
        files += _user_files()
    files.append(Path(sys.prefix) / _file_name())
    if stated:
        files.append(Path(stated))
    return [file for file in files if file.is_file()]


def _file_name() -> str:
    return "pip.ini" if sys.platform == "win32" else "pip.conf"


def _machine_files() -> list[Path]:
    if sys.platform == "win32":
        return [Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "pip" / _file_name()]
    if sys.platform == "darwin":
        return [Path("/Library/Application Support/pip") / _file_name()]
    shared = [Path(each) for each in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if each]
    return [*(folder / "pip" / _file_name() for folder in shared), Path("/etc") / _file_name()]


def _user_files() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        roaming = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
        return [home / "pip" / _file_name(), roaming / "pip" / _file_name()]
    modern = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    mac = home / "Library" / "Application Support" / "pip"
    if sys.platform == "darwin" and mac.is_dir():
        modern = mac
    return [home / ".pip" / _file_name(), modern / _file_name()]
