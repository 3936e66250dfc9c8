"""Plan, decide, merge, undo: how duplicates leave, and how they come back."""
