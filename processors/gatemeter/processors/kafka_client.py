"""The settings of the brokers in the words of each client library: aiokafka, Faust and librdkafka."""

from __future__ import annotations

import ssl
from typing import Any

import faust
from faust.types.auth import CredentialsT

from gatemeter.processors.settings import KafkaSecurity, Settings


def tls(security: KafkaSecurity) -> ssl.SSLContext | None:
    """A context that verifies the brokers; None where the connection is not encrypted."""
    if not security.protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=str(security.ca_file) if security.ca_file else None)


def faust_credentials(security: KafkaSecurity) -> CredentialsT | None:
    """For `faust.App(broker_credentials=…)`."""
    context = tls(security)
    if security.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=security.user, password=security.password, ssl_context=context, mechanism=security.mechanism
        )
    return faust.SSLCredentials(context=context) if context is not None else None


def aiokafka_client(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of every aiokafka client."""
    security = settings.security
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(settings.brokers),
        "security_protocol": security.protocol,
        "ssl_context": tls(security),
    }
    if security.protocol.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.user,
            "sasl_plain_password": security.password,
        }
    return arguments


def librdkafka_client(security: KafkaSecurity) -> dict[str, Any]:
    """Entries of a confluent-kafka configuration, without `bootstrap.servers`."""
    if security.protocol == "PLAINTEXT":
        return {}
    entries: dict[str, Any] = {"security.protocol": security.protocol}
    if security.ca_file is not None:
        entries["ssl.ca.location"] = str(security.ca_file)
    if security.protocol.startswith("SASL"):
        entries |= {
            "sasl.mechanism": security.mechanism,
            "sasl.username": security.user,
            "sasl.password": security.password,
        }
    return entries
