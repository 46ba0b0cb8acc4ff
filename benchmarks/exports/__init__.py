"""Billing exports as the providers write them, of made-up lines: `write_…(path, lines)`, one function a format.

    write_openai_costs      GET /v1/organization/costs            JSON page, amounts as numbers
    write_openai_usage      GET /v1/organization/usage/…          JSON page, counters a group
    write_openai_csv        costs as the dashboard exports them   CSV
    write_anthropic_cost    GET /v1/organizations/cost_report     JSON page, amounts as decimal texts in cents
    write_anthropic_usage   GET …/usage_report/messages           JSON page, counters a group
    write_aws_cur           CUR 2.0                               Parquet, doubles, one file a billing period
    write_focus_azure       FOCUS 1.2 as Azure exports it         CSV
    write_focus_google      FOCUS 1.0 as Google Cloud exports it  CSV, Pacific days

A `Line` is what `gatemeter billing import` should read again: same day, names, quantity and amount. What a format
cannot say (a rounding line in CUR, the priority tier in Anthropic's costs) is a `ValueError`. `days`: days that the
export speaks of beside those of its lines. A path that ends with `.gz` is packed (CSV and JSON).
"""

from benchmarks.exports.anthropic import write_anthropic_cost, write_anthropic_usage
from benchmarks.exports.aws import write_aws_cur
from benchmarks.exports.focus import write_focus_azure, write_focus_google
from benchmarks.exports.lines import Line
from benchmarks.exports.openai import write_openai_costs, write_openai_csv, write_openai_usage

__all__ = [
    "Line",
    "write_anthropic_cost",
    "write_anthropic_usage",
    "write_aws_cur",
    "write_focus_azure",
    "write_focus_google",
    "write_openai_costs",
    "write_openai_csv",
    "write_openai_usage",
]
