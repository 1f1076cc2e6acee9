"""Conversations: prompts by the model's own template, and answers to them."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from conftest import Drafting
from ersd import Generator, models

pytestmark = pytest.mark.no_sanitizer

TURN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tools %}tools: {{ tools | tojson }}\n{% endif %}assistant:"
)
TALK = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Hi!"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Name three colours."},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def talker(folder: Path) -> Generator:
    """A tiny pair with a chat template."""
    target, draft = (
        tiny.write_llama(folder / f"talker{noise}.gguf", noise=noise, chat_template=TURN)
        for noise in (0, 0.15)
    )
    return Drafting(target, draft, n_ctx=512, n_threads=1)


def test_the_default_target_speaks_chatml(target: Path) -> None:
    """The prompt is that of SmolLM2's template.

    Its default system prompt is used only if none is given.
    """
    generator = Generator(target, n_ctx=512)
    text = (
        "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in TALK)
        + "<|im_start|>assistant\n"
    )
    assert generator.apply_chat_template(TALK) == generator.tokenize(text)
    alone = generator.detokenize(generator.apply_chat_template(TALK[1:2]), special=True)
    assert alone.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert alone.endswith("<|im_end|>\n" + generator.target.chat_prompt("Hi!"))


def test_chat_is_generation_after_the_template(talker: Generator) -> None:
    """`chat` and `stream_chat` give the tokens of generate for the same prompt and options.

    Without max_tokens they continue until the turn ends or the context is full.
    """
    prompt = "".join(f"{turn['role']}: {turn['content']}\n" for turn in TALK) + "assistant:"
    assert talker.apply_chat_template(TALK) == talker.tokenize(prompt)
    expected = talker.generate(prompt, max_tokens=40, seed=3, temperature=1.0, stop="the")
    ours = talker.chat(TALK, max_tokens=40, seed=3, temperature=1.0, stop="the")
    assert (ours.tokens, ours.text, ours.finish_reason) == (
        expected.tokens,
        expected.text,
        expected.finish_reason,
    )
    with talker.stream_chat(TALK, max_tokens=40, seed=3, temperature=1.0, stop="the") as stream:
        assert "".join(step.text for step in stream) == expected.text
    full = talker.chat(TALK, seed=3)
    assert (len(full.tokens), full.finish_reason) == (512 - len(talker.tokenize(prompt)), "length")


def test_the_next_turn_reads_only_what_is_new(talker: Generator) -> None:
    """The cache holds the history."""
    talker.reset()
    first = talker.chat(TALK[:2], max_tokens=10, seed=1)
    assert first.stats.cached_tokens == 0
    begin = "system: You are terse.\nuser: Hi!\nassistant:"
    again = talker.chat(TALK, max_tokens=10, seed=1)
    assert again.stats.cached_tokens >= len(talker.tokenize(begin)) - 1


def test_tools_variables_and_parts_reach_the_template(folder: Path, talker: Generator) -> None:
    """Tools arrive as JSON, variables by name, and text parts joined.

    Other keys of a message arrive too.
    """
    text = talker.detokenize(talker.apply_chat_template(TALK[1:2], tools=TOOLS), special=True)
    assert '"name": "weather"' in text
    assert "tools:" not in talker.detokenize(talker.apply_chat_template(TALK[1:2]))
    parts = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        }
    ]
    assert talker.apply_chat_template(parts) == talker.tokenize("user: one\ntwo\nassistant:")
    own = Generator(
        talker.target.path,
        n_ctx=256,
        n_threads=1,
        chat_template="{{ bos_token }}{{ mood }} {{ messages[0].name }}{{ eos_token }}",
    )
    tokens = own.apply_chat_template(
        [{"role": "user", "name": "Ann", "content": None}], mood="good"
    )
    assert tokens == own.tokenize("good Ann</s>")  # one beginning of sequence, not two
    said = own.chat(
        [{"role": "user", "name": "Ann"}],
        chat_template_kwargs={"mood": "good"},
        max_tokens=5,
        seed=1,
    )
    assert said.tokens == own.generate("good Ann</s>", max_tokens=5, seed=1).tokens


def test_a_template_for_tools_is_taken_with_tools(folder: Path) -> None:
    """A file may have a second template for tools, as Command R's has."""
    template = [
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "tooled"},
    ]
    generator = Generator(
        tiny.write_llama(folder / "two-templates.gguf", chat_template=template),
        n_ctx=64,
        n_threads=1,
    )
    assert generator.apply_chat_template(TALK) == generator.tokenize("plain")
    assert generator.apply_chat_template(TALK, tools=TOOLS) == generator.tokenize("tooled")


def test_what_cannot_be_a_conversation_is_refused(generator: Generator, talker: Generator) -> None:
    """Each error says its reason in one sentence.

    Refused are a missing template, a missing role, pictures, and what the template refuses.
    """
    with pytest.raises(
        ValueError, match=r"'.*target.gguf' has no chat template: give Generator a chat_template"
    ):
        generator.chat(TALK)
    for wrong in ("Hi!", {"content": "Hi!"}, {"role": 3}):
        with pytest.raises(ValueError, match="expected mappings with a 'role', got"):
            talker.chat([wrong])
    with pytest.raises(ValueError, match="expected 'content' to be text or parts of type 'text'"):
        talker.chat([{"role": "user", "content": [{"type": "image_url", "image_url": "x.png"}]}])
    strict = Generator(
        talker.target.path,
        n_ctx=64,
        n_threads=1,
        chat_template="{{ raise_exception('roles must alternate') }}",
    )
    with pytest.raises(
        ValueError, match=r"the chat template of '.*' refuses these messages: roles must alternate"
    ):
        strict.chat(TALK)
    broken = Generator(talker.target.path, n_ctx=64, n_threads=1, chat_template="{% for %}")
    with pytest.raises(ValueError, match=r"the chat template of '.*' refuses these messages"):
        broken.chat(TALK)


def test_the_default_pair_answers(target: Path) -> None:
    """A greedy answer ends by itself before its end token, with and without a draft."""
    pair, plain = (
        Generator(target, models.twin(), n_ctx=512),
        Generator(target, n_ctx=512, exact=True),
    )
    question = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    ours, expected = (each.chat(question, temperature=0, draft_nodes=8) for each in (pair, plain))
    assert (ours.tokens, ours.text, ours.finish_reason) == (expected.tokens, expected.text, "stop")
    assert "Paris" in ours.text
    assert "<|im_end|>" not in ours.text
