"""Mail through SMTP."""

from __future__ import annotations

import logging
import smtplib
import ssl
from email.message import EmailMessage

from tasks.errors import DeliveryError
from tasks.settings import MailSettings

log = logging.getLogger(__name__)


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
        server.login(settings.username, settings.password.get_secret_value())
    return server


def send(settings: MailSettings, mail: EmailMessage) -> None:
    """Send one mail.

    Raises:
        DeliveryError: when the server cannot be reached or refuses it for everybody.
    """
    try:
        with connect(settings) as server:
            refused = server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise DeliveryError(
            f"cannot send mail through {settings.host}:{settings.port} (tls: {settings.tls}): "
            f"{error}; check DAM_DEDUP_MAIL__HOST, __PORT, __TLS, __USERNAME"
        ) from error
    if refused:  # the others have it: sending again would send it to them twice
        log.error("the mail server refused these recipients: %s", refused)
