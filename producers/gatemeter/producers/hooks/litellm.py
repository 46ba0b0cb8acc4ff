"""LiteLLM proxy: one line in its configuration file meters all that it sends to providers, attempt by attempt.

    litellm_settings:
      callbacks: [gatemeter.producers.hooks.litellm.meter]

The emitter is configured by the environment (`EmitterSettings.from_environment`). The only file that imports litellm;
what its callbacks mean is in `litellm_calls.py` and docs/hooks/litellm.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from gatemeter.producers.emitter import Emitter
from gatemeter.producers.hooks.litellm_calls import Call, Emits
from gatemeter.producers.hooks.litellm_reading import OPERATIONS, provider_of
from gatemeter.producers.hooks.litellm_usage import StreamWatch
from gatemeter.producers.hooks.metered_call import Metering
from gatemeter.producers.settings import EmitterSettings
from gatemeter.schemas.extras import need

if TYPE_CHECKING:

    class CustomLogger:
        """What LiteLLM's proxy calls back."""

    def get_llm_provider(*, model: str, custom_llm_provider: str | None) -> tuple[str, str, str | None, str | None]:
        """The model without its prefix, and whose it is."""
else:
    need("gatemeter.producers.hooks.litellm", "litellm", "litellm")
    from litellm import get_llm_provider
    from litellm.integrations.custom_logger import CustomLogger

KEY: Final = "gatemeter"
"""Under which LiteLLM's record of a call carries ours."""


class LiteLLMMeter(CustomLogger):
    """Publishes what the proxy does. Its own errors are counted in `metering.errors`, logged at most once a minute, and
    never reach a request. No callback awaits anything: what it has to say is in the spool before it gives way.
    """

    def __init__(self, emitter: Emits) -> None:
        super().__init__()
        self.emitter = emitter
        self.metering = Metering(emitter)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> None:
        """An attempt begins; also one that LiteLLM's cache will answer."""
        try:
            kind = str(getattr(call_type, "value", call_type))
            record = getattr(kwargs.get("litellm_logging_obj"), "model_call_details", None)
            if kind not in OPERATIONS or record is None:
                return
            call = record.get(KEY)
            if call is None:
                call = record[KEY] = Call(self.emitter, kwargs)
            stream = kwargs.get("stream")
            provider, model = _deployment(kwargs)
            call.begin(kind, provider, model, stream if isinstance(stream, bool) else None)
        except Exception as error:  # noqa: BLE001  metering must never break the call that it meters
            self.metering.harmed(error)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Mapping[str, Any], exception: Exception, call_type: object
    ) -> None:
        """An attempt failed."""
        try:
            call = _carried(getattr(request_data.get("litellm_logging_obj"), "model_call_details", None))
            if call is not None:
                call.failed(exception)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)

    async def async_post_call_success_deployment_hook(
        self, request_data: Mapping[str, Any], response: object, call_type: object
    ) -> None:
        """An attempt was answered whole; the client has nothing yet."""
        try:
            record = getattr(request_data.get("litellm_logging_obj"), "model_call_details", None)
            call = _carried(record)
            if call is not None and record is not None:
                call.answered(record)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """A call went well, or its client left in the middle."""
        try:
            call = _carried(kwargs)
            if call is not None:
                call.succeeded(kwargs, response_obj)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)

    async def async_log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """The first attempt failed, a stream broke, or the gateway refused the call."""
        try:
            call = _carried(kwargs)
            if call is not None:
                call.gave_up(kwargs)
            elif kwargs.get("call_type") in OPERATIONS:
                Call(self.emitter, kwargs).refused(kwargs)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: object, response: Any, request_data: Mapping[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """The chunks of a stream, unchanged and at once; each is read after the client has dealt with it."""
        call = _carried(getattr(request_data.get("litellm_logging_obj"), "model_call_details", None))
        watch = self._watching(call, response)
        if call is None or watch is None:
            async for item in response:
                yield item
            return
        given: object = None
        ended: BaseException | None = None
        try:
            async for item in response:
                if given is None:
                    call.touched()
                else:
                    self._sees(watch, given)
                given = item
                yield item
        except BaseException as error:
            ended = asyncio.CancelledError() if isinstance(error, GeneratorExit) else error
            raise
        finally:
            self._streamed(call, watch, given, ended)

    def _watching(self, call: Call | None, response: object) -> StreamWatch | None:
        try:
            return None if call is None else call.watching(response)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)
            return None

    def _sees(self, watch: StreamWatch, item: object) -> None:
        try:
            watch.sees(item)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)

    def _streamed(self, call: Call, watch: StreamWatch, last: object, ended: BaseException | None) -> None:
        try:
            watch.sees(last)
            call.streamed(watch, ended)
        except Exception as error:  # noqa: BLE001  as above
            self.metering.harmed(error)


def _carried(record: object) -> Call | None:
    call = record.get(KEY) if isinstance(record, Mapping) else None
    return call if isinstance(call, Call) else None


def _deployment(kwargs: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The provider and its model, as LiteLLM will find them."""
    model, named = kwargs.get("model"), kwargs.get("custom_llm_provider")
    if not isinstance(model, str):
        return provider_of(named), None
    return _found(model, named if isinstance(named, str) else None)


@lru_cache(maxsize=4096)
def _found(model: str, named: str | None) -> tuple[str | None, str]:
    try:
        model, named, _, _ = get_llm_provider(model=model, custom_llm_provider=named)
    except Exception:  # noqa: BLE001  it raises many kinds for a model that it does not know; so will the call
        prefix, _, rest = model.partition("/")
        model, named = (rest, prefix) if rest else (model, named)
    return provider_of(named), model


_METERS: Final[list[LiteLLMMeter]] = []


def __getattr__(name: str) -> LiteLLMMeter:
    """`meter`: made when LiteLLM's configuration first names it, from the environment. Raises `SettingsError`."""
    if name != "meter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _METERS:
        _METERS.append(LiteLLMMeter(Emitter(EmitterSettings.from_environment())))
    return _METERS[0]
