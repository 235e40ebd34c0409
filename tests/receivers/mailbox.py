"""A mail server: ADDRESS PORT FILE [CERTIFICATE KEY starttls|tls USER PASSWORD]. Each mail becomes a line of JSON."""
import email
import email.policy
import json
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

address, port, path, *secure = sys.argv[1:]


class Mailbox:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        said = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": mail["Subject"],
            "text": mail.get_content(),
            "date": mail["Date"],
            "encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "user": (session.auth_data or b"").decode(),
        }
        with open(path, "a") as file:
            file.write(json.dumps(said) + "\n")
        return "250 taken"


# Its own name is not asked for: a test host has no resolver.
options = {"server_hostname": "mail.test"}
if secure:
    certificate, key, how, user, password = secure
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def authenticator(server, session, envelope, mechanism, data):
        is_good = data.login == user.encode() and data.password == password.encode()
        return AuthResult(success=is_good, handled=False, auth_data=data.login)

    options |= {"authenticator": authenticator, "auth_required": True}
    if how == "tls":
        options |= {"ssl_context": context, "auth_require_tls": False}
    else:
        options |= {"tls_context": context, "require_starttls": True}

Controller(Mailbox(), hostname=address, port=int(port), **options).start()
threading.Event().wait()
