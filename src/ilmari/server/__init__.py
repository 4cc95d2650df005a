"""The front end: OpenAI's API over HTTP, as vLLM's users know it, in front of engines in processes of their own."""
