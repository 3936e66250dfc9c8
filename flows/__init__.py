"""WHEN the work happens: Prefect flows and the order they follow."""
