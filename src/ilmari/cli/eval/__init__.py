"""`ilmari eval`: how good a model's answers are, and what its precision costs."""
