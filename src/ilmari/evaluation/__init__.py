"""Is it right? How well a model predicts text and answers exams, and how far it is from another one."""
