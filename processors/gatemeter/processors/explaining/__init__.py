"""Why a request costs what it costs: the calculation done again from facts and metadata, line by line."""
