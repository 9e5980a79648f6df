"""The benchmark harness: what is run (catalogue), how (runner), on what (machine), and what is shown (table)."""
