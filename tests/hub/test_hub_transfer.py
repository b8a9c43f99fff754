from __future__ import annotations

import ssl
from typing import Any

import pytest

from omnivec.errors import DownloadError
from omnivec.hub.transfer import NetworkSettings, origin_of, without_credentials


def test_only_a_trusted_host_need_not_prove_who_it_is():
    network = NetworkSettings(trusted_hosts=frozenset({"one", "two:81"}))
    for url, mode in {
        "https://one/x": ssl.CERT_NONE,
        "https://one:444/x": ssl.CERT_NONE,
        "https://two:81/x": ssl.CERT_NONE,
        "https://two/x": ssl.CERT_REQUIRED,
        "https://three/x": ssl.CERT_REQUIRED,
    }.items():
        context = network.context(url)
        assert context.verify_mode == mode
        assert context.check_hostname is (mode == ssl.CERT_REQUIRED)


@pytest.mark.parametrize("setting", ["certificates", "client_certificate"])
def test_certificates_that_cannot_be_used_are_named(tmp_path, setting):
    for file in (tmp_path / "gone.pem", tmp_path / "empty.pem"):
        if file.name == "empty.pem":
            file.touch()
        with pytest.raises(DownloadError, match=rf"certificates .*{file.name} cannot be used"):
            settings: dict[str, Any] = {setting: str(file)}
            NetworkSettings(**settings).context("https://one")


def test_an_origin_is_scheme_host_and_port():
    assert origin_of("https://me:secret@Host/path") == "https://host:443"
    assert origin_of("http://host:81") == "http://host:81"
    assert without_credentials("https://me:secret@host:1/p?q#f") == "https://host:1/p?q#f"
