"""Who judges: a vision-language model, a chat endpoint, time, or the truth."""
