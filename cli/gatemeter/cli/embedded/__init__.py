"""The embedded system: broker, ClickHouse and workers as child processes of one command; it forgets at its end."""
