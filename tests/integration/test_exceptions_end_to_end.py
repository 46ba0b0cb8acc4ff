"""A worker looks for exceptions by its timer and tells a webhook: from an event of a gateway to a post."""

from __future__ import annotations

from pathlib import Path

from gatemeter.processors.metadata.tenantsfile import read_tenants_file
from gatemeter.producers import new_request_id, now_us
from gatemeter.producers.networks import network_of
from gatemeter.sinks.clickhouse import ClickHouseSettings, connect
from support.kafka import KafkaBroker
from support.processes import Processes, eventually
from support.spine import Spine
from support.webhooks import receiving


def test_a_worker_finds_tells_once_and_keeps_folding(
    kafka: KafkaBroker, clickhouse_database: ClickHouseSettings, tmp_path: Path
) -> None:
    tenants = "{plans: [{plan: cost}], tenants: [{tenant: acme, cost_centre: cc-1, plan: cost}]}"
    (tmp_path / "tenants.yaml").write_text(tenants)
    (tmp_path / "header").write_text("Authorization: Bearer planted-secret\n")
    with receiving() as server, Processes(tmp_path) as processes:
        spine = Spine(kafka, tmp_path, processes, partitions=1)
        spine.apply(*read_tenants_file(tmp_path / "tenants.yaml"))
        worker = spine.worker(
            clickhouse_database,
            GATEMETER_EXCEPTIONS_EVERY_MS="1000",
            GATEMETER_EXCEPTIONS_WEBHOOK=f"http://127.0.0.1:{server.server_port}/hook",
            GATEMETER_EXCEPTIONS_WEBHOOK_HEADER_FILE=str(tmp_path / "header"),
        )
        client, sent = connect(clickhouse_database), []
        for tenant in ("ghost", "acme"):
            call = {"request_id": new_request_id(), "request_started_at": now_us(), "tenant_id": tenant}
            emitter = spine.emitter()
            usage = {"usage_source": "reported", "input_text_uncached": 100}
            assert emitter.response(
                **{"status": "ok", "provider": "p", "model": "m", "identity_source": "mtls", **usage, **call},
                client_network=network_of("203.0.113.7"),
            )
            assert emitter.close(30).undelivered == 0
            sent.append(call["request_id"])
        spine.wait_until_sunk(client, worker)
        eventually(lambda: len(server.got) >= 3, "both requests without a price, and the one that nobody bears")
        told = {(body["kind"], body["tenant_id"], *body["request_ids"]) for _, body in server.got}
        ghost, acme = sent
        assert told == {("unattributed", "ghost", ghost), ("unpriced", "ghost", ghost), ("unpriced", "acme", acme)}
        ids = [headers["Idempotency-Key"] for headers, _ in server.got]
        assert len(ids) == len(set(ids)) == 3
        assert {headers["Authorization"] for headers, _ in server.got} == {"Bearer planted-secret"}
        listed = client.query("SELECT count(), countIf(state = 'open') FROM exception_list").result_rows
        assert listed == [(3, 3)]
        networks = client.query("SELECT DISTINCT client_network FROM usage_facts").result_rows
        assert networks == [("203.0.113.0/24",)]
        client.close()
    assert not [path for path in tmp_path.glob("*.log") if "planted-secret" in path.read_text()]
