"""Which shape an operation has is looked up, or declared; it is never guessed from how an answer looks."""

from __future__ import annotations

import pytest

from gatemeter.producers.usage import FAMILIES, SHAPES, UnknownShape, UsageStream, normalise, shape_of, usage_of_raw

LOCATION = "/v1/projects/p/locations/global/publishers"


@pytest.mark.parametrize(
    ("provider", "operation", "shape"),
    [
        ("openai", "chat", "openai_chat"),
        ("openai", "/v1/chat/completions", "openai_chat"),
        ("openai", "/v1/responses", "openai_responses"),
        ("openai", "/v1/embeddings", "openai_embeddings"),
        ("openai", "/v1/images/edits", "openai_images"),
        ("openai", "/v1/audio/transcriptions", "openai_transcription"),
        ("openai", "/v1/audio/speech", "openai_speech"),
        ("openai", "/v1/realtime?model=gpt-realtime", "openai_realtime"),
        ("azure", "/openai/deployments/d/chat/completions?api-version=2026-01-01", "openai_chat"),
        ("azure", "/anthropic/v1/messages", "anthropic_messages"),
        ("anthropic", "chat", "anthropic_messages"),
        ("anthropic", "/v1/messages", "anthropic_messages"),
        ("google", "/v1beta/models/gemini-2.5-flash:generateContent", "gemini"),
        ("vertex", f"{LOCATION}/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "gemini"),
        ("vertex", f"{LOCATION}/anthropic/models/claude-sonnet-4-5:streamRawPredict", "anthropic_messages"),
        ("aws", "/model/anthropic.claude-v2/converse-stream", "bedrock_converse"),
        ("bedrock", "/model/amazon.nova-lite-v1:0/invoke", "bedrock_invoke_headers"),
        ("mistral", "/v1/chat/completions", "mistral_chat"),
        ("cohere", "/v2/chat", "cohere_chat"),
        ("cohere", "/v2/rerank", "cohere_units"),
        ("x-ai", "chat", "xai_chat"),
        ("deepseek", "/chat/completions", "deepseek_chat"),
        ("groq", "/openai/v1/chat/completions", "openai_compatible"),
        ("vllm", "/v1/completions", "openai_compatible"),
        ("llamacpp", "/completion", "llamacpp"),
        ("ollama", "/api/generate", "ollama"),
        ("openai_compatible", "chat", "openai_compatible"),
    ],
)
def test_known_operations_and_paths_have_their_shape(provider: str, operation: str, shape: str) -> None:
    assert shape_of(provider, operation) == shape


def test_an_unknown_provider_has_a_shape_only_where_it_is_declared() -> None:
    with pytest.raises(UnknownShape, match=r"provider: must be one of openai, .* or declared as one, got 'acme'"):
        shape_of("acme", "/v1/chat/completions")
    assert shape_of("acme", "/v1/chat/completions", {"acme": "openai_compatible"}) == "openai_compatible"
    with pytest.raises(UnknownShape, match="got 'acme'"):
        shape_of("acme", "chat", {"other": "openai_compatible"})


def test_an_unknown_operation_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownShape, match=r"operation of anthropic: must be one of chat, messages, got '/v1/files'"):
        shape_of("anthropic", "/v1/files")


@pytest.mark.parametrize("read", [lambda name: normalise(name, {}), lambda name: usage_of_raw(name, {}), UsageStream])
def test_a_misspelt_shape_is_refused_before_any_answer_is_read(read: object) -> None:
    assert callable(read)
    with pytest.raises(UnknownShape, match=r"shape: must be one of openai_chat, .* got 'opnai_chat'"):
        read("opnai_chat")


def test_shapes_that_are_not_streamed_have_no_stream() -> None:
    whole = {"openai_embeddings", "bedrock_invoke_headers", "cohere_units"}
    assert {name for name, shape in SHAPES.items() if shape.follow is None} == whole
    for name in whole:
        with pytest.raises(UnknownShape, match="shape of a stream: must be one of openai_chat"):
            UsageStream(name)


def test_every_shape_can_be_reached_or_is_declared_by_name() -> None:
    reached = {shape for operations in FAMILIES.values() for shape in operations.values()}
    assert set(SHAPES) - reached == {"cohere_tokens"}
