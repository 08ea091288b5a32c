"""jinja2's immutable sandbox with bounds: whatever a template says, a rendering ends, and its memory is known.

The sandbox decides what a template may reach; the budget decides how much it may do. Everything that can make much out
of little goes through here: `*`, `**`, `+`, `%` and `~`, calls, filters, slices, lists written out, every turn of a
loop, every piece of output. Each is weighed before it is made, so no single operation is long, and paid for from a
`Budget`; single operations are too short to need an interruption from outside, and the sum of them is bounded.

Left out are what no published template uses and what is not linear: the filters pprint, striptags, urlize, wordwrap and
xmlattr, the global lipsum, and methods of strings that are not in `_TEXT_METHODS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from itertools import islice
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.nodes
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from lora_lab.data.tokens.template_budget import (
    CALL_STEPS,
    MAX_CALL_DEPTH,
    MAX_NUMBER_BITS,
    MAX_WIDTH,
    SMALL,
    Budget,
    LimitError,
    check_number,
    check_width,
)
from lora_lab.data.tokens.template_code import COUNTED, CodeGenerator, check_depth, size_of

_PIECES = 4096  # of output that are looked at together
_DROPPED_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
# Filters that return a part of what they get, or a number.
_FREE_FILTERS = frozenset(("abs", "attr", "count", "d", "default", "first", "float", "items", "last", "length", "max",
                           "min", "random"))  # fmt: skip
# Filters that print whatever they get.
_TEXT_FILTERS = frozenset(("capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "title", "truncate",
                           "upper", "urlencode", "wordcount"))  # fmt: skip
_TEXT_METHODS = frozenset((
    "capitalize", "casefold", "center", "count", "endswith", "find", "format", "format_map", "index", "isalnum",
    "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace",
    "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace",
    "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip",
    "swapcase", "title", "upper", "zfill",
))  # fmt: skip
_WIDTH_METHODS = frozenset(("center", "ljust", "rjust", "zfill"))
_WIDE = re.compile(r"\d{4}|\*")  # in what stands between % and its letter
_PERCENT = re.compile(r"%(?:\([^()]*\))?([-+ #0\d.*]*)")
_PERCENT_NESTED = re.compile(r"%\([^)]*\(")
_BRACES_NESTED = re.compile(r"\{[^{}]*[{]")
_BRACES_WIDE = re.compile(r"\{[^{}]*:[^{}]*\d{4}[^{}]*\}")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox; `budget` is that of the rendering that goes on."""

    code_generator_class = CodeGenerator
    # Of constants these would be folded while the template is compiled, and 10**(10**10) takes for ever.
    intercepted_binops = frozenset(("*", "**", "%"))
    budget: Budget

    def __init__(self, **options: Any) -> None:
        self.budget = Budget()
        super().__init__(**options)
        del self.globals["lipsum"]
        for name in _DROPPED_FILTERS:
            del self.filters[name]

    def bound_filters(self) -> None:
        """Put the budget in front of every filter."""
        for name, function in list(self.filters.items()):
            if name not in _FREE_FILTERS:
                self.filters[name] = self._bounded(name, function)
        self.filters["trim"] = self._trimmed
        self.filters[COUNTED] = self.counted

    # ------------------------------------------------------------------------------- compiling

    def _generate(self, source: jinja2.nodes.Template, name: Any, filename: Any, defer_init: bool = False) -> str:
        check_depth(source)
        for loop in list(source.find_all(jinja2.nodes.For)):
            size = jinja2.nodes.Const(size_of(loop), lineno=loop.lineno)
            loop.iter = jinja2.nodes.Filter(loop.iter, COUNTED, [size], [], None, None, lineno=loop.lineno)
        return super()._generate(source, name, filename, defer_init)

    # ------------------------------------------------------------------------------- rendering

    def concat(self, pieces: Iterable[str]) -> str:  # jinja2 has "".join here
        """Join the pieces of a template, a block or a macro, as far as the budget goes."""
        if type(pieces) is list:
            self.budget.make(sum(map(len, pieces)))
            return "".join(pieces)
        pieces = iter(pieces)
        kept = list(islice(pieces, _PIECES))
        size = sum(map(len, kept))
        self.budget.make(size)
        if len(kept) < _PIECES:
            return "".join(kept)
        while some := list(islice(pieces, _PIECES)):
            size += sum(map(len, some))
            self.budget.make(size)
            kept += some
        return "".join(kept)

    def printed(self, value: Any) -> str:
        """Return what is no string as it is printed."""
        if isinstance(value, int):
            check_number(value)
        else:
            self.budget.make(self.budget.printed(value))
        return str(value)

    def join_parts(self, parts: tuple[Any, ...]) -> str:
        """a ~ b"""
        budget = self.budget
        if len(parts) <= 8:  # as many texts of the greatest size fit into memory
            for part in parts:
                if type(part) is not str:
                    break
            else:
                text = "".join(parts)
                if len(text) > SMALL:
                    budget.make(len(text))
                return text
        budget.make(sum([len(part) if type(part) is str else budget.printed(part) for part in parts]))
        return "".join([str(part) for part in parts])

    def pay(self, value: Any) -> Any:
        """Return a list that was written out, paid for."""
        return self.budget.pay(value)

    def pay_part(self, value: Any) -> Any:
        """Return a slice, paid for: of a text or a list that was weighed before."""
        if isinstance(value, (str, list, tuple)):
            self.budget.make(len(value))
        return value

    @staticmethod
    def is_small(values: Any) -> bool:
        """Whether looking for something in the values takes no time."""
        return not isinstance(values, (str, list, tuple)) or len(values) < 1 << 14

    def counted(self, values: Any, size: int) -> Any:
        """Return what a loop goes through, whose body has `size` nodes; its turns are paid for."""
        size = max(1, size)  # the filter has a name, by which map could call it
        if isinstance(values, (list, tuple, str, dict, range)):
            self.budget.step(size * len(values))
            return values
        return self._each_counted(values, size)

    def _each_counted(self, values: Iterable[Any], size: int) -> Iterator[Any]:
        for value in values:
            self.budget.step(size)
            yield value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = self.budget
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(other, int):
                    budget.make(len(one) * max(0, other) * (1 if isinstance(one, str) else 8))
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_NUMBER_BITS:
                raise LimitError("it makes a number of thousands of digits")
        elif operator == "%" and isinstance(left, str):
            many = right if isinstance(right, (tuple, list)) else (right,)
            self._check_format(left, *many)
        return budget.pay(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        return attr not in ("to_bytes", "from_bytes") and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        if getattr(value, "__name__", "") not in ("format", "format_map"):
            return None
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        template = value.__self__

        @wraps(wrapped)
        def formatted(*args: Any, **kwargs: Any) -> str:
            if _BRACES_NESTED.search(template.replace("{{", "")) or _BRACES_WIDE.search(template):
                raise LimitError("it formats a text with a width of thousands, or one taken from elsewhere")
            longest = max((self.budget.printed(one) for one in (*args, *kwargs.values())), default=0)
            self.budget.make(len(template) + template.count("{") * (longest + MAX_WIDTH))
            return wrapped(*args, **kwargs)

        return formatted

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # named as jinja2 names them
        budget = __self.budget
        budget.step(CALL_STEPS)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            args = __self._checked_method(__obj.__name__, owner, args, kwargs)
            return budget.pay(__context.call(__obj, *args, **kwargs))
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"{__obj!r:.80} is not safely callable")
        budget.depth -= 1
        if budget.depth < 0:
            raise LimitError(f"its macros or loops call one another more than {MAX_CALL_DEPTH} deep")
        try:
            return budget.pay(__context.call(__obj, *args, **kwargs))
        finally:
            budget.depth += 1

    # ------------------------------------------------------------------------------- weighing

    def _checked_method(self, name: str, text: str, args: tuple, kwargs: Mapping[str, Any]) -> tuple:
        """Weigh what a string's method will make; return the arguments to call it with."""
        if name in _WIDTH_METHODS:
            check_width((*args, *kwargs.values()))
        elif name == "replace" and len(args) >= 2:
            self._check_replace(text, *args[:2])
        elif name == "join" and args:
            parts = list(args[0])
            self._check_join(parts, text)
            return (parts, *args[1:])
        elif len(text) > SMALL and name not in ("startswith", "endswith"):
            self.budget.make(len(text))
        return args

    def _trimmed(self, value: Any, chars: str | None = None) -> str:
        """Strip leading and trailing characters, by default white space; most templates do so to each message."""
        text = (value if isinstance(value, str) else self.printed(value)).strip(chars)
        if len(text) > SMALL:
            self.budget.make(len(text))
        return text

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that weighs what it will make, and pays for what it made."""
        at = 1 if hasattr(function, "jinja_pass_arg") else 0
        guard = getattr(self, f"_check_{name}", None)

        @wraps(function)
        def filtered(*args: Any, **kwargs: Any) -> Any:
            budget = self.budget
            value = args[at]
            if type(value) is str and guard is None and len(value) < SMALL:
                return function(*args, **kwargs)
            if isinstance(value, (str, list, tuple, dict, range)):
                budget.make(len(value))
                budget.step(CALL_STEPS * (1 if isinstance(value, str) else len(value)))
            elif name in ("join", "list", "sort", "unique"):  # what map, select, … give, which may be read once
                value = list(value)
                args = (*args[:at], value, *args[at + 1 :])
            if guard is not None:
                guard(value, *args[at + 1 :], **kwargs)
            elif name in _TEXT_FILTERS:
                budget.make(budget.printed(value))
            return budget.pay(function(*args, **kwargs))

        if name not in _TEXT_FILTERS or at:
            return filtered

        @wraps(function)
        def short(value: Any, *args: Any) -> Any:
            if type(value) is str and len(value) < SMALL and not args:
                return function(value)
            return filtered(value, *args)

        return short

    def _check_replace(self, text: Any, old: Any, new: Any, count: Any = None) -> None:
        text, old, new = str(text), str(old), str(new)
        if len(new) > len(old):
            self.budget.make(len(text) + (len(new) - len(old)) * text.count(old))

    def _check_join(self, parts: Any, separator: Any = "", attribute: Any = None) -> None:
        longest = max(map(self.budget.printed, parts), default=0) if attribute else 0
        self.budget.make(sum(self.budget.printed(separator) + (longest or self.budget.printed(part)) for part in parts))

    def _check_indent(self, text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
        check_width((width,))
        size = len(width) if isinstance(width, str) else int(width)
        self.budget.make(len(str(text)) + size * (1 + str(text).count("\n")))

    def _check_format(self, template: Any, *values: Any, **named: Any) -> None:
        template = str(template)
        found = _PERCENT.findall(template)
        if any(map(_WIDE.search, found)) or _PERCENT_NESTED.search(template):
            raise LimitError("it formats a text with a width of thousands, or one taken from elsewhere")
        longest = max(map(self.budget.printed, (*values, *named.values())), default=0)
        self.budget.make(len(template) + len(found) * (longest + MAX_WIDTH))

    def _check_sum(self, values: Any, attribute: Any = None, start: Any = 0) -> None:
        if not isinstance(start, (int, float)):
            raise LimitError("it adds up lists with the filter sum; + does that")

    def _check_tojson(self, value: Any, *options: Any, **named: Any) -> None:
        check_width((*options, *named.values()))
        count, size = self.budget.weigh(value)
        # In six characters a control character, with an indent each value on a line of its own.
        indent = [one for one in (*options, *named.values()) if isinstance(one, int) and not isinstance(one, bool)]
        self.budget.make(size + count * max(indent, default=0) * 4)

    def _check_center(self, value: Any, width: Any = 80) -> None:
        check_width((width,))

    def _check_batch(self, values: Any, size: Any, fill_with: Any = None) -> None:
        check_width((size,))

    _check_slice = _check_batch

    def _check_round(self, value: Any, precision: Any = 0, method: Any = "common") -> None:
        check_width((precision,))
