"""WHAT the work is: plain, typed stages and rooms; Prefect only in steps.py."""
