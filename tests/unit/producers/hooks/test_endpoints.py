"""Where a call goes: whose endpoint, which model, and a route that authorities can name."""

from __future__ import annotations

import pytest

from gatemeter.producers.hooks.endpoints import DEFAULT_ENDPOINTS, Endpoint, Places, found


@pytest.mark.parametrize(
    ("path", "provider", "model", "route"),
    [
        ("/v1/chat/completions", "openai", None, "/chat/completions"),
        ("/team-a/secret-account/v1/chat/completions/", "openai", None, "/chat/completions"),
        (
            *("/openai/deployments/gpt-4o/chat/completions", "azure", "gpt-4o"),
            "/openai/deployments/{model}/chat/completions",
        ),
        ("/v1beta/models/models:generateContent", "google", "models", "/models/{model}:generateContent"),
        ("/v1/messages", "anthropic", None, "/messages"),
    ],
)
def test_a_route_is_the_path_of_the_endpoint_without_prefix_and_model(
    path: str, provider: str, model: str | None, route: str
) -> None:
    place = found(DEFAULT_ENDPOINTS, path)
    assert place is not None
    assert (place.endpoint.provider, place.model, place.route) == (provider, model, route)


def test_an_endpoint_of_ones_own_has_the_route_that_its_expression_finds() -> None:
    own = Endpoint("^/eu/llm/chat$", "acme-gpu", "chat", "openai_compatible")
    place = found((own, *DEFAULT_ENDPOINTS), "/eu/llm/chat")
    assert place is not None and (place.endpoint, place.route) == (own, "/eu/llm/chat")
    assert found((own,), "/llm/chat") is None


def test_places_are_those_that_are_found_however_many_paths_there_are() -> None:
    places = Places(DEFAULT_ENDPOINTS)
    paths = ["/v1/chat/completions", "/v1/models", *(f"/models/m{number}:generateContent" for number in range(3000))]
    for path in (*paths, *paths[:2], "/x" * 500 + "/v1/messages"):
        assert places.of(path) == places.of(path) == found(DEFAULT_ENDPOINTS, path)
    assert len(places._known) <= 1024
