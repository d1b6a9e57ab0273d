"""Anthropic's Messages, said in OpenAI's words and back: for providers that speak OpenAI's dialect."""
