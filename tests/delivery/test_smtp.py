"""Mail against a server that answers as it is told."""

from __future__ import annotations

import email.message
import socket
from collections.abc import Iterator

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tasks.delivery.smtp import send
from tasks.errors import MailError
from tasks.settings import MailSettings


class Handler:
    """Answers from a script: to RCPT by address, to DATA in order; then it takes everything."""

    def __init__(self) -> None:
        self.rcpt: dict[str, list[str]] = {}
        self.data: list[str] = []
        self.taken: list[tuple[str, ...]] = []
        self.tries = 0

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: ARG002, N802
        answers = self.rcpt.get(address, [])
        answer = answers.pop(0) if answers else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: ARG002, N802
        self.tries += 1
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: ARG002, N802
        answer = self.data.pop(0) if self.data else "250 OK"
        if answer.startswith("250"):
            self.taken.append(tuple(envelope.rcpt_tos))
        return answer


@pytest.fixture
def server() -> Iterator[tuple[Handler, MailSettings]]:
    handler = Handler()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, MailSettings(host="127.0.0.1", port=port, tls="none", retry_seconds=0.001)
    controller.stop()


def mail(*to: str) -> email.message.EmailMessage:
    made = email.message.EmailMessage()
    made["From"], made["To"], made["Subject"] = "dam@example.com", ", ".join(to), "x"
    made["Message-ID"] = "<1@example.com>"
    made.set_content("x")
    return made


def test_what_passes_is_tried_again(server):
    handler, settings = server
    handler.data = ["451 4.3.0 try later", "421 4.3.2 busy"]
    assert send(settings, mail("a@example.com")) == []
    assert handler.taken == [("a@example.com",)]
    assert handler.tries == 3


def test_a_refusal_is_not_tried_again(server):
    handler, settings = server
    handler.data = ["554 5.7.1 no"]
    with pytest.raises(MailError, match=r"5\.7\.1 no.*DAM_DEDUP_MAIL__HOST"):
        send(settings, mail("a@example.com"))
    assert handler.tries == 1


def test_it_ends_after_so_many_attempts(server):
    handler, settings = server
    handler.data = ["451 later"] * 9
    with pytest.raises(MailError, match="451"):
        send(settings.model_copy(update={"attempts": 2}), mail("a@example.com"))
    assert handler.tries == 2


def test_who_is_refused_is_named_and_nobody_gets_it_twice(server, caplog):
    handler, settings = server
    handler.rcpt = {"bad@example.com": ["550 5.1.1 no such user"], "grey@example.com": ["450 soon"]}
    refused = send(settings, mail("a@example.com", "bad@example.com", "grey@example.com"))
    assert refused == ["bad@example.com"]
    assert handler.taken == [("a@example.com",), ("grey@example.com",)]
    assert "bad@example.com" in caplog.text
    assert "no such user" in caplog.text


def test_nobody_takes_it(server):
    handler, settings = server
    handler.rcpt = {"a@example.com": ["550 no"], "b@example.com": ["450 x"] * 9}
    with pytest.raises(MailError):
        send(settings, mail("a@example.com", "b@example.com"))
    assert handler.taken == []


def test_a_server_out_of_reach(server):
    _, settings = server
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        gone = settings.model_copy(update={"port": closed.getsockname()[1], "attempts": 2})
        with pytest.raises(MailError, match="cannot send mail through 127"):
            send(gone, mail("a@example.com"))


def test_encryption_that_the_server_does_not_offer_is_not_left_out(server):
    handler, settings = server
    with pytest.raises(MailError, match="STARTTLS"):
        send(settings.model_copy(update={"tls": "starttls"}), mail("a@example.com"))
    assert handler.tries == 0


class Anybody:
    """Takes every login."""

    def __call__(self, server, session, envelope, mechanism, data):  # noqa: ARG002
        return AuthResult(success=True)


@pytest.mark.parametrize(("name", "password"), [("dam", "pässwort"), ("däm", "x")])
def test_a_login_that_is_not_ascii_is_a_failure_of_mail(name, password):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    controller = Controller(
        Handler(),
        hostname="127.0.0.1",
        port=port,
        authenticator=Anybody(),
        auth_require_tls=False,
    )
    controller.start()
    login = {"username": name, "password": password}
    settings = MailSettings(host="127.0.0.1", port=port, tls="none", attempts=1, **login)
    try:
        with pytest.raises(MailError, match="not ASCII") as told:
            send(settings, mail("a@example.com"))
    finally:
        controller.stop()
    assert password not in str(told.value)
    assert "codec" not in str(told.value)


def test_a_failure_of_any_type_is_one_of_mail(server, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the library is confused")

    monkeypatch.setattr("smtplib.SMTP.send_message", broken)
    with pytest.raises(MailError, match="confused"):
        send(server[1], mail("a@example.com"))
