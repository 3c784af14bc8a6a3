"""The DuckDB file of the studies: its schema, its tables, its snapshots."""
