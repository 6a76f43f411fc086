#!/usr/bin/env python3
"""
Post messages over STARTTLS, by smtplib on threads; one line of JSON.

    tlsload.py --port 2525 -c 10 -m 2000                       # 10 sessions, as many as there are
    tlsload.py --port 2525 -c 10 -m 500 --per-connection 1     # a handshake for each message
    tlsload.py --port 2525 -c 10 -m 2000 --plain               # the same without TLS

Python's TLS costs this tool more than it costs a server: look at the server's
CPU for each message, and at ``generator_cpu_s`` before you believe a rate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import smtplib
import ssl
import sys
import threading
import time

import loadlib


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-c", "--connections", type=int, default=10)
    parser.add_argument("-m", "--messages", type=int, default=1000)
    parser.add_argument("--per-connection", type=int, default=0, help="0: as many as there are")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--domain", default="example.test")
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    made = loadlib.Messages(f"tls{time.time_ns()}")
    numbers = itertools.count()
    errors: list[str] = []

    def session() -> bool:
        """Post until it is enough for one session; whether there is more to post."""
        with smtplib.SMTP("127.0.0.1", options.port, "client.test", timeout=60) as client:
            client.ehlo()
            if not options.plain:
                client.starttls(context=context)
                client.ehlo()
            for done in itertools.count(1):
                number = next(numbers)
                if number >= options.messages:
                    return False
                to = f"u{number % options.users}@{options.domain}"
                header, body, _ = made.get(number, options.size, to)
                client.sendmail("load@sender.test", [to], header + body)
                if done == options.per_connection:
                    return True
        raise AssertionError

    def post() -> None:
        try:
            while session():
                pass
        except (OSError, smtplib.SMTPException) as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=post) for _ in range(options.connections)]
    began, cpu = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    said = {
        "seconds": round(seconds, 3),
        "messages": options.messages,
        "accept_per_s": round(options.messages / seconds, 1),
        "generator_cpu_s": round(time.process_time() - cpu, 3),
        "errors": len(errors),
        "error_kinds": sorted(set(errors)),
    }
    print(json.dumps(said))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
