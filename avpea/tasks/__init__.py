"""Tasks: from tokens to an output, a loss and an answer for a person. A file here is a task's name."""
