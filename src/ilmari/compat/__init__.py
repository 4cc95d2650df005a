"""The vendor's commands, on top of the same functions as our own."""
