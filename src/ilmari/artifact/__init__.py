"""The waist between building and running: one folder that holds everything a model needs to answer."""
