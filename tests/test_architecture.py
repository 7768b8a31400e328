"""The house keeps its shape: arrows between rooms, imports, the order of reading, words on everything."""

import ast
import importlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import minidsv3

PACKAGE = Path(minidsv3.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# room -> rooms it may import, beside those that these may import; the package itself loads its names lazily
MAY_IMPORT: dict[str, list[str]] = {
    "config": [],
    "hardware": ["config"],
    "numerics": ["hardware"],
    "machine": ["numerics", "hardware"],
    "tokenizer": [],
    "corpus": ["tokenizer"],
    "checkpoint": ["config", "numerics"],
    "model": ["config", "machine", "checkpoint"],
    "inference": ["model"],
    "training": ["model", "corpus", "checkpoint"],
    "interpreter": ["inference", "training"],
    "cost": ["machine", "hardware", "config"],
    "cluster": ["hardware", "cost", "model", "training"],
    "show": ["interpreter", "cost", "cluster"],
    "learn": ["show"],
    "cli": ["learn"],
    "__main__": ["cli"],
}
ELSEWHERE = {"numpy": None, "scipy": None, "rich": {"show", "cli"}, "hypothesis": {"learn"}}


def name_of(path: Path) -> str:
    """Dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@lru_cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[str]:
    """Every module a file imports, at its top, in a function, or for types alone; relative ones resolved."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module == "minidsv3":  # from minidsv3 import room
                yield from (f"minidsv3.{alias.name}" for alias in node.names)


def allowed(room: str) -> set[str]:
    return {room}.union(*(allowed(other) for other in MAY_IMPORT[room]))


def test_every_room_is_known() -> None:
    assert {room_of(name_of(path)) for path in FILES} <= {*MAY_IMPORT, ""}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_upward_only(path: Path) -> None:
    room = room_of(name_of(path))
    if room == "":
        return
    for module in imports_of(path):
        if module.startswith("minidsv3"):
            target = room_of(module)
            target = minidsv3._HOMES.get(target, target)  # a name that the package hands out, such as Model
            if target in ("", "__version__"):
                continue
            assert target in allowed(room), f"{name_of(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_else_is_imported(path: Path) -> None:
    room = room_of(name_of(path))
    for module in imports_of(path):
        top = module.split(".")[0]
        if top in ELSEWHERE:
            rooms = ELSEWHERE[top]
            assert rooms is None or room in rooms, f"{name_of(path)} imports {module}"
        else:
            assert top == "minidsv3" or top in sys.stdlib_module_names, f"{name_of(path)} imports {module}"


# ---- the book ---------------------------------------------------------------------------------------------


@lru_cache
def pages() -> dict[str, str]:
    """Module -> the module that its docstring names as the next; "" where it names none."""
    found = {}
    for path in FILES:
        last = (ast.get_docstring(tree_of(path)) or "").strip().splitlines()[-1:]
        says = bool(last) and last[0].startswith("Next: ")
        found[name_of(path)] = last[0].removeprefix("Next: ").strip() if says else ""
    return found


def test_the_book_is_one_chain() -> None:
    """From the package through every module, each once; the last page names none or stands in `__main__`."""
    links, read, page = pages(), [], "minidsv3"
    while page and page not in read:
        assert page in links, f"{read[-1]} names {page}, which does not exist"
        read.append(page)
        page = links[page]
    assert not page, f"{read[-1]} leads back to {page}"
    missing = sorted(set(links) - set(read) - {"minidsv3.__main__"})
    assert not missing, f"the chain ends at {read[-1]} and never reaches {missing}"
    rooms = list(dict.fromkeys(room_of(module) for module in read))
    assert rooms == ["", *(room for room in MAY_IMPORT if room != "__main__")], (
        "rooms are read in their order"
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(tree_of(path))
    assert text, f"{name_of(path)} has no docstring"
    if path.name != "__main__.py":
        lines = len(text.splitlines())
        assert 7 <= lines <= 26, f"{name_of(path)}: {lines} lines"


def public_definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    child
                    for child in node.body
                    if isinstance(child, ast.FunctionDef) and not child.name.startswith("_")
                )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_public_name_is_documented(path: Path) -> None:
    for node in public_definitions(tree_of(path)):
        assert ast.get_docstring(node), f"{name_of(path)}: {node.name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_and_the_player_print(path: Path) -> None:
    if room_of(name_of(path)) in ("cli", "learn"):
        return
    for node in ast.walk(tree_of(path)):
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        assert not (called and node.func.id == "print"), f"{name_of(path)}, line {node.lineno}"  # type: ignore


# numbers of a chip or of a published model that may stand in data files alone
TELLING = {989, 1979, 3.35e12, 7168, 129280, 671e9, 18432, 163840}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_numbers_of_chips_and_models_stand_in_data(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            assert node.value not in TELLING, f"{name_of(path)}, line {node.lineno}: {node.value}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_have_no_vague_names(path: Path) -> None:
    assert path.stem not in ("utils", "helpers", "manager", "common", "misc")


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__main__.py"], ids=name_of)
def test_what_all_lists_exists(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), name


def test_the_package_loads_quickly_because_it_loads_nothing() -> None:
    import subprocess

    code = "import minidsv3, sys; print(sorted({'numpy', 'rich', 'hypothesis', 'scipy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
