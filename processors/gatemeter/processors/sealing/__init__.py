"""Sealing: hours of facts become leaves of a tree and entries of the ledger, chained in the topic of seals."""
