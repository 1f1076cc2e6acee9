"""The class `Llama`: completions, conversations and embeddings."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ersd.api import chat_completion, completion, hub
from ersd.api.responses import Response
from ersd.llama.arguments import constructor_signature
from ersd.llama.chats import default_format, handler_of, template_of
from ersd.llama.evaluating import EvaluatingLlama
from ersd.llama.recorded import Recorded

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["Llama"]

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _shaped_like(function: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Gives a method the signature and the documentation of a function of `ersd.api`."""

    def shape(method: _Method) -> _Method:
        method.__doc__ = function.__doc__
        method.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return method

    return shape


class Llama(EvaluatingLlama):
    """llama_cpp.Llama of llama-cpp-python, on top of a Generator.

    >>> from ersd import Llama  # instead of: from llama_cpp import Llama
    >>> llm = Llama("target.gguf", draft_model_path="draft.gguf", n_ctx=2048)
    >>> llm("Once upon a time", max_tokens=24)["choices"][0]["text"]

    Constructor, methods and answers have the shape that they have there. At temperature 0 the text
    is the same. Above it, it is as exact a sample, but another one, since a race draws it.

    Args:
        model_path: the model, a GGUF file.
        n_gpu_layers: layers on the GPU; -1 for all.
        split_mode, main_gpu, tensor_split, use_mmap, use_mlock, offload_kqv: see `Generator`.
        vocab_only: whether to load the vocabulary alone. The object only tokenises then.
        kv_overrides: values that replace those of the file's metadata.
        seed: the seed of the first call; later calls without a seed follow from it.
        n_ctx: tokens of prompt and answer together; 0 for the trained length.
        n_batch: prompt tokens per call.
        n_ubatch: tokens that an embedding computes at a time. Elsewhere a call is computed at once.
        n_threads: CPU threads; None for one per core that the process may use.
        n_threads_batch: is not used: prompts are read with n_threads.
        rope_scaling_type, rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor,
            yarn_beta_fast, yarn_beta_slow, yarn_orig_ctx: how positions are encoded. The defaults
            leave it to the model.
        pooling_type: how embeddings are pooled; -1 for the model's own way.
        attention_type: whether embeddings see later tokens; -1 for the model's own way.
        logits_all: whether `scores` has the logits of every token.
        embedding: whether `embed` may be called.
        flash_attn: whether to use flash attention. An exact text with a draft always does.
        op_offload: whether operations on the CPU's tensors may run on the GPU; None for yes.
        swa_full: None or True.
        no_perf: is not used: nothing is measured for llama.cpp's log.
        last_n_tokens_size: the number of last tokens that are penalised.
        lora_base: is not used, as in llama-cpp-python.
        lora_scale, lora_path: see `Generator`.
        numa: False.
        chat_format: a format of llama-cpp-python, or a template of the file, "chat_template.NAME";
            None for the file's own template.
        chat_handler: answers conversations instead, called with ``llama=self``.
        draft_model: a LlamaPromptLookupDecoding, which stands for drafts from prompt and answer,
            as many as pay; or None. draft_model_path names a draft model.
        tokenizer: has tokenize and detokenize, and replaces the model's own.
        type_k, type_v: types of the cache, by llama.cpp's numbers or names.
        spm_infill: whether the suffix comes before the prefix where a middle is filled in.
        verbose: whether llama.cpp logs to stderr.
        options: options of `Generator`, such as draft_model_path, exact or n_parallel. Unknown
            names are ignored with a warning.

    Raises:
        ValueError: the file does not exist or is no complete model; or an argument cannot be
            honoured, which is said with its name.
        RuntimeError: llama.cpp cannot load the model or allocate its cache.
    """

    def __init__(self, model_path: str | os.PathLike[str], **arguments: Any) -> None:
        """Loads the model."""
        super().__init__(model_path, **arguments)
        self._chat_format = self._arguments.chat_format

    __init__.__signature__ = constructor_signature()  # type: ignore[attr-defined]

    @property
    def chat_format(self) -> str | None:
        """The format of conversations, by the name that llama-cpp-python gives it."""
        if self._chat_format is None and self.chat_handler is None:
            return default_format(self.metadata)
        return self._chat_format

    @chat_format.setter
    def chat_format(self, chat_format: str | None) -> None:
        self._chat_format = chat_format

    @_shaped_like(completion.create_completion)
    def create_completion(self, *args: Any, **kwargs: Any) -> Response | Iterator[Response]:
        call = inspect.signature(completion.create_completion).bind(None, *args, **kwargs)
        given, prompt = call.arguments, call.arguments["prompt"]
        if given.get("suffix") is not None and self.spm_infill:
            given["prompt"] = self._infill(prompt, given.pop("suffix"))
        elif isinstance(prompt, str) and self._arguments.tokenizer is not None:
            given["prompt"] = self.tokenize(prompt.encode(), special=True)
        return self._answer(completion.create_completion, call)

    __call__ = create_completion

    def _infill(self, prompt: str | Sequence[int], suffix: str) -> list[int]:
        """Returns a prompt with its suffix, the suffix first."""
        tokens = completion.prompt_to_complete(self.generator, prompt, suffix)
        prefix_token, suffix_token, middle_token = self.generator.target.fim
        before, after = tokens.index(prefix_token), tokens.index(suffix_token)
        begin, first, second = tokens[:before], tokens[before:after], tokens[after:-1]
        return [*begin, *second, *first, middle_token]

    @_shaped_like(chat_completion.create_chat_completion)
    def create_chat_completion(self, *args: Any, **kwargs: Any) -> Response | Iterator[Response]:
        function = chat_completion.create_chat_completion
        call = inspect.signature(function).bind(None, *args, **kwargs)
        template = template_of(self.metadata, self._chat_format)
        if self.chat_handler is None and (template or self._arguments.options.get("chat_template")):
            if self._chat_format is not None:
                self.generator.chat_template = template
            return self._answer(function, call)
        call.apply_defaults()  # a handler has other defaults
        given = dict(call.arguments)
        del given["self"]
        if isinstance(given["stop"], tuple):
            given["stop"] = list(given["stop"])
        handler = self.chat_handler or handler_of(self._chat_format)
        answer: Response | Iterator[Response] = handler(
            llama=self, **{**given.pop("options"), **given}
        )
        return answer

    def create_chat_completion_openai_v1(
        self, *args: Any, **kwargs: Any
    ) -> ChatCompletion | Iterator[ChatCompletionChunk]:
        """Answers like `create_chat_completion`, with objects of the package openai.

        Raises:
            ImportError: openai is not installed.
        """
        return chat_completion.as_openai_objects(self.create_chat_completion(*args, **kwargs))

    def _answer(
        self, function: Callable[..., Any], call: inspect.BoundArguments
    ) -> Response | Iterator[Response]:
        """Calls a function of `ersd.api`, and takes the answer into the text and the cache."""
        given = call.arguments
        given["self"] = self.generator
        seed = given.get("seed")
        # llama-cpp-python draws the seeds of later calls from that of the call before.
        self.set_seed(random.Random(self._seed).randint(0, 2**32) if seed is None else seed)
        given["seed"] = self._next_seed()
        given["options"] = {**self._penalties(), **given.get("options", {})}
        answer = function(*call.args, **call.kwargs)
        recorded = self.generator.last()
        if given.get("stream"):
            return self._chunks(answer, recorded)
        self._keep(recorded)
        response: Response = answer
        return response

    def _chunks(self, chunks: Iterator[Response], recorded: Recorded) -> Iterator[Response]:
        yield from chunks
        self._keep(recorded)

    def _keep(self, recorded: Recorded) -> None:
        """Takes a generation into the text, and its state into the cache if there is one."""
        self._set_text(recorded.text(), len(recorded.prompt))
        if self.cache:
            self.cache[(*recorded.prompt, *recorded.stream.tokens)] = self.save_state()

    def _restore(self, prompt: list[int]) -> None:
        """Loads the state of the cache that has more of a prompt than the text has."""
        if not self.cache:
            return
        try:
            state = self.cache[prompt]
        except KeyError:
            return
        known = self.longest_token_prefix(state.input_ids[: state.n_tokens].tolist(), prompt)
        if known > self.longest_token_prefix(self._input_ids.tolist(), prompt):
            seed = self._seed
            self.load_state(state)
            self.set_seed(seed)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str,
        additional_files: Sequence[str] | None = None,
        local_dir: str | os.PathLike[str] | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Llama:
        """Loads a model from the Hugging Face Hub; see `Generator.from_pretrained`.

        Args:
            repo_id: the repository.
            filename: the file, or a pattern that matches one file.
            additional_files: names or patterns of more files to download.
            local_dir: a folder for the files; None for the Hub's cache.
            local_dir_use_symlinks: is not used, as the Hub's package does not use it any more.
            cache_dir: the folder of the Hub's cache; None for its usual place.
            kwargs: arguments of the constructor.

        Raises:
            ImportError: huggingface_hub is not installed.
            ValueError: as the constructor; or a pattern matches no file or several.
        """
        folders = hub.Folders(local_dir, cache_dir)
        path = hub.download(repo_id, filename, folders)
        for name in additional_files or ():
            hub.download(repo_id, name, folders)
        return cls(path, **kwargs)
