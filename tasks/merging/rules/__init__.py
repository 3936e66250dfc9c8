"""What a merge policy says, and what follows from it for one group: pure."""
