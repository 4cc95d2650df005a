"""The page on which one talks to a model in the browser: plain files, and how they are served."""
