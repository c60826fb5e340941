"""Records: what the gateway tells of itself and its transactions. Never a subject, never content."""
