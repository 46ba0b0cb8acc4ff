"""An application of LangChain and the OpenAI Agents SDK with OpenTelemetry's own instrumentations.

It exports its spans by OTLP/HTTP; PROVIDER_URL is what it calls. Four calls pass a charging gateway (the metered
transport, whose emitter GATEMETER_… says who it is), each within a span of the application, as its HTTP client tells by
`traceparent`; a fifth goes around it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import agents
import httpx2
import openai
from langchain_openai import ChatOpenAI
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from gatemeter.producers import Emitter, EmitterSettings
from gatemeter.producers.hooks import Identity
from gatemeter.producers.hooks.httpx import AsyncMeteredTransport, MeteredTransport

URL = os.environ["PROVIDER_URL"] + "/v1"
WHO = Identity(tenant_id="acme", app_id="bot", identity_source="verified_credential")
PROMPT = "planted prompt"
KEY: Any = "sk-planted-secret-0123456789"


def traced(request: httpx2.Request) -> None:
    propagate.inject(request.headers)


async def traced_later(request: httpx2.Request) -> None:
    traced(request)


def langchain(emitter: Emitter) -> None:
    """A whole answer, a streamed one, and one that passes no gateway."""
    LangChainInstrumentor().instrument(skip_dep_check=True)  # langchain-core is what it instruments
    transport = MeteredTransport(emitter=emitter, identify=lambda request: WHO)
    with httpx2.Client(transport=transport, event_hooks={"request": [traced]}) as http:
        for model, client in (("ok-1", http), ("ok-2", http), ("ok-5", None)):
            chat = ChatOpenAI(
                model=model, base_url=URL, api_key=KEY, max_retries=0, http_client=client, stream_usage=True
            )
            with trace.get_tracer("app").start_as_current_span("work"):
                for _ in chat.stream(PROMPT) if model == "ok-2" else [chat.invoke(PROMPT)]:
                    pass
    LangChainInstrumentor().uninstrument()


def agents_sdk(emitter: Emitter) -> None:
    """An answer of the Responses API, and a chat completion that fails."""
    agents.set_trace_processors([])  # its own exporter would post to its vendor
    OpenAIAgentsInstrumentor().instrument()
    OpenAIInstrumentor().instrument()
    transport = AsyncMeteredTransport(emitter=emitter, identify=lambda request: WHO)
    http = httpx2.AsyncClient(transport=transport, event_hooks={"request": [traced_later]})
    client = openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0, http_client=http)
    for model in (agents.OpenAIResponsesModel("ok-3", client), agents.OpenAIChatCompletionsModel("down-4", client)):
        agent = agents.Agent(name="bot", instructions=PROMPT, model=model)
        with trace.get_tracer("app").start_as_current_span("work"), contextlib.suppress(openai.APIError):
            agents.Runner.run_sync(agent, PROMPT)


def main() -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(compression=Compression.Gzip)))
    trace.set_tracer_provider(provider)
    emitter = Emitter(EmitterSettings.from_environment(spool_folder=Path(os.environ["GATEMETER_SPOOL_FOLDER"])))
    langchain(emitter)
    agents_sdk(emitter)
    provider.shutdown()
    print("undelivered:", emitter.close(60).undelivered, flush=True)


if __name__ == "__main__":
    main()
