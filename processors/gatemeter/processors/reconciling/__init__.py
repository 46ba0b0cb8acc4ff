"""Reconciliation: gateway facts against the providers' billing exports, every difference with a cause."""
