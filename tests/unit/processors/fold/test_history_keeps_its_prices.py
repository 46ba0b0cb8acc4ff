"""Usage is priced as of its own time: late, corrected or folded again, yesterday's usage has yesterday's price."""

from __future__ import annotations

import pytest

from support.logs import START_US, Gateway, Log, build, collapse, new_fold, response, run, standard_view, truth

MINUTE_US = 60_000_000
CHANGE_US = 30 * MINUTE_US
DEARER = {"input_text_uncached": 9_000_000, "output_text_visible": 9_000_000}
VIEW = build(standard_view().rate("openai", "gpt", DEARER, card_id="newer", from_us=START_US + CHANGE_US))


@pytest.mark.parametrize("columnar", [False, True])
def test_a_response_that_comes_after_a_price_change_has_the_price_of_its_start(columnar: bool) -> None:
    log = Log()
    log.control(VIEW)
    gateway = Gateway(log)
    late = 2 * CHANGE_US
    gateway.send([response("before", 0)], 0)
    gateway.send(
        [response("late", late, started_us=CHANGE_US - 1), response("after", late, started_us=CHANGE_US)], late
    )
    gateway.send([response("before", late, started_us=0, usage_revision=1)], late)
    facts = {
        key[1]: fact for key, fact in truth(collapse(run(new_fold({1: VIEW}, columnar=columnar), log.records))).items()
    }
    assert facts["before"]["usage_revision"] == 1
    assert facts["late"]["provider_cost"] == facts["before"]["provider_cost"]
    assert facts["after"]["provider_cost"] == 120 * 9_000_000
    assert (facts["late"]["rate_card_id"], facts["after"]["rate_card_id"]) == ("card", "newer")
