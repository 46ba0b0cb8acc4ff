"""What an operator adds to a LiteLLM proxy: who may call, and a guardrail. Loaded by the proxy's own process."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_guardrail import CustomGuardrail, log_guardrail_information
from litellm.proxy._types import UserAPIKeyAuth

KEY = "sk-planted-caller-0123456789"


async def user_api_key_auth(request: Any, api_key: str) -> UserAPIKeyAuth:
    """The one key that is known."""
    if api_key != KEY:
        raise HTTPException(status_code=401, detail="unknown key")
    return UserAPIKeyAuth(api_key=api_key, user_id="u-1", team_id="bot", org_id="acme", key_alias="ci")


class Guard(CustomGuardrail):
    """Refuses what says `forbidden`: before the call in the mode pre_call, beside it in the mode during_call."""

    @log_guardrail_information
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Before the call."""
        self._check(data, "forbidden")

    async def async_moderation_hook(self, data: dict[str, Any], user_api_key_dict: Any, call_type: str) -> None:
        """Beside the call."""
        self._check(data, "moderated")

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> None:
        """After the answer."""
        self._check(data, "regretted")

    def _check(self, data: dict[str, Any], word: str) -> None:
        if word in str(data.get("messages")):
            raise HTTPException(status_code=400, detail=f"{word} by policy")
