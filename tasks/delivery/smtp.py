"""Mail through SMTP."""

from __future__ import annotations

import logging
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.utils import getaddresses

from tasks.errors import MailError
from tasks.settings import MailSettings

log = logging.getLogger(__name__)

#: By which factor the pause before each further attempt grows.
_LONGER = 4


def connect(settings: MailSettings) -> smtplib.SMTP:
    """A connection, encrypted and logged in as the settings say.

    Raises:
        OSError: when the server cannot be reached.
        smtplib.SMTPException: when it refuses.
    """
    timeout = settings.timeout_seconds
    context = ssl.create_default_context()
    if settings.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            settings.host, settings.port, timeout=timeout, context=context
        )
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=timeout)
        if settings.tls == "starttls":
            server.starttls(context=context)
    if settings.username and settings.password:
        try:
            server.login(settings.username, settings.password.get_secret_value())
        except UnicodeError:  # its own message would show a part of the password
            raise smtplib.SMTPException(
                "DAM_DEDUP_MAIL__USERNAME or __PASSWORD holds characters that are not ASCII; "
                "give this login a password of ASCII characters"
            ) from None
    return server


def send(settings: MailSettings, mail: EmailMessage) -> list[str]:
    """Send one mail; after a failure that may pass it is sent again, with growing pauses.

    A mail keeps its Message-ID at each attempt. So when the server took it but its answer was lost,
    the reader's mail program recognises the second copy. Addresses that the server accepted once
    are left out of further attempts.

    Returns:
        The addresses that were refused while others got the mail.

    Raises:
        MailError: when nobody got it.
    """
    left = [address for _, address in getaddresses([str(mail["To"])])]
    everybody, told_no = len(left), dict[str, tuple[int, bytes]]()
    last: Exception | None = None
    for attempt in range(settings.attempts):
        if attempt:
            pause = settings.retry_seconds * _LONGER ** (attempt - 1)
            log.warning(
                "mail through %s: %s; trying again in %.0f s", _place(settings), last, pause
            )
            time.sleep(pause)
        try:
            with connect(settings) as server:
                refused = server.send_message(mail, to_addrs=left)
        except smtplib.SMTPRecipientsRefused as error:
            refused, last = error.recipients, error
        except Exception as error:  # a password that is not ASCII is a UnicodeError, for one
            last = error
            if not passing(error):
                break
            continue
        told_no |= {name: answer for name, answer in refused.items() if answer[0] >= 500}
        left = [name for name, answer in refused.items() if answer[0] < 500]
        last = last or smtplib.SMTPRecipientsRefused(refused)
        if not left:
            break
    lost = [*told_no, *left]
    if len(lost) == everybody:
        raise MailError(
            f"cannot send mail through {_place(settings)}: {last}; check DAM_DEDUP_MAIL__HOST, "
            "__PORT, __TLS, __USERNAME, __PASSWORD and __TO"
        ) from last
    # Only logged: after an error the caller would send to all again, and the others have the mail.
    for name in lost:
        log.error(
            "the mail server took the mail for others, and refused it for %s: %s",
            name,
            told_no.get(name, last),
        )
    return lost


def passing(error: Exception) -> bool:
    """Whether another attempt may succeed: a 4xx answer, a lost connection, no connection."""
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500 or error.smtp_code == -1
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return True
    return isinstance(error, OSError) and not isinstance(
        error, (smtplib.SMTPException, ssl.SSLCertVerificationError)
    )


def _place(settings: MailSettings) -> str:
    return f"{settings.host}:{settings.port} (tls: {settings.tls})"
