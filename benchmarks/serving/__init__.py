"""The server under load: how fast, how steady, and whether anything can knock it over."""
