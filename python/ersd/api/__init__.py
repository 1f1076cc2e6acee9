"""What callers of other libraries expect, built on the engine: chats, OpenAI-shaped answers, and the Hugging Face Hub."""
