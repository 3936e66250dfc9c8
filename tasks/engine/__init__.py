"""Where the work of a stage is spread: here, or on the workers of a cluster (ADR 16)."""
