"""Contracts: Avro schemas and their codec, ClickHouse tables, signatures, limits. Imports nothing else of ours."""
