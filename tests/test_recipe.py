from pathlib import Path
from typing import Any

import pytest

from kiln import Debian, Option, process
from kiln.digest import of_value
from kiln.errors import KilnError
from kiln.graph import Graph
from kiln.recipe import load
from kiln.recipe.step import Step, shell
from tests.project import HEADER, Project

PIN = 'Debian("tiny_1.tar.gz", sha256="' + "0" * 64 + '", content="sha256:' + "1" * 64 + '")'

PHASES = """
@package.configure
def configure(step, board):
    step.run("sh", "-c", "echo $1", "sh", board.arch.name, env={"LANG": "C"})

@package.build
def build(step, board):
    step.make("all", "V=1", CC="gcc")
    step.run("true", cwd=step.src)

@package.install
def install(step, board):
    step.copy("files/rc", "/etc/rc", mode=0o755)
    step.write("etc/motd", "hello\\n")
    step.install("tiny", "bin/tiny", mode=0o755)
    step.symlink("tiny", "bin/small")
    step.folder("var/tiny")
"""

PLAN = {
    "configure": [{"run": ["sh", "-c", "echo $1", "sh", "x86_64"], "cwd": "/build", "env": {"LANG": "C"}}],
    "build": [
        {"run": ["make", "all", "V=1", "CC=gcc"], "cwd": "/build", "env": {}},
        {"run": ["true"], "cwd": "/src", "env": {}},
    ],
    "install": [
        {"copy": "/inputs/files/rc", "to": "/dest/etc/rc", "mode": 0o755},
        {"write": "/dest/etc/motd", "text": "hello\n", "mode": 0o644},
        {"copy": "/build/tiny", "to": "/dest/bin/tiny", "mode": 0o755},
        {"symlink": "tiny", "to": "/dest/bin/small"},
        {"folder": "/dest/var/tiny"},
    ],
}


def tiny(project: Project, *fields: str, phases: str = PHASES) -> None:
    project.recipe("tiny", f"source={PIN}", *fields, phases=phases)
    project.file("packages/tiny/files/rc", "#!/bin/sh\n")


def inputs(graph: Graph) -> dict[str, Any]:
    """All that the result of the package follows from, without the tools."""
    found = graph.result("tiny").inputs()
    assert found
    return {name: value for name, value in found.items() if name != "tools"}


def key(project: Project) -> str:
    return of_value(inputs(project.graph()))


# Plans and keys.


def test_phases_are_recorded(project: Project) -> None:
    tiny(project)
    assert project.graph().result("tiny").phases == PLAN


def test_a_key_follows_from_exactly_this(project: Project) -> None:
    tiny(project)
    assert inputs(project.graph()) == {
        "name": "tiny",
        "version": "1",
        "phases": PLAN,
        "files": {"files/rc": "a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf"},
        "env": {"SOURCE_DATE_EPOCH": "1767225600"},
        "source": "1" * 64,
        "config": None,
        "libs": {},
    }
    # Whoever changes this makes every user build everything again.
    assert key(project) == "6cfe5803b32bd0dbc906abc14113f9d11f471dc5b44a8dbf982bd167c8266115"


def edit(project: Project, old: str, new: str) -> None:
    file = project.root / "packages/tiny/recipe.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@package.build", "# A comment.\n@package.build"),
        ("def build(", "def compile_it("),
        ("package", "renamed"),
        ("step", "phase"),
        ('"a test"', '"another summary"'),
        ('"MIT"', '"GPL-2.0-only"'),
        (
            "libc=False",
            "libc=False, runtime=('linux',), modes={'bin/tiny': 0o4755}, capabilities={'bin/tiny': ('cap_kill',)}",
        ),
        ("libc=False", "libc=False, options={'fast': Option(default=True, doc='')}"),
        ("sha256=" + '"0', "sha256=" + '"9'),
    ],
)
def test_what_changes_no_result_changes_no_key(project: Project, old: str, new: str) -> None:
    tiny(project)
    before = key(project)
    edit(project, old, new)
    assert key(project) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"V=1"', '"V=2"'),
        ('"true"', '"false"'),
        ("cwd=step.src", "cwd=step.build"),
        ('"LANG": "C"', '"LANG": "D"'),
        ("hello", "hallo"),
        ("mode=0o755", "mode=0o700"),
        ('"tiny", "bin/small"', '"tiny", "bin/smaller"'),
        ("@package.configure", "@package.build"),
        ('version="1"', 'version="2"'),
        ("sha256:1", "sha256:2"),
    ],
)
def test_what_may_change_the_result_changes_the_key(project: Project, old: str, new: str) -> None:
    tiny(project)
    before = key(project)
    edit(project, old, new)
    assert key(project) != before


def test_a_changed_file_changes_the_key(project: Project) -> None:
    tiny(project)
    before = key(project)
    project.file("packages/tiny/files/unused", "")
    assert key(project) == before
    project.file("packages/tiny/files/rc", "#!/bin/false\n")
    assert key(project) != before


def test_another_board_of_the_architecture_has_the_same_key(project: Project) -> None:
    tiny(project)
    project.board(packages=["tiny"], name="other", more='hostname = "other"\n')
    assert of_value(inputs(project.graph("other"))) == key(project)


def test_an_option_counts_where_it_is_read(project: Project) -> None:
    options = "options={'read': Option(default=1, doc=''), 'ignored': Option(default=1, doc='')}"
    phases = "@package.install\ndef install(step, board):\n    step.write('n', str(step.option('read')))\n"
    tiny(project, options, phases=phases)
    keys = []
    for chosen in ("", "ignored = 2", "read = 1", "read = 2"):
        project.board(packages=["tiny"], more=f"[options.tiny]\n{chosen}\n")
        keys.append(key(project))
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_autotools_has_the_usual_phases_and_a_recipe_replaces_one(project: Project) -> None:
    text = (
        'tiny = Autotools(name="tiny", version="1", summary="", license="MIT", libc=False, args=("--disable-nls",))\n'
    )
    replaced = "@tiny.build\ndef build(step, board):\n    step.make('lib')\n"
    project.file("packages/tiny/recipe.py", HEADER + text + replaced)
    assert project.graph().result("tiny").phases == {
        "configure": [
            {
                "run": [
                    "/src/configure",
                    "--build=x86_64-linux-gnu",
                    "--host=x86_64-linux-musl",
                    "--prefix=/usr",
                    "--sysconfdir=/etc",
                    "--localstatedir=/var",
                    "--disable-nls",
                ],
                "cwd": "/build",
                "env": {
                    "CC": "x86_64-linux-musl-gcc",
                    "CFLAGS": "-Os -ffunction-sections -fdata-sections",
                    "LDFLAGS": "-static -s -Wl,--gc-sections",
                    "PKG_CONFIG_LIBDIR": "/sysroot/usr/lib/pkgconfig",
                    "PKG_CONFIG_SYSROOT_DIR": "/sysroot",
                },
            }
        ],
        "build": [{"run": ["make", "lib"], "cwd": "/build", "env": {}}],
        "install": [{"run": ["make", "install", "DESTDIR=/dest"], "cwd": "/build", "env": {}}],
    }


CROSS_FILE = """\
[binaries]
c = 'x86_64-linux-musl-gcc'
ar = 'x86_64-linux-musl-ar'
strip = 'x86_64-linux-musl-strip'
pkgconfig = 'pkg-config'
pkg-config = 'pkg-config'
[built-in options]
c_args = ['-Os', '-ffunction-sections', '-fdata-sections']
c_link_args = ['-static', '-s', '-Wl,--gc-sections']
[properties]
needs_exe_wrapper = true
sys_root = '/sysroot'
pkg_config_libdir = '/sysroot/usr/lib/pkgconfig'
[host_machine]
system = 'linux'
cpu_family = 'x86_64'
cpu = 'x86_64'
endian = 'little'"""


def test_meson_is_told_of_the_board_and_ninja_of_the_jobserver(project: Project) -> None:
    settings = "settings={'docs': False, 'level': 3, 'mode': 'small'}"
    text = f'tiny = Meson(name="tiny", version="1", summary="", license="MIT", libc=False, {settings})\n'
    project.file("packages/tiny/recipe.py", f"from kiln import Meson\n\n{text}")
    stage = project.graph().result("tiny")
    clean, write, setup = (action["run"] for action in stage.phases["configure"])
    assert clean == ["rm", "-rf", "meson-private"]
    assert write == ["sh", "-c", 'printf %s "$1" > cross.ini', "sh", CROSS_FILE]
    assert setup == [
        *("meson", "setup", "--cross-file=cross.ini"),
        *("--prefix=/usr", "--libdir=lib", "--sysconfdir=/etc", "--localstatedir=/var"),
        *("--wrap-mode=nodownload", "-Doptimization=s", "-Ddebug=false", "-Ddefault_library=static"),
        *("-Ddocs=false", "-Dlevel=3", "-Dmode=small"),
        *("/build", "/src"),
    ]
    assert [action["run"] for action in stage.phases["build"]] == [["python3", "/inputs/kiln/ninja.py"]]
    assert [action["run"] for action in stage.phases["install"]] == [
        ["meson", "install", "--no-rebuild", "--destdir=/dest"]
    ]


def test_a_choice_brings_its_libraries(project: Project) -> None:
    option = "Option(default='own', doc='', choices=('own', 'b', 'none'), libs={'own': ('c',), 'b': ('b', 'd')})"
    for name in ("b", "c", "d", "e"):
        project.recipe(name)
    project.recipe("a", "libs=('e',)", f"options={{'crypto': {option}}}")
    chosen = {}
    for value in ("", "crypto = 'b'", "crypto = 'none'"):
        project.board(packages=["a"], more=f"[options.a]\n{value}\n")
        chosen[value] = {lib.package for lib in project.graph().result("a").libs}
    assert chosen == {"": {"c", "e"}, "crypto = 'b'": {"b", "d", "e"}, "crypto = 'none'": {"e"}}


def test_kconfig_is_configured_in_a_stage_of_its_own(project: Project) -> None:
    fields = 'defconfig="tinyconfig", flags=lambda board: ("ARCH=x86",), fragments=("files/own.config",)'
    text = f'tiny = Kconfig(name="tiny", version="1", summary="", license="MIT", libc=False, {fields})\n'
    project.file("packages/tiny/recipe.py", HEADER + text)
    for file in ("packages/tiny/files/own.config", "board/common/tiny/net.config", "board/test/tiny/z.config"):
        project.file(file, "CONFIG_A=y\n")
    project.board(packages=["tiny"], more='[kconfig]\ntiny = ["net"]\n')
    stages = project.graph().stages("tiny")
    fragments = ["/inputs/files/own.config", "/inputs/common/tiny/net.config", "/inputs/test/tiny/z.config"]
    make = ["make", "-C", "/src", "O=/build", "ARCH=x86"]
    assert list(stages) == ["configure", "build"]
    assert [action.get("run") for action in stages["configure"].phases["configure"]] == [
        [*make, "tinyconfig"],
        ["python3", "/inputs/kiln/kconfig.py", "apply", ".config", *fragments],
        ["sh", "-c", 'yes "" | "$@" >/dev/null', "sh", *make, "olddefconfig"],
        ["python3", "/inputs/kiln/kconfig.py", "check", ".config", *fragments],
        None,
    ]
    assert [action["run"] for action in stages["build"].phases["build"]] == [
        ["cp", "-f", "/config/config", ".config"],
        make,
    ]


# Mistakes. A recipe is on line 3 of its file, its phases start on line 6.

MISTAKES = {
    "unknown field": (["sorce=None"], "", "recipe.py:3: there is no field 'sorce'\n  did you mean source"),
    "missing pin": (
        ['source=Git("https://example.org/a", tag="v1")'],
        "",
        "recipe.py:3: .*'commit' and 'content'",
    ),
    "no commit": (
        ['source=Git("https://example.org/a", tag="v1", commit="main", content="sha256:' + "0" * 64 + '")'],
        "",
        "recipe.py:3, .*https://example.org/a.*: commit is 'main', expected 40 hexadecimal digits",
    ),
    "no source": (["source=3"], "", "recipe.py:3, package a, source: expected Git, Archive, .* found 3"),
    "names as a string": (
        ['tools="make"'],
        "",
        r"recipe.py:3, package a, tools: expected a tuple of strings, such as \(\"name\",\), found 'make'",
    ),
    "numbers as names": (["libs=(1,)"], "", "recipe.py:3, package a, libs: expected a tuple"),
    "unknown library": (["libs=('linus',)"], "", "recipe.py, libs: there is no package 'linus'\n  did you mean linux"),
    "unknown tool": (["tools=('x',)"], "", "recipe.py, tools: there is no package 'x'\n  known: a, linux"),
    "unknown runtime": (["runtime=('x',)"], "", "recipe.py, runtime: there is no package 'x'"),
    "unknown shared source": (["source='x'"], "", "recipe.py, source: there is no package 'x'"),
    "unknown library of a choice": (
        ["options={'x': Option(default=True, doc='', libs={True: ('linus',)})}"],
        "",
        "recipe.py, libs: there is no package 'linus'\n  did you mean linux",
    ),
    "a circle by a choice": (
        ["options={'x': Option(default=False, doc='', libs={True: ('a',)})}"],
        "",
        "recipe.py: packages need each other in a circle: a -> a",
    ),
    "libraries of no choice": (
        ["options={'x': Option(default='y', doc='', choices=('y', 'n'), libs={'yes': ('linux',)})}"],
        "",
        "recipe.py:3: 'yes' is not a choice",
    ),
    "a library as a string": (
        ["options={'x': Option(default=True, doc='', libs={True: 'linux'})}"],
        "",
        "recipe.py:3, option, libs of True: expected a tuple of strings, .* found 'linux'",
    ),
    "users as text": (["users=('sshd',)"], "", "recipe.py:3, package a, users: expected a tuple of Users"),
    "a license elsewhere": (
        ["source='linux'", "license_files=('../COPYING',)"],
        "",
        "recipe.py:3, package a, license_files: '../COPYING' is no path inside the source",
    ),
    "a license of no source": (
        ["license_files=('COPYING',)"],
        "",
        "recipe.py:3, package a, license_files: there is no source to take them from",
    ),
    "itself": (["libs=('a',)"], "", "recipe.py: packages need each other in a circle: a -> a"),
    "raises": ([], "\nraise RuntimeError('oops')", "recipe.py:6: RuntimeError: oops"),
    "syntax": ([], "\ndef build(:\n", "recipe.py:6: invalid syntax: def build"),
    "import": ([], "\nimport nonsense", "recipe.py:6: ModuleNotFoundError: No module named 'nonsense'"),
    "two packages": (
        [],
        '\nb = Package(name="b", version="1", summary="", license="MIT")',
        "recipe.py: found the packages: a, b\n  a recipe holds one package, named like its folder: a",
    ),
}


@pytest.mark.parametrize(("fields", "phases", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(project: Project, fields: list[str], phases: str, message: str) -> None:
    project.recipe("a", *fields, phases=phases)
    with pytest.raises(KilnError, match=f"packages/a/{message}"):
        project.graph()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "'A'"}, "recipe.py:2: 'A' is no package name\n  use a-z"),
        ({"name": "'b'"}, "recipe.py: found the packages: b\n"),
        ({"version": "1.0"}, "recipe.py:2, package a, version: expected a string, found 1.0"),
        ({"version": "'1/2'"}, "recipe.py:2, package a, version: '1/2' is no version"),
        ({"summary": "None"}, "recipe.py:2, package a, summary: expected a string, found None"),
        ({"license": "'GPL'"}, "recipe.py:2, package a, license: .*gpl.*\n  see spdx.org/licenses"),
        ({"license": "'MIT AND'"}, "recipe.py:2, package a, license: .*MIT AND"),
    ],
)
def test_a_wrong_value_is_told_with_its_field(project: Project, changes: dict[str, str], message: str) -> None:
    values = {"name": "'a'", "version": "'1'", "summary": "''", "license": "'MIT'"} | changes
    given = ", ".join(f"{name}={value}" for name, value in values.items())
    project.file("packages/a/recipe.py", f"{HEADER}a = Package({given})\n")
    with pytest.raises(KilnError, match=f"packages/a/{message}"):
        project.graph()


def test_settings_of_meson_are_plain_values(project: Project) -> None:
    text = 'a = Meson(name="a", version="1", summary="", license="MIT", settings={"docs": None})\n'
    project.file("packages/a/recipe.py", f"from kiln import Meson\n\n{text}")
    with pytest.raises(KilnError, match="package a, settings: expected true, false, numbers or strings by name"):
        project.graph()


def test_a_recipe_without_a_package(project: Project) -> None:
    project.file("packages/a/recipe.py", "")
    with pytest.raises(KilnError, match=r"packages/a/recipe.py: found the packages: none"):
        project.graph()


def test_packages_that_need_each_other(project: Project) -> None:
    for name, need in (("a", "libs=('b',)"), ("b", "tools=('c',)"), ("c", "libs=('a',)"), ("d", "libs=('a',)")):
        project.recipe(name, need)
    with pytest.raises(KilnError, match="a -> b -> c -> a"):
        project.graph()


def test_a_diamond_is_no_circle(project: Project) -> None:
    for name, need in (("a", ""), ("b", "libs=('a',)"), ("c", "libs=('a',)"), ("d", "libs=('b', 'c'), runtime=('d',)")):
        project.recipe(name, need)
    assert list(project.graph().recipes) == ["a", "b", "c", "d", "linux"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("step.option('fats')", "the recipe reads the option 'fats', which it does not declare\n  did you mean fast"),
        ("step.copy('files/none', 'etc/x')", "there is no file files/none beside the recipe"),
        ("step.write('../x', '')", "'../x' leads out of the result"),
        ("step.symlink('x', 'a/../../x')", "'a/../../x' leads out of the result"),
        ("step.run('tail', '-n', 3)", "a command is made of strings, found 3"),
        ("step.nun('x')", "AttributeError: 'Step' object has no attribute 'nun'"),
    ],
)
def test_a_mistake_in_a_phase_is_told_before_anything_is_built(project: Project, line: str, message: str) -> None:
    options = "options={'fast': Option(default=True, doc='')}"
    project.recipe("a", options, phases=f"@package.build\ndef build(step, board):\n    {line}\n")
    graph = project.graph()
    with pytest.raises(KilnError) as caught:
        graph.stages("a")
    assert str(caught.value).startswith(f"{project.root}/packages/a/recipe.py:7")
    assert message in str(caught.value)


# Values.


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (Option(default=True, doc=""), 1, "expected true or false, found 1"),
        (Option(default=1, doc=""), True, "expected a whole number, found True"),
        (Option(default="a", doc=""), 1, "expected a string, found 1"),
        (Option(default="init", doc="", choices=("init", "shell")), "shel", "'shel' is not a choice\n  .* shell"),
    ],
)
def test_an_option_has_the_type_of_its_default(option: Option, value: object, message: str) -> None:
    assert option.check(option.default) == option.default
    with pytest.raises(KilnError, match=message):
        option.check(value)


def test_a_package_has_the_pins_of_all_its_versions(project: Project) -> None:
    tiny(project, f"versions={{'2': {PIN}}}")
    package = load.load(project.root / "packages")["tiny"].package
    assert list(package.sources) == ["1", "2"]
    assert isinstance(package.sources["2"], Debian)


def test_patches_are_in_the_order_of_their_names(project: Project) -> None:
    tiny(project)
    for name in ("10-b.patch", "02-a.patch", "notes.txt"):
        project.file(f"packages/tiny/patches/{name}", "")
    recipe = load.load(project.root / "packages")["tiny"]
    assert [path.name for path in recipe.patches] == ["02-a.patch", "10-b.patch"]


def test_what_is_recorded_is_what_a_shell_runs(tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("#!/bin/sh\n")
    odd = 'it\'s $HOME "x" \\ %s\n\n'
    step = Step(tmp_path, {})
    step.dest = step.build = str(tmp_path / "out dir")
    (tmp_path / "out dir").mkdir()
    step.write("a b/text", odd, mode=0o600)
    step.symlink("some where", "a b/link")
    step.symlink("else where", "a b/link")
    step.folder("empty dir")
    step.run("sh", "-c", 'printf %s "$ODD$1" > "$2"', "sh", odd, "said", cwd=step.build, env={"ODD": odd})
    step.install("said", "bin/said", mode=0o755)
    process.run(["sh", "-euc", shell(step.actions)])
    out = tmp_path / "out dir"
    assert (out / "a b/text").read_text() == odd
    assert (out / "a b/text").stat().st_mode & 0o777 == 0o600
    assert (out / "a b/link").readlink() == Path("else where")
    assert (out / "empty dir").is_dir()
    assert (out / "bin/said").read_text() == odd + odd
    assert (out / "bin/said").stat().st_mode & 0o777 == 0o755
