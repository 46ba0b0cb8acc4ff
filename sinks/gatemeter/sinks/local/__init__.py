"""The embedded ClickHouse: the chDB engine in a process of its own, behind ClickHouse's HTTP interface.

For trying and for tests: its data lives in a temporary folder and is deleted when the process ends.
"""
