"""The Python that a chat template becomes: jinja2's, but for operations that can make much out of little."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jinja2.compiler
import jinja2.nodes

from lora_lab.data.tokens.template_budget import MAX_DEPTH, SMALL, LimitError, check_number

if TYPE_CHECKING:
    from lora_lab.data.tokens.template_sandbox import BoundedEnvironment

COUNTED = "steps of a loop"  # a filter that no template can name


class CodeGenerator(jinja2.compiler.CodeGenerator):
    """Writes operations so that the environment hears of them; what is small stays in line, as most of it is.

    `_v` is a variable of the written Python; jinja2 gives its own other names.
    """

    environment: BoundedEnvironment

    def visit_Add(self, node: jinja2.nodes.BinExpr, frame: Any) -> None:
        self.write("(_v if type(_v := (")
        self._visit_sum(node, frame, 0)
        self.write(f")) is str and len(_v) < {SMALL} else environment.pay(_v))")

    def _visit_sum(self, node: jinja2.nodes.Expr, frame: Any, depth: int) -> None:
        """a + b + c as one sum, as far as 8 texts of the greatest size fit into memory."""
        if not isinstance(node, jinja2.nodes.Add) or depth >= 7:
            self.visit(node, frame)
            return
        self.write("(")
        self._visit_sum(node.left, frame, depth + 1)
        self.write(" + ")
        self.visit(node.right, frame)
        self.write(")")

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: Any) -> None:
        self._write_call("join_parts", "((", node.nodes, frame)
        self.write("))")

    def visit_Getitem(self, node: jinja2.nodes.Getitem, frame: Any) -> None:
        if not isinstance(node.arg, jinja2.nodes.Slice):
            super().visit_Getitem(node, frame)
            return
        self.write("environment.pay_part(")
        super().visit_Getitem(node, frame)
        self.write(")")

    def visit_Compare(self, node: jinja2.nodes.Compare, frame: Any) -> None:
        if len(node.ops) != 1 or node.ops[0].op not in ("in", "notin"):
            super().visit_Compare(node, frame)
            return
        self.write("(")
        self.visit(node.expr, frame)
        self.write(" not in (" if node.ops[0].op == "notin" else " in (")
        self.write("_v if type(_v := ")
        self.visit(node.ops[0].expr, frame)
        self.write(") is dict or environment.is_small(_v) else environment.pay_part(_v)))")

    def visit_List(self, node: jinja2.nodes.List, frame: Any) -> None:
        self._pay(super().visit_List, node, frame)

    def visit_Dict(self, node: jinja2.nodes.Dict, frame: Any) -> None:
        self._pay(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: jinja2.nodes.Tuple, frame: Any) -> None:
        if node.ctx == "load":
            self._pay(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _pay(self, visit: Callable[[Any, Any], None], node: Any, frame: Any) -> None:
        if not any(node.find_all((jinja2.nodes.Name, jinja2.nodes.Call, jinja2.nodes.Getattr))):
            visit(node, frame)
            return
        self.write("environment.pay(")
        visit(node, frame)
        self.write(")")

    def _write_call(self, name: str, opening: str, arguments: Iterable[Any], frame: Any) -> None:
        self.write(f"environment.{name}{opening}")
        for argument in arguments:
            self.visit(argument, frame)
            self.write(", ")

    def _output_child_pre(self, node: jinja2.nodes.Expr, frame: Any, finalize: Any) -> None:
        self.write("(_v if type(_v := ")

    def _output_child_post(self, node: jinja2.nodes.Expr, frame: Any, finalize: Any) -> None:
        self.write(") is str else environment.printed(_v))")


def size_of(loop: jinja2.nodes.For) -> int:
    """Return how many nodes a loop goes through at each turn, those of loops inside left out: they count themselves."""
    size, nodes = 1, [*loop.body, loop.test]
    while nodes:
        node = nodes.pop()
        if node is not None and not isinstance(node, jinja2.nodes.For):
            size += 1
            nodes.extend(node.iter_child_nodes())
    return size


def check_depth(template: jinja2.nodes.Template) -> None:
    """Refuse nesting that Python's compiler refuses in ways of its own; in WebAssembly it would end the interpreter."""
    level: list[jinja2.nodes.Node] = [template]
    for _ in range(MAX_DEPTH):
        for node in level:
            if isinstance(node, jinja2.nodes.Const) and isinstance(node.value, int):
                check_number(node.value)
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise LimitError(f"it is nested more than {MAX_DEPTH} deep")
