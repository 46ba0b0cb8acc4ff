"""The collector's description: valid OpenAPI 3.1, and its schemas accept what the collector accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gatemeter.producers.collector import openapi
from gatemeter.producers.collector.settings import CollectorSettings
from gatemeter.producers.collector.sources import SOURCES, Naming
from gatemeter.producers.foreign import BadItem

ROOT = Path(__file__).resolve().parents[4]
OK: dict[str, Any] = {"kind": "RESPONSE", "request_id": "r", "request_started_at": 1, "occurred_at": 2, "status": "ok"}


def test_the_description_is_valid_and_has_every_source() -> None:
    document = openapi.document()
    OpenAPIV31SpecValidator(document).validate()  # type: ignore[arg-type]
    assert set(document["paths"]) == {source.path for source in SOURCES.values()}


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({}, True),
        ({"input_text_uncached": 5, "tenant_id": None}, True),
        ({"input_text_uncached": -5}, False),
        ({"status": "fine"}, False),
        ({"tokens": 5}, False),
        ({"kind": "OTHER"}, False),
        ({"client_network": "203.0.113.0/24"}, True),
        ({"client_network": "203.0.113.7"}, False),
        ({"occurred_at": None}, False),
        ({"request_id": ""}, False),
    ],
)
def test_the_schema_and_the_collector_are_of_one_mind(changes: dict[str, Any], is_good: bool) -> None:
    document = openapi.document()
    schema = {"$ref": "#/components/schemas/Event", "components": document["components"]}
    item = {**OK, **changes}
    assert Draft202012Validator(schema).is_valid(item) is is_good
    reader = SOURCES["events"].reader(Naming("gw"), lambda field, what: None)
    if is_good:
        assert len(reader.events(item)) == 1
    else:
        with pytest.raises(BadItem):
            reader.events(item)


def test_the_example_of_settings_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"kong-eu-1": "ab" * 32, "opa-eu-1": "cd" * 32}))
    secrets.chmod(0o600)
    monkeypatch.setenv("GATEMETER_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("GATEMETER_SECRETS_FILE", str(secrets))
    settings = CollectorSettings.from_file(ROOT / "examples" / "collector" / "collector.toml")
    assert [sender.source for sender in settings.senders] == ["kong", "opa"]
