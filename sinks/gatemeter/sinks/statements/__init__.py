"""The statement of a tenant and month: what is billed, from which lines, beside what; FOCUS rows, journal lines."""
