"""`gatemeter demo`: an hour of real traffic through the whole embedded system, with a statement at its end."""
