"""What instrumentations call things: OpenTelemetry's GenAI conventions, and the older names that are still sent.

Each field has its names in the order in which they count. In all of these conventions the input tokens include cached
and written ones, and the output tokens reasoning. Source: OpenTelemetry GenAI semantic conventions, 2026-10;
OpenLLMetry 0.62; OpenInference 0.1.42; as their instrumentations of LangChain and the OpenAI Agents SDK really send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

OPERATION_NAMES: Final = ("gen_ai.operation.name", "llm.request.type", "openinference.span.kind")
OPERATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{"chat": "chat", "generate_content": "chat", "text_completion": "completion", "embeddings": "embeddings"},
        **{"completion": "completion", "embedding": "embeddings", "rerank": "rerank"},
        **{"LLM": "chat", "EMBEDDING": "embeddings", "RERANKER": "rerank"},
    }
)
"""Operations that are one call of a model, and our names of them. Agents, tools, workflows, chains are none."""
INPUT_ONLY: Final = ("embeddings", "rerank")

TEXTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "model": ("gen_ai.request.model", "llm.request.model"),
        "served_model": ("gen_ai.response.model", "llm.response.model", "llm.model_name"),
        "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
        "provider_request_id": ("gen_ai.response.id",),
        "service_tier": ("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
        "finish_reason": ("gen_ai.response.finish_reason", "llm.response.finish_reason", "llm.finish_reason"),
        "error": ("error.type",),
        "api": ("openai.api.type",),
    }
)
COUNTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "input": (
            *("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
            *("llm.usage.prompt_tokens", "llm.token_count.prompt"),
        ),
        "output": (
            *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
            *("llm.usage.completion_tokens", "llm.token_count.completion"),
        ),
        "cached": (
            *("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
            *("llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_input"),
        ),
        "written": (
            *("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"),
            "llm.token_count.prompt_details.cache_write",
        ),
        "reasoning": (
            *("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
            "llm.token_count.completion_details.reasoning",
        ),
    }
)
STREAM: Final = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
HTTP_STATUS: Final = "http.response.status_code"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from the request."""
READ: Final = frozenset(
    (
        *(name for names in (*TEXTS.values(), *COUNTS.values()) for name in names),
        *(*OPERATION_NAMES, *STREAM, FINISH_REASONS, HTTP_STATUS, FIRST_CHUNK),
    )
)
"""Attributes of spans that are read; what any other holds is never looked at."""

_PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{"gcp.gen_ai": "google", "gcp.gemini": "google", "gemini": "google"},
        **{"gcp.vertex_ai": "vertex", "vertex_ai": "vertex", "vertexai": "vertex"},
        **dict.fromkeys(("azure.ai.openai", "azure.ai.inference", "az.ai.openai", "az.ai.inference"), "azure"),
        **{"aws.bedrock": "aws", "x_ai": "x-ai", "xai": "x-ai", "mistral_ai": "mistral", "mistralai": "mistral"},
    }
)


def provider_named(name: str) -> str:
    """What prices know a provider as; its name in lower case where we know no other."""
    lowered = name.lower()
    return _PROVIDERS.get(lowered, lowered)
