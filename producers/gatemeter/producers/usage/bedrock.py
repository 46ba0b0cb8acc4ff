"""Amazon Bedrock: Converse and ConverseStream, and the headers of InvokeModel.

`inputTokens` excludes what the cache gave or took; `totalTokens` has all of it. Models do not tell reasoning apart.
Source: Amazon Bedrock API reference, TokenUsage and CacheDetail, 2026-11.
"""

from __future__ import annotations

from typing import Final

from gatemeter.producers.usage.draft import Draft
from gatemeter.producers.usage.parts import Part, total_of

INPUT_HEADER: Final = "x-amzn-bedrock-input-token-count"
OUTPUT_HEADER: Final = "x-amzn-bedrock-output-token-count"
READ_HEADER: Final = "x-amzn-bedrock-cache-read-input-token-count"
WRITE_HEADER: Final = "x-amzn-bedrock-cache-write-input-token-count"


def read_converse(answer: Part, draft: Draft) -> None:
    """A Converse answer, or the skeleton of a stream (`messageStop` and `metadata`)."""
    draft.identify(answer.part("ResponseMetadata"), request_id="RequestId", tier=None)
    draft.finish(answer, "stopReason")
    draft.set_tier(answer.part("serviceTier").text("type"))
    usage = answer.part("usage")
    written = usage.count("cacheWriteInputTokens")
    by_ttl: dict[object, int | None] = {}
    for entry in usage.parts("cacheDetails"):
        ttl = entry.text("ttl")
        if ttl not in ("5m", "1h"):
            entry.lose("ttl", "5m or 1h", ttl)
            continue
        by_ttl[ttl] = total_of((by_ttl.get(ttl), entry.count("inputTokens")))
    if by_ttl:
        draft.check(usage.at("cacheWriteInputTokens"), written, total_of(by_ttl.values()))
    else:
        by_ttl["5m"] = written
    draft.put("input_text_uncached", usage.count("inputTokens"))
    draft.put("input_text_cache_read", usage.count("cacheReadInputTokens"))
    draft.put("input_text_cache_write_5m", by_ttl.get("5m"))
    draft.put("input_text_cache_write_1h", by_ttl.get("1h"))
    draft.put("output_text_visible", usage.count("outputTokens"))
    draft.check_total(usage.at("totalTokens"), usage.count("totalTokens"))


def read_invoke_headers(headers: Part, draft: Draft) -> None:
    """Response headers of InvokeModel, names in lower case. They give no total."""
    draft.identify(headers, request_id="x-amzn-requestid", tier=None)
    draft.put("input_text_uncached", headers.digits(INPUT_HEADER))
    draft.put("input_text_cache_read", headers.digits(READ_HEADER))
    draft.put("input_text_cache_write_5m", headers.digits(WRITE_HEADER))
    draft.put("output_text_visible", headers.digits(OUTPUT_HEADER))
