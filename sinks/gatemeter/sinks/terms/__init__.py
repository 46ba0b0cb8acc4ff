"""Terms of statements: commitments, exchange rates and budgets as the metadata says them, checked, and their rules.

The fold does not know them: they change no fact. They are read where a statement is made.
"""
