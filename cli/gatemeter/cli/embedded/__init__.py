"""The embedded system: broker, ClickHouse engine and workers as child processes of one command; it forgets at its end."""
