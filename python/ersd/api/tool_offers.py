"""Tools in the texts of messages, for models whose chat template knows no tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ersd.api.chat import with_joined_parts

__all__ = ["with_tools_as_text"]

_Form = Mapping[str, Any]  # a message or a tool as chat templates expect it

# How tools are offered, in Hermes' words, to a model whose chat template knows none.
_OFFER = """\
You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a JSON object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def with_tools_as_text(messages: Sequence[_Form], tools: Sequence[_Form]) -> list[dict[str, Any]]:
    """Returns messages that offer tools, and show calls and what they gave, in their texts."""
    shown = [_with_calls_as_text(with_joined_parts(message)) for message in messages]
    if not tools:
        return shown
    offer = _OFFER.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if shown and shown[0]["role"] == "system":
        first = {**shown[0], "content": f"{shown[0]['content']}\n\n{offer}"}
        return [first, *shown[1:]]
    return [{"role": "system", "content": offer}, *shown]


def _with_calls_as_text(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if message["role"] in ("tool", "function"):
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    if "tool_calls" not in message:
        return message
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message["tool_calls"]]
    text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    return {"role": message["role"], "content": f"{content}\n{text}" if content else text}
