"""A Hugging Face folder read as an InternLM model: config, safetensors, weight names, tokenizer files."""
