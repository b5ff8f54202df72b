"""What is about configurations of kernels: whether one has what a purpose needs."""

from collections.abc import Mapping

from kiln.errors import KilnError
from kiln.graph import KERNEL, KERNEL_MODULES, Graph
from kiln.kconfig import parse
from kiln.needs import Need, load, purposes
from kiln.stage import Stage
from kiln.target import Target


def configured(graph: Graph) -> Target:
    """What has the configuration of the board's kernel; it need not be compiled for that."""
    if isinstance(graph.kernel, Stage):
        return graph.stages(KERNEL).get("configure", graph.kernel)
    return graph.kernel


def check(graph: Graph, *names: str) -> None:
    """Print what each purpose needs that the board's kernel lacks, and the line to write.

    Raises KilnError where something required is missing.
    """
    root, board = graph.settings.root, graph.board
    if not names:
        hint = f"doit kconfig:check PURPOSE, which is one of {', '.join(purposes(root))}"
        raise KilnError("say what the kernel is for", hint=hint)
    needs = {name: load(root, name) for name in names}
    config, modules, missing = _config(graph), _has_modules(graph), 0
    for name in names:
        lacking = [need for need in needs[name] if not need.met(config, modules=modules)]
        for need in lacking:
            print(f"{'missing ' if need.required else 'optional'}  {need}: {need.reason}")
            print(f"          {_advice(graph, name, need, config, modules=modules)}")
        required = sum(need.required for need in lacking)
        missing += required
        print(
            f"{board.name} has {len(needs[name]) - len(lacking)} of {len(needs[name])} that {name} looks for,"
            f" and lacks {required} required and {len(lacking) - required} optional ones"
        )
    if missing:
        raise KilnError(f"{missing} required symbol{'s' * (missing > 1)} missing", where=f"configs/{board.name}.toml")


def _config(graph: Graph) -> dict[str, str]:
    kernel = configured(graph).built().root
    for file in (kernel / "config", kernel / "boot/config"):
        if file.is_file():
            return parse(file.read_text())
    hint = 'say config = "FILE" there: its builder has it, often as /boot/config-VERSION'
    message = "nothing tells how this kernel was configured"
    raise KilnError(message, where=f"configs/{graph.board.name}.toml, kernel", hint=hint)


def _has_modules(graph: Graph) -> bool:
    """Whether modules of the kernel are in the root file system."""
    if KERNEL_MODULES in graph.runtime():
        return True
    return any(
        (folder / place).is_dir() for folder in graph.board.overlays for place in ("lib/modules", "usr/lib/modules")
    )


def _advice(graph: Graph, purpose: str, need: Need, config: Mapping[str, str], *, modules: bool) -> str:
    """What to write where, for the board to have it."""
    board, symbol = graph.board, need.symbols[0]
    if not modules and need.met(config, modules=True):
        if board.kernel:
            return f"it is a module, and this image has none: put lib/modules into board/{board.name}/overlay"
        return (
            f'it is a module, and this image has none: add "{KERNEL_MODULES}" to packages in configs/{board.name}.toml'
        )
    if board.kernel:
        return f"whoever builds this kernel must set {symbol.line(config)}"
    chosen = board.fragments(KERNEL)
    for fragment in sorted((board.root / "board/common" / KERNEL).glob("*.config")):
        if fragment not in chosen and symbol.given(parse(fragment.read_text())):
            return f'add "{fragment.stem}" to linux in [kconfig] of configs/{board.name}.toml'
    return f"write {symbol.line(config)} into board/{board.name}/{KERNEL}/{purpose}.config"
