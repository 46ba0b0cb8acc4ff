"""`gatemeter statement`: a tenant's month as a page, JSON, CSV, FOCUS rows or journal lines."""
