"""Tools that the model may call, and whether it must."""

from providers.messages.fields import Fields, Json

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def translated(request: Fields) -> Json:
    """The fields of an OpenAI request that say the same. Raises Refused."""
    tools, choice = request.take("tools", list), request.take("tool_choice", dict)
    made: Json = {}
    if tools:
        made["tools"] = [_tool(Fields(tool, f"tools.{place}")) for place, tool in enumerate(tools)]
    if choice is not None:
        made |= _choice(Fields(choice, "tool_choice"))
    return made


def _tool(tool: Fields) -> Json:
    tool.one_of("type", "custom")
    tool.take("cache_control")
    tool.take("eager_input_streaming")  # nothing is streamed
    if tool.take("defer_loading", bool):
        raise tool.refused("defer_loading", "this provider knows all tools from the start; leave it out")
    if tool.take("allowed_callers", list) not in (None, [], ["direct"]):
        raise tool.refused("allowed_callers", "only tools that the model calls directly can be passed on")
    function: Json = {"name": tool.need("name", str), "parameters": tool.need("input_schema", dict)}
    for name, kind in (("description", str), ("strict", bool)):
        value = tool.take(name, kind)
        if value is not None:
            function[name] = value
    tool.close()
    return {"type": "function", "function": function}


def _choice(choice: Fields) -> Json:
    kind = choice.need_one_of("type", *_CHOICES, "tool")
    alone = choice.take("disable_parallel_tool_use", bool)
    made: Json = {"parallel_tool_calls": False} if alone else {}
    if kind == "tool":
        made["tool_choice"] = {"type": "function", "function": {"name": choice.need("name", str)}}
    else:
        made["tool_choice"] = _CHOICES[kind]
    choice.close()
    return made
