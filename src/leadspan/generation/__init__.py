"""Answers to prompts: from a model in this process, from vLLM, from a server."""
