"""What the votes say: analysis, charts, reports, exports."""
