"""Extensions of somebody else's."""
