"""Who calls what in the demo: tenants of `examples/tenants.yaml`, their apps, models, policies and shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Model:
    """A model as a gateway reports it. `caches`: the provider reports cached input; `reasons`: hidden reasoning."""

    provider: str
    name: str
    region: str
    caches: bool = False
    reasons: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """One application of a tenant: its share of the service's calls, its models (share, model) and policies."""

    share: int
    tenant_id: str
    app_id: str
    identity: str
    models: tuple[tuple[int, Model], ...]
    policies: tuple[str, ...]
    users: int = 40

    @property
    def workload_id(self) -> str:
        """The SPIFFE id of the application."""
        return f"spiffe://northwind.example/{self.tenant_id}/{self.app_id}"


GPT_4O: Final = Model("azure", "contoso-gpt-4o", "westeurope", caches=True)
GPT_41: Final = Model("openai", "gpt-4.1", "eu", caches=True, reasons=True)
SONNET: Final = Model("anthropic", "claude-sonnet-4-5-20250929", "eu-central-1", caches=True)
LLAMA: Final = Model("internal", "llama-3.3-70b-instruct", "dc-frankfurt")

VERIFIED: Final = "verified_credential"
MTLS: Final = "mtls"
CLAIMED: Final = "header_claim"

PII: Final = "pii-redaction"
INJECTION: Final = "prompt-injection-guard"
SAFETY: Final = "content-safety"
BUDGET: Final = "budget-limit"

GATEWAYS: Final[dict[str, str]] = {"assistants": "inference_proxy", "code-assist": "api_gateway"}
"""Gateway id → kind. Two gateways meter two services."""

GATEWAY_OF: Final[dict[str, str]] = {"conversation": "assistants", "code": "code-assist"}

CALLERS: Final[dict[str, tuple[Caller, ...]]] = {
    "conversation": (
        Caller(30, "retail-banking", "mobile-assistant", VERIFIED, ((4, GPT_4O), (1, LLAMA)), (PII, SAFETY)),
        Caller(12, "retail-banking", "branch-copilot", MTLS, ((1, GPT_4O),), (PII,)),
        Caller(8, "retail-banking", "card-disputes", VERIFIED, ((2, SONNET), (1, GPT_4O)), (PII, INJECTION)),
        Caller(14, "wealth-management", "advisor-notes", VERIFIED, ((3, SONNET), (1, GPT_41)), (PII,)),
        Caller(9, "wealth-management", "portfolio-chat", CLAIMED, ((1, GPT_41),), (INJECTION, SAFETY)),
        Caller(11, "risk-research", "document-review", MTLS, ((1, SONNET), (1, LLAMA)), (BUDGET,)),
        Caller(10, "acme", "claims-triage", VERIFIED, ((1, GPT_4O),), (PII, SAFETY)),
        Caller(6, "acme", "quote-bot", CLAIMED, ((2, GPT_4O), (1, GPT_41)), (INJECTION,)),
    ),
    "code": (
        Caller(62, "engineering", "ide-assistant", VERIFIED, ((3, SONNET), (1, GPT_41)), (BUDGET,), 220),
        Caller(24, "engineering", "review-bot", MTLS, ((1, SONNET), (1, LLAMA)), (BUDGET,), 3),
        Caller(14, "risk-research", "scenario-lab", VERIFIED, ((1, GPT_41),), (BUDGET, INJECTION), 12),
    ),
}
