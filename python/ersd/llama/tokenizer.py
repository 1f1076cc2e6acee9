"""The tokenizer that `Llama.tokenizer()` returns."""

from __future__ import annotations

from collections.abc import Sequence

from ersd import arguments
from ersd.engine import Model, tokenize_bytes

__all__ = ["LlamaTokenizer"]


class LlamaTokenizer:
    """Turns bytes into tokens and back, like llama_cpp.LlamaTokenizer."""

    def __init__(self, model: Model) -> None:
        """model: has the vocabulary."""
        self._model = model

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Returns the tokens of a text.

        Args:
            text: the text, usually in UTF-8; other bytes become tokens as well.
            add_bos: whether to add the tokens that the model expects around a text.
            special: whether special tokens like ``<|im_end|>`` in the text are parsed.

        Raises:
            TypeError: the text is not bytes.
        """
        if not isinstance(text, bytes):
            raise TypeError(f"tokenize: text must be bytes, got {text!r}")
        return tokenize_bytes(self._model, text, add_bos, special)

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """Returns the bytes of tokens.

        A space at the beginning is left out after a beginning of sequence, as in llama-cpp-python.

        Args:
            tokens: token ids.
            prev_tokens: the tokens before, on which nothing depends here.
            special: whether to show special tokens.

        Raises:
            TypeError: they are no list of integers.
            ValueError: a token is not in the vocabulary.
        """
        found = arguments.token_ids("tokens", tokens, "a list of token ids")
        text = b"".join(self._model.piece(token, special) for token in found)
        begins = len(found) > 0 and found[0] == self._model.bos
        return text[1:] if begins and text[:1] == b" " else text

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        """Returns the tokens of a text. Characters that UTF-8 lacks are left out."""
        return self.tokenize(text.encode("utf-8", "ignore"), add_bos, special)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens. Bytes that are not UTF-8 are left out."""
        return self.detokenize(tokens).decode("utf-8", "ignore")
