"""How a process uses its memory."""
