"""Interfaces of other libraries, built on the engine: chats, OpenAI's answers and the Hub."""
