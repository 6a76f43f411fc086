"""A real daemon is scraped: every metric is there, promtool likes it, and health is told."""

from __future__ import annotations

import http.client
import poplib
import re
import shutil
import signal
import smtplib
import socket
import subprocess
from urllib.request import urlopen

import pytest

from postoffice.metrics.table import METRICS
from tests.trip.conftest import CONFIGURATION, NEVER, Office

METRICS_ON = 'metrics: {listen: "tcp:0:interface=127.0.0.1"}\n'
AT = re.compile(r"metrics are at http://127\.0\.0\.1:(\d+)/metrics")
TEXT = b"Subject: x\r\n\r\nx\r\n"


def port_of(office: Office) -> int:
    return int(AT.findall(office.said)[-1])


def get(port: int, path: str) -> tuple[int, str]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=NEVER)
    client.request("GET", path)
    answer = client.getresponse()
    said = answer.read().decode()
    client.close()
    return answer.status, said


@pytest.fixture(scope="module")
def scraped(tmp_path_factory, opened):
    """An office that has worked, its port for metrics, and a scrape of it."""
    folder = tmp_path_factory.mktemp("metrics")
    outbound = 'outbound: {routes: [{via: "smtp:127.0.0.1:1"}]}\n'
    for office in opened(folder, CONFIGURATION + METRICS_ON + outbound):
        office.account("postmaster@example.net", office.PASSWORD)
        account = office.new_account()
        with smtplib.SMTP("127.0.0.1", office.ports["submission"], timeout=NEVER) as client:
            client.login(account.address, account.password)
            client.sendmail(account.address, [account.address, "eve@example.com"], TEXT)
        with (
            smtplib.SMTP("127.0.0.1", office.smtp, timeout=NEVER) as client,
            pytest.raises(smtplib.SMTPRecipientsRefused),
        ):
            client.sendmail("a@example.org", ["nobody@example.net"], TEXT)
        wrong = poplib.POP3("127.0.0.1", office.pop3, timeout=NEVER)
        wrong.user(account.address)
        with pytest.raises(poplib.error_proto):
            wrong.pass_("wrong")
        wrong.close()
        assert len(office.collect(account)) == 1
        office.wait_for(" deferred ")
        office.wait_for(r"session-ended .*deleted=1")
        status, text = get(port_of(office), "/metrics")
        assert status == 200
        yield office, port_of(office), text


def value(text: str, name: str) -> float:
    """The value of a sample by its name and labels, as it is written."""
    found = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert len(found) == 1, (name, text)
    return float(found[0])


def test_every_metric_is_shown_with_its_kind(scraped):
    _, _, text = scraped
    shown = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert {name: shown.get(name) for name in METRICS} == {
        name: metric.kind for name, metric in METRICS.items()
    }
    assert "process_start_time_seconds" in shown


def test_the_numbers_are_those_of_what_happened(scraped):
    _, _, text = scraped
    login = 'postoffice_logins_total{mechanism="%s",result="%s",service="%s"}'
    for name, number in {
        "postoffice_ready": 1,
        'postoffice_messages_accepted_total{service="submission"}': 1,
        'postoffice_recipients_accepted_total{service="submission"}': 2,
        'postoffice_message_size_bytes_sum{service="submission"}': len(TEXT),
        'postoffice_delivery_seconds_count{service="submission"}': 1,
        'postoffice_login_seconds_count{service="pop3"}': 1,
        'postoffice_replies_total{class="5yz",service="smtp"}': 1,
        'postoffice_replies_total{class="2yz",service="smtp"}': 5,  # greeting, EHLO, MAIL, RSET, …
        'postoffice_replies_total{class="3yz",service="submission"}': 1,
        'postoffice_replies_total{class="-ERR",service="pop3"}': 1,
        login % ("USER", "accepted", "pop3"): 1,
        login % ("USER", "refused", "pop3"): 1,
        'postoffice_messages_retrieved_total{service="pop3"}': 1,
        'postoffice_messages_deleted_total{service="pop3"}': 1,
        'postoffice_connections_total{service="smtp"}': 1,
        'postoffice_connections{service="smtp"}': 0,
        'postoffice_queue_recipients_total{result="deferred"}': 1,
        "postoffice_store_batch_messages_count": 1,
        "postoffice_store_batch_failures_total": 0,
    }.items():
        if "batch_messages" in name:  # how many go together is chance
            assert value(text, name) >= number
        else:
            assert value(text, name) == number, name


def test_nothing_names_a_person_or_a_client(scraped):
    _, _, text = scraped
    samples = [line for line in text.splitlines() if line.startswith("postoffice_")]
    assert samples
    assert not any("@" in line or "127.0.0.1" in line or "example" in line for line in samples)


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="there is no promtool (Debian: prometheus)"
)
def test_promtool_finds_nothing_to_say(scraped):
    _, _, text = scraped
    own = "\n".join(
        part for part in re.split(r"\n(?=# HELP )", text) if part.startswith("# HELP postoffice_")
    )
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=own + "\n", capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_health_and_what_else_there_is(scraped):
    _, port, _ = scraped
    assert get(port, "/live") == get(port, "/ready") == (200, "ok\n")
    assert get(port, "/")[0] == get(port, "/metrics/x")[0] == 404
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=NEVER)
    client.request("POST", "/metrics", b"x")
    assert client.getresponse().status == 405
    client.close()


def test_a_body_and_many_connections_are_bounded(scraped):
    _, port, _ = scraped
    with socket.create_connection(("127.0.0.1", port), NEVER) as long:
        long.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        try:
            for _ in range(10_000):
                long.sendall(b"x" * 65536)
        except OSError:
            pass
        else:
            pytest.fail("it takes any body")
    held = [socket.create_connection(("127.0.0.1", port), NEVER) for _ in range(16)]
    try:
        for one in held:  # each is open: it answers
            one.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 200")
        with socket.create_connection(("127.0.0.1", port), NEVER) as more:
            assert more.recv(1) == b""
    finally:
        for one in held:
            one.close()


def test_a_reload_moves_it_and_ends_it_and_a_port_in_use_fails(start, written, command):
    written()
    office = start().open()
    office.account("postmaster@example.net", office.PASSWORD)
    assert "metrics" not in office.said
    written(METRICS_ON)
    assert command("reload").returncode == 0
    first = port_of(office)
    assert get(first, "/ready")[0] == 200
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        written(f'metrics: {{listen: "tcp:{used}:interface=127.0.0.1"}}\n')
        done = command("reload")
    assert done.returncode == 1
    why = r"metrics cannot listen on tcp:.*postoffice\.yaml:\d+\): Address already in use"
    assert re.search(why, done.stderr)
    assert get(first, "/ready")[0] == 200
    written()
    assert command("reload").returncode == 0
    with pytest.raises(OSError, match="refused"):
        get(first, "/ready")
    office.check()


def test_a_reload_without_its_metrics_opens_no_other_port_either(start, written, command):
    written()
    office = start().open()
    office.account("postmaster@example.net", office.PASSWORD)
    with socket.create_server(("127.0.0.1", 0)) as free:
        new = free.getsockname()[1]
    at_once = ('lmtp: ["tcp:0:interface=127.0.0.1"]', f'lmtp: ["tcp:{new}:interface=127.0.0.1"]')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        written(f'metrics: {{listen: "tcp:{used}:interface=127.0.0.1"}}\n', at_once)
        assert command("reload").returncode == 1
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", new)) != 0
    assert command("reload").returncode == 0
    with socket.create_connection(("127.0.0.1", new), NEVER) as client:
        assert client.recv(4) == b"220 "
    office.check()


def test_a_port_in_use_ends_the_start_with_file_and_line(start, written):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        written(f'metrics: {{listen: "tcp:{used}:interface=127.0.0.1"}}\n')
        office = start()
        assert office.end() == 1
    why = r"metrics cannot listen on tcp:\S+ \(postoffice\.yaml:\d+\): Address already in use"
    assert re.search(why, office.said)


def test_a_connection_through_a_balancer_is_one(start, written):
    place = 'pop3: ["tcp:0:interface=127.0.0.1"]'
    proxied = 'pop3: [{endpoint: "tcp:0:interface=127.0.0.1", proxy_from: [127.0.0.1]}]'
    written(METRICS_ON, (place, proxied))
    office = start().open()
    office.account("postmaster@example.net", office.PASSWORD)
    with socket.create_connection(("127.0.0.1", office.pop3), NEVER) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 110\r\n")
        assert client.recv(4) == b"+OK "
        text = get(port_of(office), "/metrics")[1]
    assert value(text, 'postoffice_connections_total{service="pop3"}') == 1
    assert value(text, 'postoffice_connections{service="pop3"}') == 1
    office.check()


def test_it_is_not_ready_while_it_stops(start, written):
    written(METRICS_ON)
    office = start().open()
    office.account("postmaster@example.net", office.PASSWORD)
    port, account = port_of(office), office.new_account()
    client = smtplib.SMTP("127.0.0.1", office.smtp, timeout=NEVER)
    client.ehlo()
    client.mail("a@example.org")
    client.rcpt(account.address)
    client.putcmd("data")
    assert client.getreply()[0] == 354
    office.process.send_signal(signal.SIGTERM)
    office.wait_for("Received SIGTERM")
    while get(port, "/ready") != (503, "not ready\n"):
        pass
    assert get(port, "/live")[0] == 200
    client.send(TEXT + b".\r\n")
    assert client.getreply()[0] == 250
    client.close()
    assert office.end() in (0, -signal.SIGTERM)
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/live", timeout=NEVER)
