"""Groups of operators that become one row-block kernel each.

Groups are formed from the output backwards: what only one group reads, row by row, joins it, so that a value is made as
late as it can be and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from tvm.ir import Var

from embbert_tvm.graph.dataflow import Expr
from embbert_tvm.graph.row_block_graph import Access, Node


@dataclass(eq=False)
class Group:
    """nodes: in the order of the module. roots: those whose values leave the group."""

    nodes: list[Node] = field(default_factory=list)
    roots: list[Node] = field(default_factory=list)

    @property
    def one_row(self) -> bool:
        """Whether it is of one row alone."""
        return any(n.one_row for n in self.nodes)

    @property
    def all_reads(self) -> list[Var]:
        return [v for n in self.nodes for v, access in n.reads if access is not Access.ROW]

    @property
    def row_reads(self) -> list[Var]:
        """Tensors from outside that are read row by row."""
        inside = [v for n in self.nodes for v in n.values]
        return _distinct([v for n in self.nodes for v, a in n.reads if a is Access.ROW and not is_among(v, inside)])


def is_among(var: Var, group: list[Var]) -> bool:
    return any(var.same_as(v) for v in group)


def _distinct(group: list[Var]) -> list[Var]:
    found: list[Var] = []
    for var in group:
        if not is_among(var, found):
            found.append(var)
    return found


def form_groups(
    nodes: list[Node], output: Expr, apart: Callable[[Node], bool], unfusable: Container[str] = ()
) -> list[Group]:
    """The groups of a module's nodes, in the order of their roots; nodes without a group are left out.

    apart: whether a node is a filter that is a kernel of its own. unfusable: names of values whose operators stay out
    of groups.
    """
    users: dict[Var, list[tuple[Node, Access]]] = {}
    for node in nodes:
        for var, access in node.reads:
            users.setdefault(var, []).append((node, access))
    group_of: dict[int, Group] = {}
    groups: list[Group] = []
    for node in reversed(nodes):
        if node.opaque or node.values[0].name in unfusable or apart(node):
            continue
        readers = [r for v in node.values for r in users.get(v, [])]
        homes = {id(group_of.get(id(n))): group_of.get(id(n)) for n, _ in readers}
        (home,) = homes.values() if len(homes) == 1 else (None,)
        only_rows = all(access is Access.ROW for _, access in readers)
        ends = node.is_float or node.leaves_few or _in_output(node, output)
        if home is not None and only_rows and not ends:
            group = home
        else:
            group = Group(roots=[node])
            groups.append(group)
        group.nodes.insert(0, node)
        group_of[id(node)] = group
    groups.reverse()
    return _merge_siblings(groups, nodes)


def _in_output(node: Node, output: Expr) -> bool:
    return isinstance(output, Var) and is_among(output, list(node.values))


def _merge_siblings(groups: list[Group], nodes: list[Node]) -> list[Group]:
    """Groups of one root that read the same rows and no whole tensor, such as keys and values, become one."""
    order = {id(n): i for i, n in enumerate(nodes)}
    out: list[Group] = []
    for group in groups:
        reads = group.row_reads
        sibling = next(
            (
                g
                for g in reversed(out)
                if reads
                and not g.all_reads
                and not group.all_reads
                and len(g.row_reads) == len(reads)
                and all(is_among(v, g.row_reads) for v in reads)
                and not any(is_among(v, [x for r in g.roots for x in r.values]) for v in reads)
            ),
            None,
        )
        # The joined group stands where the first stood: nothing between them may feed the later one.
        if sibling is not None:
            sibling.nodes = sorted([*sibling.nodes, *group.nodes], key=lambda n: order[id(n)])
            sibling.roots += group.roots
        else:
            out.append(group)
    return out
