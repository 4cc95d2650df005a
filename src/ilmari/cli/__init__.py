"""The command line: thin verbs, one file each, whose heavy imports wait until they run."""
