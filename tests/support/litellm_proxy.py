"""A real LiteLLM proxy in a process of its own, from `.venv-litellm`, metered into a spool or to Kafka."""

from __future__ import annotations

import json
import shutil
import signal
import uuid
from pathlib import Path
from typing import Any, Protocol

import httpx2

from support.kafka import free_port
from support.litellm_provider import NOT_REPORTED, Served
from support.processes import Process, Processes, eventually

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / ".venv-litellm" / "bin" / "litellm"
SIDE = Path(__file__).parent / "litellm_side.py"
CALLER_KEY = "sk-planted-caller-0123456789"
PROVIDER_KEY = "sk-planted-provider-0123456789"
PLANTED = (CALLER_KEY, PROVIDER_KEY, "planted answer", "planted prompt")
MODELS = ("ok", "absent", "zero", "flaky", "fails", "stalls", "cut", "hangs", "slow")


class MeteredBy(Protocol):
    """Where the events go (`topic`), and the key that signs them: `kid`, of `secrets.json` in the folder."""

    @property
    def folder(self) -> Path: ...
    @property
    def topic(self) -> str: ...
    @property
    def kid(self) -> str: ...


def configuration(provider_url: str, *, is_metered: bool = True) -> dict[str, Any]:
    """The proxy's configuration: each model of the provider, one that falls back, a cache, a guardrail, the meter."""

    def deployment(name: str, model: str, base: str, **more: Any) -> dict[str, Any]:
        where = {"model": model, "api_base": base, "api_key": PROVIDER_KEY, **more}
        return {"model_name": name, "litellm_params": where}

    openai = provider_url + "/v1"
    return {
        "model_list": [
            *(deployment(name, f"openai/{name}", openai, timeout=1 if name == "stalls" else 30) for name in MODELS),
            deployment("fallback", "openai/fails", openai),
            deployment("claude", "anthropic/ok", provider_url),
        ],
        "litellm_settings": {
            "callbacks": ["gatemeter.producers.hooks.litellm.meter"] if is_metered else [],
            "cache": True,
            "cache_params": {"type": "local", "mode": "default_off", "supported_call_types": ["acompletion"]},
        },
        "router_settings": {
            "num_retries": 2,
            "retry_after": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"fallback": ["ok"]}],
        },
        "guardrails": [
            {
                "guardrail_name": "words",
                "litellm_params": {
                    "guardrail": "litellm_side.Guard",
                    "mode": ["pre_call", "during_call", "post_call"],
                    "default_on": True,
                },
            }
        ],
        "general_settings": {"custom_auth": "litellm_side.user_api_key_auth"},
    }


class LiteLLMProxy:
    """One proxy. Several may share a folder, and its spool. Without `bootstrap` its Kafka is nowhere."""

    def __init__(
        self,
        processes: Processes,
        provider_url: str,
        by: MeteredBy,
        folder: Path,
        bootstrap: str | None = None,
        *,
        is_metered: bool = True,
    ) -> None:
        self.spool = folder / "spool"
        folder.mkdir(exist_ok=True)
        self.spool.mkdir(exist_ok=True)
        shutil.copy(SIDE, folder / SIDE.name)
        said = configuration(provider_url, is_metered=is_metered)
        (folder / "config.yaml").write_text(json.dumps(said))  # JSON is YAML too
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: Process = processes.start(
            [str(COMMAND), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(self.port)],
            {
                "GATEMETER_BOOTSTRAP": bootstrap or f"127.0.0.1:{free_port()}",
                "GATEMETER_GATEWAY_ID": "litellm",
                "GATEMETER_GATEWAY_KIND": "inference_proxy",
                "GATEMETER_KID": by.kid,
                "GATEMETER_SECRETS_FILE": str(by.folder / "secrets.json"),
                "GATEMETER_TOPIC": by.topic,
                "GATEMETER_SPOOL_FOLDER": str(self.spool),
                "DEFAULT_MAX_RETRIES": "0",
                "LITELLM_MASTER_KEY": f"sk-{uuid.uuid4().hex}",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
        )

    def wait_until_ready(self) -> None:
        """Returns when it answers."""

        def answers() -> bool:
            assert self.process.running, self.process.log[-3000:]
            try:
                return httpx2.get(self.url + "/health/liveliness").status_code == 200
            except httpx2.TransportError:
                return False

        eventually(answers, "the LiteLLM proxy answers", 180)

    def client(self) -> httpx2.AsyncClient:
        """A client with the key that the proxy knows."""
        headers = {"authorization": f"Bearer {CALLER_KEY}"}
        limits = httpx2.Limits(max_connections=64)
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60, limits=limits)

    def stop(self) -> None:
        """SIGTERM, and waits."""
        self.process.send(signal.SIGTERM)
        self.process.wait()


def asking(model: str, tag: str, path: str = "/v1/chat/completions", **more: Any) -> dict[str, Any]:
    """A request to send: `client.post(**asking(...))`."""
    text = f"planted prompt {more.pop('text', '')} tag-{tag}"
    body: dict[str, Any] = {"model": model, **more}
    if path.endswith(("embeddings", "responses")):
        body["input"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if path.endswith("messages"):
        body["max_tokens"] = 100
    return {"url": path, "json": body, "headers": {"x-request-id": tag}}


def published(events: list[dict[str, Any]], tag: str) -> list[Served]:
    """What the meter says of a call, attempt by attempt: of each the newest revision of its usage."""
    newest: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "RESPONSE" and event["client_request_id"] == tag:
            newest[event["attempt"]] = event
    return [as_served(newest[attempt]) for attempt in sorted(newest)]


def as_served(event: dict[str, Any]) -> Served:
    """A RESPONSE in the words of the provider's log; figures that are estimates are left out."""
    source, tokens = event["usage_source"], (event["input_text_uncached"], event["output_text_visible"])
    if source != "reported":
        source = source if event["status"] == "ok" else NOT_REPORTED
        tokens = (None, None)
    return Served(event["client_request_id"], event["model"], event["status"], source, *tokens)
