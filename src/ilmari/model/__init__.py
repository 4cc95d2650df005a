"""What an InternLM is: configuration, tokenizer, chat format, rotary embedding, cost."""
