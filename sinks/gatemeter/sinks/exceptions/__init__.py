"""Exceptions: what is unusual or wrong in a day of facts, found by SQL, listed with its state, told to a webhook.

`finding` looks at days, `listing` reads and `acts` says what became of one, `webhook` tells; a detector is a function
of a `Look` in the file of its family.
"""
