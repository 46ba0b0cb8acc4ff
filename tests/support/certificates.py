"""Certificates for mutual TLS on loopback: an authority, a server, and a client whose URI names its workload."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


class Certificates:
    """Made in `folder`. `context` is the client's; `require` makes a listener of Envoy ask for it."""

    def __init__(self, folder: Path, client_uri: str) -> None:
        self._folder = folder
        self._authority = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        own = self._builder("test authority", self._authority.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        own = own.add_extension(usage, critical=True)
        self._write("ca", own.sign(self._authority, hashes.SHA256()), None)
        self._issue("server", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        self._issue("client", x509.UniformResourceIdentifier(client_uri))
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        self.context.load_cert_chain(folder / "client.pem", folder / "client.key")

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        builder = builder.serial_number(x509.random_serial_number())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority.public_key())
        builder = builder.add_extension(identifier, critical=False).add_extension(issuer, critical=False)
        return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))

    def _issue(self, name: str, subject: x509.GeneralName) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        self._write(name, builder.sign(self._authority, hashes.SHA256()), key)

    def _write(self, name: str, certificate: x509.Certificate, key: Key | None) -> None:
        pem = serialization.Encoding.PEM
        (self._folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        if key is not None:
            form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            (self._folder / f"{name}.key").write_bytes(key.private_bytes(pem, form, plain))

    def require(self, listener: dict[str, Any]) -> None:
        """Puts TLS before the listener, with a client certificate instead of an api key."""
        chain = listener["filter_chains"][0]
        own = {"certificate_chain": self._file("server.pem"), "private_key": self._file("server.key")}
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": True,
                "common_tls_context": {
                    "tls_certificates": [own],
                    "validation_context": {"trusted_ca": self._file("ca.pem")},
                },
            },
        }
        filters = chain["filters"][0]["typed_config"]["http_filters"]
        filters[:] = [entry for entry in filters if entry["name"] != "envoy.filters.http.api_key_auth"]

    def _file(self, name: str) -> dict[str, str]:
        return {"filename": str(self._folder / name)}
