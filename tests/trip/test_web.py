"""The web page of the real daemon, over loopback: by HTTPS, over a reload, and with the command."""

from __future__ import annotations

import http.client
import json
import re
import smtplib
import socket
import sqlite3
import ssl
from contextlib import closing
from urllib.parse import urlencode

import pytest

from postoffice.cli import self_signed

ANNA = "anna@example.net"
PASSWORD = "correct horse battery"
WEB = 'web: {listen: "tcp:0:interface=127.0.0.1"}\n'


@pytest.fixture
def office(start, written, tmp_path):
    written(WEB)
    office = start().open()
    office.account("postmaster@example.net", "a password")
    office.account(ANNA, PASSWORD)
    return office


class Browser:
    """Asks over one connection, and keeps the cookies."""

    def __init__(self, port: int, trusted: ssl.SSLContext | None = None) -> None:
        self.host = f"localhost:{port}"
        self.scheme = "https" if trusted else "http"
        kind = http.client.HTTPSConnection if trusted else http.client.HTTPConnection
        more = {"context": trusted} if trusted else {}
        self.connection = kind("localhost", port, timeout=30, **more)
        self.cookies: dict[str, str] = {}
        self.text = ""

    def ask(self, method: str, path: str, **form: str) -> int:
        if form:
            token = re.search(r'name="csrf" value="([^"]+)"', self.text)
            form = {"csrf": token[1] if token else "", **form}
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Origin": f"{self.scheme}://{self.host}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self.connection.request(method, path, urlencode(form), headers)
        answer = self.connection.getresponse()
        self.text = answer.read().decode()
        self.headers = answer.headers
        for cookie in answer.headers.get_all("Set-Cookie", ()):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status

    def log_in(self) -> None:
        assert self.ask("POST", "/login", address=ANNA, password=PASSWORD) == 303, self.text

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def browser():
    made = []

    def browser(*where) -> Browser:
        made.append(Browser(*where))
        return made[-1]

    yield browser
    for one in made:
        one.close()


def test_the_page_is_served_and_logins_are_noted(office, browser, tmp_path):
    visitor = browser(office.ports["web"])
    visitor.log_in()
    assert visitor.ask("GET", "/") == 200
    assert ANNA in visitor.text
    office.wait_for(rf"login id=\w+ service=web client=127.0.0.1 account={ANNA}")
    office.check()
    with closing(sqlite3.connect(tmp_path / "state" / "logins.db")) as logins:
        (row,) = logins.execute("SELECT account, service, mechanism FROM login").fetchall()
    assert row == (ANNA, "web", "PASSWORD")


def test_a_session_and_the_port_outlive_a_reload(office, browser, command, tmp_path):
    visitor = browser(office.ports["web"])
    visitor.log_in()
    file = tmp_path / "postoffice.yaml"
    file.write_text(file.read_text() + "limits: {recipients: 200}\n")
    done = json.loads(command("reload", "--json").stdout)
    assert (done["opened"], done["closed"]) == ([], [])
    again = browser(office.ports["web"])
    again.cookies = visitor.cookies
    assert again.ask("GET", "/") == 200
    assert ANNA in again.text
    file.write_text(file.read_text().replace(WEB, ""))
    done = json.loads(command("reload", "--json").stdout)
    assert done["closed"] == [f"web 127.0.0.1:{office.ports['web']}"]
    file.write_text(file.read_text() + WEB)
    done = json.loads(command("reload", "--json").stdout)
    (opened,) = done["opened"]
    once_more = browser(int(opened.rpartition(":")[2]))
    assert once_more.ask("GET", "/login") == 200
    office.check()


def test_a_link_of_the_command_logs_in(office, browser, command):
    answer = json.loads(command("web", "link", ANNA, "--json").stdout)
    path = re.sub(r"^http://localhost:\d+", "", answer["link"])
    visitor = browser(office.ports["web"])
    assert visitor.ask("GET", path) == 200
    assert visitor.ask("POST", "/link", token=path.partition("token=")[2]) == 303
    assert visitor.ask("GET", "/") == 200
    assert ANNA in visitor.text
    office.check()


def test_a_forward_is_confirmed_by_a_letter(office, browser):
    bert = office.account("bert@example.net", PASSWORD)
    owner = browser(office.ports["web"])
    owner.log_in()
    owner.ask("GET", "/forward")
    assert owner.ask("POST", "/forward", target=bert.address) == 303
    (letter,) = office.collect(bert)
    token = re.search(rb"token=3D(\S{43})", letter.replace(b"=\r\n", b"")) or re.search(
        rb"token=(\S{43})", letter
    )
    target = browser(office.ports["web"])
    assert target.ask("POST", "/forward/confirm", token=token[1].decode()) == 200, target.text
    with smtplib.SMTP("127.0.0.1", office.smtp) as client:
        client.sendmail("x@example.org", [ANNA], b"Subject: to both\r\n\r\nx\r\n")
    (copy,) = office.collect(bert)
    assert b"Subject: to both" in copy
    office.check()


def test_https_with_our_own_certificates(start, written, tmp_path, browser):
    certificate, key = self_signed.make(["localhost"])
    (tmp_path / "tls.pem").write_bytes(certificate + key)
    web = WEB.replace("}", ", tls: true, hosts: [localhost]}")
    written("tls: {certificates: [{certificate: tls.pem, key: tls.pem}]}\n" + web)
    office = start().open()
    office.account(ANNA, PASSWORD)
    trusted = ssl.create_default_context(cadata=certificate.decode())
    visitor = browser(office.ports["web"], trusted)
    visitor.log_in()
    assert visitor.ask("GET", "/") == 200
    assert visitor.headers["Strict-Transport-Security"]
    assert "__Host-postoffice" in visitor.cookies
    visitor.close()
    office.check()


def test_a_port_that_is_taken_is_told_of_with_its_key(start, written, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        written(WEB.replace("tcp:0", f"tcp:{port}"))
        office = start()
        assert office.end() == 1
    assert f"web cannot listen on tcp:{port}" in office.said
    assert "postoffice.yaml:9" in office.said, office.said
