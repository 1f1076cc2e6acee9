"""A server of llama.cpp's RPC backend on the CPU: python rpc_server.py HOST:PORT LIBRARY."""

import ctypes
import sys
from pathlib import Path

import llama_cpp

if __name__ == "__main__":
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml.so"))
    ggml.ggml_backend_dev_by_name.restype = ctypes.c_void_p
    devices = (ctypes.c_void_p * 1)(ggml.ggml_backend_dev_by_name(b"CPU"))
    start = ctypes.CDLL(sys.argv[2]).ggml_backend_rpc_start_server
    start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, *[ctypes.c_size_t] * 2, ctypes.c_void_p]
    start(sys.argv[1].encode(), None, 1, 1, devices)
