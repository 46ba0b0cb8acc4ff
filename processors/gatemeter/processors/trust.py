"""The workers' secrets as they are now: the file is read again where a secret is missing or the file has changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from gatemeter.processors.admission import Trust
from gatemeter.schemas.signing import SecretsError, load_secrets

log = logging.getLogger(__name__)


class LiveTrust:
    """Holds the `Trust` that the folds share; `reload` changes its secrets in place."""

    def __init__(self, secrets_file: Path, operator_keys: Mapping[str, str]) -> None:
        self._file = secrets_file
        self._secrets = load_secrets(secrets_file)
        self.trust = Trust(self._secrets, operator_keys)

    def reload(self) -> None:
        """Reads the file again. A file that cannot be used is logged, and the secrets in memory stay."""
        try:
            found = load_secrets(self._file)
        except SecretsError as error:
            log.error("%s", error)
            return
        self._secrets.update(found)  # a secret is never taken away: old records may still need it
