"""The certificate by which sidecars of one server know each other: each derives it from the server's key.

Bit for bit the same in every pod, so nobody issues it, and both sides accept it alone. Whoever connects
says by the name in its hello which it presents and expects: while a key is replaced, some know the new
one, some the old one, and some both, and any two that share one find it.
Source: RFC 8446 (TLS 1.3), RFC 6066 section 3 (server names), RFC 8410 (Ed25519 in certificates).
"""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"mcpace relay certificate 1"
_SINCE: Final = datetime(2020, 1, 1, tzinfo=UTC)
_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""It never expires (RFC 5280, section 4.1.2.5): clocks of pods may differ, and keys are replaced."""


class Certificate:
    """One certificate and its private key, derived from a server's key."""

    def __init__(self, secret: bytes) -> None:
        seed = HKDF(hashes.SHA256(), 32, None, _PURPOSE).derive(secret)
        key = Ed25519PrivateKey.from_private_bytes(seed)
        public = key.public_key()
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(raw)
        number = digest.finalize()
        self.name = f"{number[:16].hex()}.relay.mcpace"
        """What it is asked for by; only who has seen it knows it."""
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        serial = int.from_bytes(number[:16]) >> 1 or 1
        builder = (
            x509.CertificateBuilder(subject, subject, public, serial, _SINCE, _UNTIL)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.name)]), critical=False)
        )
        self.pem = builder.sign(key, None).public_bytes(serialization.Encoding.PEM)
        self._private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def client(self) -> ssl.SSLContext:
        """How to speak to a peer that has the same one."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, self)
        context.check_hostname = True
        return context

    def server(self, *accepted: Certificate) -> ssl.SSLContext:
        """How to be spoken to, by whoever has one of those accepted."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, *accepted)
        context.num_tickets = 0  # a session that is resumed presents no certificate
        return context

    def _context(self, side: int, *accepted: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        for other in accepted:
            context.load_verify_locations(cadata=other.pem.decode())
        held = os.memfd_create("relay", os.MFD_CLOEXEC)  # the library reads it from a file alone
        try:
            os.write(held, self.pem + self._private)
            context.load_cert_chain(f"/proc/self/fd/{held}")
        finally:
            os.close(held)
        return context

    def __repr__(self) -> str:
        return f"<Certificate {self.name}>"


class Certificates:
    """The one of the server's key, and that of the key before, while both are accepted."""

    def __init__(self, *secrets: bytes) -> None:
        """`secrets`: the current one first."""
        self._all = [Certificate(secret) for secret in secrets]

    def clients(self) -> list[tuple[ssl.SSLContext, str]]:
        """How to speak to a peer, and the name to ask for; the current one first."""
        return [(each.client(), each.name) for each in self._all]

    def server(self) -> ssl.SSLContext:
        """How to be spoken to: who asks for none of these names is refused before any key is used."""
        contexts = {each.name: each.server(*self._all) for each in self._all}

        def choose(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> int | None:
            del first
            context = contexts.get(name or "")
            if context is None:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            connection.context = context
            return None

        first = contexts[self._all[0].name]
        first.sni_callback = choose
        return first
