"""A real Envoy with the configuration of `examples/envoy`, as it stands but for addresses and time limits."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from support.processes import Process, eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "envoy"
KEY = "sk-planted-secret-of-acme"
PROVIDER_KEYS = {"OPENAI_API_KEY": "sk-planted-openai", "ANTHROPIC_API_KEY": "sk-planted-anthropic"}
PROMPT = 'planted prompt with "model": "planted" in it'
Change = Callable[[dict[str, Any]], None]


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def _refusals(manager: dict[str, Any]) -> None:
    """Two policies of Envoy that refuse what goes to `/limited` and `/denied`."""
    limit = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
    }
    enabled = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {"max_tokens": 1, "fill_interval": "3600s"}
    always = {**limit, "token_bucket": bucket, "filter_enabled": enabled, "filter_enforced": enabled}
    authz = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "http_service": {"server_uri": {"uri": "http://authz", "cluster": "openai", "timeout": "1s"}},
    }
    by_route = {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"}
    manager["http_filters"][2:2] = [
        {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
        {"name": "envoy.filters.http.ext_authz", "typed_config": authz},
    ]
    host = manager["route_config"]["virtual_hosts"][0]
    host["typed_per_filter_config"] = {"envoy.filters.http.ext_authz": {**by_route, "disabled": True}}
    chat = "/v1/chat/completions"
    host["routes"][:0] = [
        {
            "name": "limited",
            "match": {"path": "/limited" + chat},
            "route": {"cluster": "openai", "prefix_rewrite": chat},
            "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": always},
        },
        {
            "name": "denied",
            "match": {"path": "/denied" + chat},
            "route": {"cluster": "openai", "prefix_rewrite": chat},
            "typed_per_filter_config": {"envoy.filters.http.ext_authz": {**by_route, "check_settings": {}}},
        },
        {"name": "refused", "match": {"path": "/refused" + chat}, "route": {"cluster": "refused"}},
    ]


class Envoy:
    """Runs while the block runs. `change` may alter the HTTP connection manager, `listener` the listener."""

    def __init__(
        self,
        folder: Path,
        provider_port: int,
        *,
        timeout: str = "0.6s",
        idle: str | None = None,
        log: str | None = None,
        listener: Change | None = None,
        keys: Mapping[str, str] = PROVIDER_KEYS,
    ) -> None:
        self.port = free_port()
        self.log = Path(log) if log else folder / "gatemeter.log"
        self._folder, self._provider_port = folder, provider_port
        self._timeout, self._idle, self._listener = timeout, idle, listener
        self._keys = keys
        self.process: Process | None = None

    @property
    def url(self) -> str:
        """Where callers send requests."""
        return f"http://127.0.0.1:{self.port}"

    def _configuration(self) -> dict[str, Any]:
        text = (EXAMPLE / "envoy.yaml").read_text("utf-8").replace("/var/log/envoy/gatemeter.log", str(self.log))
        text = text.replace("filename: usage.lua", f"filename: {EXAMPLE / 'usage.lua'}").replace("change-me", KEY)
        configuration: dict[str, Any] = yaml.safe_load(text)
        resources = configuration["static_resources"]
        names = [cluster["name"] for cluster in resources["clusters"]]
        resources["clusters"] = [
            *(_cluster(name, self._provider_port) for name in names),
            _cluster("refused", free_port()),
        ]
        (listener,) = resources["listeners"]
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": self.port}
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        if self._idle is not None:
            manager["stream_idle_timeout"] = self._idle
        _refusals(manager)
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            route["route"]["timeout"] = self._timeout
        if self._listener is not None:
            self._listener(listener)
        return configuration

    def __enter__(self) -> Envoy:
        path = self._folder / "envoy.json"
        path.write_text(json.dumps(self._configuration()))
        binary = str(files("envoy") / "_bin" / "envoy")
        command = [binary, "-c", str(path), "--file-flush-interval-msec", "200", "--concurrency", "1", "-l", "error"]
        command += ["--disable-hot-restart"]
        self.process = Process(command, self._keys, self._folder / f"envoy-{self.port}.log")
        eventually(self._answers, "Envoy listens")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.running, self.process.log[-3000:]
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        self.process.kill()
        sys.stdout.write(self.process.log[-3000:])


def asked(model: str, **more: Any) -> dict[str, Any]:
    """The body of a request, of whichever shape."""
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], **more}


def headers(**more: str) -> Mapping[str, str]:
    """Of a caller that is known, with an id of its own."""
    return {"authorization": f"Bearer {KEY}", "x-request-id": "the-callers-own", **more}
