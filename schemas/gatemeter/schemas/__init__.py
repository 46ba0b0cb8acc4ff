"""Contracts: Avro schemas, their codec and fingerprints, ClickHouse tables, signatures, limits. Imports nothing of ours."""
