"""Words with which texts begin, so that a target writes texts that are unlike each other.

Left to itself, a model writes much the same user's messages again and again. So most messages
begin with words that are drawn here, and the target goes on from them.
"""

from __future__ import annotations

import numpy as np

from ersd import Generator

__all__ = ["Openings"]

# Each {} stands for a random word of the target's vocabulary. A phrase that ends a sentence may be
# the whole message; the target goes on from any other.
QUESTIONS = (
    "What is {}?", "What is {} and how", "What is the difference between {} and {}?",
    "What does {} mean", "What are the best ways to {}", "What are the main", "What should I do if",
    "What happens when {}", "What would happen if", "What makes {}", "What kind of {}",
    "What was the", "Why is {}", "Why do {}", "Why does my {}", "Why did {}", "How do I {}",
    "How do {}", "How does {} work?", "How can I {}", "How can we", "How much {}", "How many {}",
    "How long does it take to", "How would you {}", "When should I {}", "When was {}",
    "Where can I find {}", "Where does {} come from?", "Who was {}", "Who invented",
    "Which {} is better,", "Which of these", "Is it {} to", "Is {} a", "Are there any {}",
    "Can you {}", "Can I use {}", "Could you help me", "Do I need {}", "Does {} really",
    "Should I {}", "Tell me about {}.", "Tell me how", "Explain {}.", "Explain how {} works.",
    "Explain in simple terms", "I want to know", "I don't understand", "I'm trying to {}",
    "I need help with {}.", "I have {} and {}.", "I am a {} and I", "My {} is", "My friend",
    "We are", "If I have {}", "Help me", "Please", "Hi!", "Hello, I", "Thanks, but", "Is there",
)  # fmt: skip
TASKS = (
    "Write a short story about {}", "Write a poem about {}.", "Write a letter to", "Write an email",
    "Write a song about {}", "Write a review of", "Write an essay on {}", "Write a scene in which",
    "Write a paragraph about {}.", "Write a headline for", "Write a slogan for {}.",
    "Write three sentences about {}.", "Describe {}.", "Describe how", "Describe a {}", "Imagine",
    "Suggest", "Recommend", "Give an example of {}.", "Give me some advice on {}.", "Give me ideas",
    "Plan a", "Make a plan for", "Invent a", "Compare {} and {}.", "Discuss", "Argue that {}",
    "Pretend you are {}", "You are a {}.", "Act as a", "Create a recipe with {}", "Create a",
    "Design a", "Solve:", "Calculate", "If a {} has", "A {} costs", "There are {}", "Find the",
    "Answer the following question:", "Choose the correct answer:", "Complete the sentence: {}",
    "Define {}.", "Summarize the history of {}.", "Teach me", "Convince me", "Interview",
)  # fmt: skip
FORMATS = (
    "List {}", "List the {} of", "List five {}.", "Make a list of {}.", "Name ten", "Name a {}",
    "Give me a numbered list of", "Give the steps to {}.", "Make a table of {}", "Make a table",
    "Show me a Markdown table with the columns {} and {}", "Write a JSON object for a {}",
    "Return JSON with", "Turn this into JSON: {}", "Write a CSV file with", "Write YAML for",
    "Answer in one word:", "Answer yes or no:", "Answer in bullet points:", "Write a checklist for",
    "Write a Python function that", "Write a Python program", "Write a Python class for {}",
    "Write JavaScript that", "Write a C program", "Write a SQL query", "Write a shell script",
    "Write HTML for a page about {}", "Write a regular expression", "Write a unit test",
    "Implement {} in", "How do I {} in Python?", "What does this code do?\n\n```python\n",
    "Fix this code:\n\n```\n", "Explain this error:", "Find the bug:\n\n```python\ndef {}(",
    "Outline a", "Pros and cons of {}", "Timeline of", "A dialogue between", "Title:", "Subject:",
)  # fmt: skip
EDITS = (
    "Rewrite this text:\n\n", "Rewrite the sentence in a formal tone: {}", "Paraphrase: {}",
    "Fix the grammar: {}", "Correct any mistakes in the following:\n\n", "Shorten this: {}",
    "Summarize the following text:\n\n{}", "Summarize:", "Continue this text: {}",
    "Translate to French: {}", "Translate to German: {}", "Translate to Spanish: {}",
    "Translate to English: {}", "Translate into Chinese:", "Replace {} by {} in this sentence:",
    "Say the following again word by word: {}", "Copy this text: {}", "Spell {}.",
    "Sort these words: {}, {}, {},", "Extract the names from this text:\n\n{}",
    "Classify the sentiment of this review: {}", "Make this friendlier: {}", "Expand this: {}",
    "Read this and answer the question below.\n\n{}", "Here is a text:\n\n{}", 'Given "{}',
    "Convert this list to a table:\n\n- {}\n- {}\n", "Put this in the plural: {}", "Rhyme with {}.",
    "Use {}, {} and {} in one sentence.", "Write the opposite of: {}", "Write the same with {}:",
)  # fmt: skip
LANGUAGES = (
    "Qu'est-ce que", "Comment", "Pourquoi", "Écris", "Je voudrais", "Was ist", "Wie kann ich",
    "Warum", "Schreibe", "Ich möchte", "Qué es", "Cómo", "Por qué", "Escribe", "Quiero",
    "Che cos'è", "Come posso", "Scrivi", "O que é", "Como", "Escreva", "Wat is", "Nedir",
    "Co to jest", "Что такое", "Как", "Напиши", "什么是", "如何", "请写", "とは何ですか",
    "どうすれば", "무엇", "어떻게", "क्या", "ما هو",
)  # fmt: skip
FOLLOW_UPS = (
    "Make it shorter.", "Make it longer.", "Can you explain that in more detail?", "Thanks!",
    "Rewrite that as a list.", "Put that in a table.", "Give it to me as JSON.", "Why?", "How?",
    "Translate your answer into French.", "Translate that into Spanish.", "Say that more simply.",
    "Rewrite it in a formal tone.", "Give me an example.", "Give me another one.", "Are you sure?",
    "What about {}?", "And what about", "Can you also", "Now", "But", "I meant", "Please add",
    "Change {} to {}.", "Repeat your answer word by word.", "Summarize that in one sentence.",
    "What else?", "Go on.", "No, I", "Ok, so", "Could you", "That is wrong.", "Add a title.",
    "Write it in Python.", "Number the points.", "Which one is the most important?", "How do I",
)  # fmt: skip
RAW = (
    "The", "In", "A", "When", "It was", "She", "He", "They", "I", "We", "There is", "This",
    "{} is", "{} and", "The {} of", "The {} was", "In the {}", "On {}", "After the", "Although",
    "Once upon a time", "Chapter 1\n\n", "Dear {},", "Abstract\n\n", "According to", "For many",
    "Q: What is {}?\nA:", "{}: a", "# {}\n\n", "## ", "- {}\n- ", "1. {}\n2. ", "* ",
    "| {} | {} |\n| --- | --- |\n", '{"{}": ', '[{"', "<html>\n", "<div", "<?xml",
    "---\ntitle: {}", "import ", "from {} import",
    "def {}(", "def ", "class {}:\n", "class ", "if __name__", "for i in", "# {}\n\ndef ",
    "```python\n", "```\n", "function {}(", "const {} = ", "export ", "#include <", "int main(",
    "public class ", "package ", "use ", "fn ", "func ", "type ", "struct ", "SELECT ",
    "CREATE TABLE {}", "#!/bin/bash\n", "$ ", "git ", "FROM ", "<?php\n", "print(", "return ", "//",
    "/* {}", '"""{}', "@", "Theorem.", "Let {} be", "Recipe:", "Le ", "Der ", "El ", "Il ", "O ",
)  # fmt: skip

# Kinds of the beginning of a user's message, and how often each comes up of 16 times.
PHRASES = {QUESTIONS: 4, TASKS: 3, FORMATS: 2, EDITS: 2, LANGUAGES: 1}
N_KINDS = 16
OWN = 1  # how often the target begins the message itself; in the other cases random words do
MAX_WORDS = 3  # random words that begin a message, at most
MIN_WORDS = 100  # words of a vocabulary at least, or other tokens count as words, too
MIN_LETTERS = 3  # letters of a word


class Openings:
    """Draws the words with which messages and other texts begin."""

    def __init__(self, target: Generator) -> None:
        """Find the words of the target's vocabulary: tokens that are a blank and some letters."""
        pieces = [target.target.piece(token) for token in range(target.target.n_vocab)]
        found = [piece.decode("utf-8", "ignore") for piece in pieces]
        words = [text[1:] for text in found if _is_word(text[1:]) and text[0] == " "]
        if len(words) < MIN_WORDS:
            words = [text.strip() for text in found if text.strip().isprintable() and text.strip()]
        self.words = words

    def message(self, rng: np.random.Generator) -> str:
        """Return the beginning of a user's first message; empty if the target is to begin it."""
        place = int(rng.integers(N_KINDS))
        for phrases, share in PHRASES.items():
            if place < share:
                return self._filled(phrases, rng)
            place -= share
        return "" if place < OWN else self._words(int(rng.integers(1, MAX_WORDS + 1)), rng)

    def follow_up(self, rng: np.random.Generator) -> str:
        """Return the beginning of a message that follows an answer, or a whole one."""
        return self._filled(FOLLOW_UPS, rng)

    def raw(self, rng: np.random.Generator) -> str:
        """Return the beginning of a text that is not a chat."""
        return self._filled(RAW, rng).rstrip(" ")

    def _filled(self, phrases: tuple[str, ...], rng: np.random.Generator) -> str:
        """Return one of the phrases with random words in it."""
        phrase = phrases[rng.integers(len(phrases))]
        first, *others = phrase.split("{}")
        return first + "".join(self._words(1, rng) + other for other in others)

    def _words(self, n: int, rng: np.random.Generator) -> str:
        """Return some random words."""
        return " ".join(self.words[i] for i in rng.integers(len(self.words), size=n))


def _is_word(text: str) -> bool:
    """Return whether a text is a word: some letters and nothing else."""
    return len(text) >= MIN_LETTERS and text.isalpha()
