"""The HTTP collector: takes what gateways without a hook post, and publishes it (docs/hooks/collector.md).

Needs the extra `collector`.
"""
