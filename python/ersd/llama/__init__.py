"""`ersd.Llama`: the class llama_cpp.Llama of llama-cpp-python, on top of a Generator."""

from ersd.llama.llama import Llama
from ersd.llama.state import LlamaState

__all__ = ["Llama", "LlamaState"]
