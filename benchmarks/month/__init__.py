"""What the end of a month costs when it has millions of facts: reconciliation and statement, time and memory."""
