"""A server under load: any that speaks OpenAI's API is asked, and its replies are timed as their readers saw them."""
