"""Questions about rates that facts answer: which usage has none, and what others would have cost."""
