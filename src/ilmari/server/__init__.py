"""HTTP in, SSE out: OpenAI's API over the engine, in InternLM2's format where there are tools."""
