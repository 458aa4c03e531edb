"""What pydantic finds wrong, in an operator's words: what it is, and the next step."""

from __future__ import annotations

import difflib
from ipaddress import IPv6Interface, ip_network
from typing import Any

from pydantic_core import ErrorDetails


def near(word: str, known: list[str]) -> str:
    """The known word that was probably meant, as a next step; all of them where none is near."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(known)}" if known else ""


def reword(error: ErrorDetails, *, known: list[str], formats: set[str]) -> tuple[str, str]:  # noqa: PLR0911 (a table of wordings)
    """What is wrong and what to do, without pydantic's vocabulary."""
    kind, given, ctx = error["type"], error["input"], error.get("ctx", {})
    if error["loc"] and error["loc"][-1] == "[key]":
        kind = "extra_forbidden" if kind == "literal_error" else kind
        given = error["loc"][-2]
    match kind:
        case "missing":
            return "is missing", "add it"
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "unknown key", near(str(error["loc"][-2 if error["loc"][-1] == "[key]" else -1]), known)
        case "literal_error" | "enum":
            known = [word.strip("'") for word in ctx["expected"].replace(" or ", ", ").split(", ")]
            close = near(given, known) if isinstance(given, str) else ""
            return f"{shown(given)} is not {'one of ' if len(known) > 1 else ''}{', '.join(known)}", close if "?" in close else ""
        case "value_error" | "ip_v4_address" | "ip_v4_network" if formats & {"ipv4", "ipv4network"}:
            return _no_address("ipv4network" in formats, given)
        case "string_type":
            return f"must be text, not {shown(given)}", "put it in quotes" if isinstance(given, int | float) else ""
        case "value_error":
            what, _, next_step = str(ctx["error"]).partition("; ")
            return what, next_step
        case "greater_than_equal" | "less_than_equal":
            bound = "at least" if kind.startswith("greater") else "at most"
            return f"{shown(given)} is out of range", f"{bound} {next(iter(ctx.values()))}"
        case "too_short" | "string_too_short":
            return "is empty", "name at least one"
    expected = _EXPECTED.get(kind)
    return (f"must be {expected}, not {shown(given)}", "") if expected else (f"{shown(given)}: {error['msg'].lower()}", "")


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "path_type": "a path",
    "url_type": "a URL",
} | dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), "a list")
_EXPECTED |= dict.fromkeys(("dict_type", "mapping_type", "dataclass_type", "model_type"), "a mapping")


def _no_address(network: bool, given: Any) -> tuple[str, str]:
    noun, example = ("IPv4 network", "10.240.0.0/24") if network else ("IPv4 address", "10.240.0.11")
    try:
        IPv6Interface(given)
    except ValueError:
        pass
    else:
        return f"{shown(given)} is IPv6, which is not supported yet", f"write an {noun}"
    try:
        close = f"did you mean {ip_network(given, strict=False)}?"
    except ValueError:
        close = ""
    return f"{shown(given)} is no {noun}", close if network and close else f"such as {example}"


def shown(given: Any, *, quote: bool = True) -> str:
    """A value in one short line; what is long or has several lines may be a secret in the wrong place."""
    if isinstance(given, dict | list):
        return "a mapping" if isinstance(given, dict) else "a list"
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return str(given).lower()
    text = str(given)
    if len(text) > 64 or not text.isprintable():
        return f"a text of {len(text)} characters"
    return f'"{text}"' if quote and isinstance(given, str) else text
