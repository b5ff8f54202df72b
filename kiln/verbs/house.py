"""Look after a project: the machine it builds on, what would be built, what takes room and is whole."""

from tqdm import tqdm

from kiln import gc as collector
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.report import diff as comparison
from kiln.report import doctor as health
from kiln.report import usage
from kiln.report.why import why as explain
from kiln.store import condemn
from kiln.target import Target


def doctor(graph: Graph) -> None:
    findings = list(health.examine(graph.settings, graph.tools, graph.board.arch.name))
    for finding in findings:
        print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    if problems:
        raise KilnError(f"{problems} of these keep kiln from working")


def lock(graph: Graph) -> None:
    changes = graph.tools.renew()
    print("\n".join(changes) or "nothing changed")


def why(graph: Graph, *names: str) -> None:
    for name in names or (graph.image.id,):
        print("\n".join(explain(graph.named(name)[-1], graph.needed)))


def diff(graph: Graph, *places: str) -> None:
    if len(places) != 2:
        raise KilnError("name two images", hint="doit diff IMAGE_A IMAGE_B")
    before, after = (comparison.read(place, graph.settings) for place in places)
    print("\n".join(comparison.render(before, after)))


def gc(graph: Graph, *, dry: bool) -> None:
    if dry:
        print("\n".join(collector.render(collector.sort_out(graph.settings), dry=True)))
        return
    with graph.store.alone(), graph.store.local.alone():
        items = collector.sort_out(graph.settings)
        print("\n".join(collector.render(items, dry=False)), flush=True)
        collector.free(items)


def verify(graph: Graph) -> None:
    """Look at every file of the stores. What is damaged is set aside, so that the next run makes it anew."""
    damaged = count = 0
    for store in (graph.store, graph.store.local):
        for path, error in store.illegible():
            count, damaged = count + 1, damaged + 1
            print(f"damaged  {path.name}  stamp.json ({error})", flush=True)
            condemn(path)
        entries = list(store.entries())
        for entry in tqdm(entries, unit="results", leave=False, disable=None):
            damage = entry.damage()
            if not entry.path.exists():  # freed meanwhile
                continue
            count += 1
            damaged += bool(damage)
            for line in damage:
                print(f"damaged  {entry.path.name}  {line}", flush=True)
            if damage:
                condemn(entry.path)
    if damaged:
        raise KilnError(
            f"{damaged} of {count} results were damaged", hint="they are set aside: the next run makes them anew"
        )
    print(f"{count} results, all as they were built")


def store(graph: Graph) -> None:
    for place in (graph.store.path, graph.store.local.path):
        if place.exists():
            print("\n".join(usage.render(usage.measure(place))))


def clean(target: Target) -> None:
    if target.clean():
        print(f"removed {target.id}")
