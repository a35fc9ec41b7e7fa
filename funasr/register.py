"""The registry: every component is registered once, by class name, where it is defined.

    @tables.register("encoder_classes", "SANMEncoder", aliases=("sanm",))
    class SANMEncoder(nn.Module): ...

    tables.encoder_classes["sanm"]        # imports only the module that holds the class
    tables.print("encoder")               # lists everything, imports nothing

The decorator is the only list there is.  To know which module holds a name without importing all of them, the
package's own source files are read once (as text, with `ast`) for such decorators, at the first look-up.
Names are case-insensitive; `encoder: SANMEncoder`, `--encoder sanm` and `encoder: SANM` are the same class.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)

PACKAGE_DIR = Path(__file__).resolve().parent

GROUPS = (
    "model_classes",
    "frontend_classes",
    "specaug_classes",
    "normalize_classes",
    "encoder_classes",
    "decoder_classes",
    "predictor_classes",
    "tokenizer_classes",
    "dataset_classes",
    "preprocessor_classes",
    "joint_network_classes",
    "adaptor_classes",
)


class RegistryError(LookupError):
    """An unknown name, a duplicate name or a name whose module cannot be imported."""


@dataclass
class Entry:
    """One registered class: its canonical key, aliases, and either the class itself or where to import it from."""

    key: str
    aliases: tuple[str, ...]
    module: str
    value: type | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.key, *self.aliases)


def nearest_names(name: str, names: list[str], count: int = 3) -> list[str]:
    """The `count` members of `names` that look most like `name`, ignoring case, best first."""
    by_lower: dict[str, str] = {}
    for known in names:
        by_lower.setdefault(known.lower(), known)
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=count, cutoff=0.5)
    return [by_lower[match] for match in found]


class Table(Mapping[str, type]):
    """One group of components, e.g. all encoders: a mapping from name (any case, any alias) to class."""

    def __init__(self, group: str, registry: RegisterTables) -> None:
        self.group = group
        self._registry = registry
        self._entries: dict[str, Entry] = {}

    @property
    def kind(self) -> str:
        """Name of one member for messages: "encoder" for encoder_classes."""
        return self.group.removesuffix("_classes")

    def entry(self, name: str) -> Entry:
        """The entry registered under `name`; RegistryError names the nearest ones if there is none."""
        self._registry.discover()
        found = self._entries.get(str(name).lower())
        if found is not None:
            return found
        near = nearest_names(str(name), [n for e in self.entries() for n in e.names])
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        known = ", ".join(sorted(e.key for e in self.entries())) or "none"
        raise RegistryError(f"Unknown {self.kind} '{name}'.{hint} Registered: {known}.")

    def entries(self) -> list[Entry]:
        """All entries, each once, in order of registration."""
        self._registry.discover()
        return list({id(e): e for e in self._entries.values()}.values())

    def __getitem__(self, name: str) -> type:
        entry = self.entry(name)
        if entry.value is None:
            importlib.import_module(entry.module)  # its own ImportError is the clearest message there is
        if entry.value is None:
            raise RegistryError(f"{entry.module} was imported but did not register {self.kind} '{entry.key}'.")
        return entry.value

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        self._registry.discover()
        return str(name).lower() in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter([entry.key for entry in self.entries()])

    def __len__(self) -> int:
        return len(self.entries())

    def _add(self, entry: Entry, override: bool) -> None:
        for name in entry.names:
            old = self._entries.get(name.lower())
            if old is not None and old.key == entry.key and old.module == entry.module:
                continue  # found by the scan before, or the module was reloaded
            if old is not None and not override:
                raise RegistryError(
                    f"{self.kind} '{name}' of {entry.module} is already registered by {old.module}. "
                    "Choose another name or pass override=True."
                )
        known = self._entries.get(entry.key.lower())
        if known is not None and known.module == entry.module and known.key == entry.key:
            known.value = entry.value or known.value
            entry = known
        for name in entry.names:
            self._entries[name.lower()] = entry


class RegisterTables:
    """All tables, as attributes: `tables.encoder_classes`, `tables.model_classes`, ..."""

    def __init__(self) -> None:
        self._tables = {group: Table(group, self) for group in GROUPS}
        self._discovered = False

    def __getattr__(self, group: str) -> Table:
        if group.startswith("_"):
            raise AttributeError(group)
        try:
            return self._tables[group]
        except KeyError:
            raise AttributeError(f"No table '{group}'. Tables: {', '.join(self._tables)}.") from None

    def all(self) -> list[Table]:
        """Every table."""
        return list(self._tables.values())

    def register(
        self, group: str, key: str | None = None, *, aliases: tuple[str, ...] = (), override: bool = False
    ) -> Callable[[Class], Class]:
        """Class decorator: enter the class in table `group` under `key` (default: its name) and `aliases`.

        Stack it to give one class several canonical keys. A group that does not exist yet is created, so that a
        user's file can bring a new kind of part. Raises RegistryError on a duplicate name unless `override`.
        """

        def decorate(cls: Class) -> Class:
            self.discover()
            table = self._tables.setdefault(group, Table(group, self))
            table._add(Entry(key or cls.__name__, aliases, cls.__module__, cls), override)
            return cls

        return decorate

    def discover(self) -> None:
        """Read the package's sources once for registrations; nothing is imported."""
        if self._discovered:
            return
        self._discovered = True
        for path in sorted(PACKAGE_DIR.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "@tables.register(" in source:
                module = ".".join(["funasr", *path.relative_to(PACKAGE_DIR).with_suffix("").parts])
                for group, entry in _registrations(ast.parse(source), module):
                    self._tables.setdefault(group, Table(group, self))._add(entry, override=False)

    def load_file(self, path: str | Path) -> None:
        """Import a user's Python file (`--user_modules my.py`) so that what it registers can be named.

        Not again if it is imported already: as the program itself, or as a copy under another name.
        """
        path = Path(os.path.abspath(path))  # a link keeps its name: what it leads to in a hub's cache has none
        if not path.is_file():
            raise FileNotFoundError(f"user module {path} does not exist")
        name = f"funasr_user_{path.stem}"
        loaded = sys.modules.get(name)
        if loaded is not None and getattr(loaded, "__file__", None) == str(path):
            return
        if loaded is None and path.read_bytes() in map(Path.read_bytes, self._user_files()):
            return
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"user module {path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise

    def _user_files(self) -> set[Path]:
        """Files outside of the package that have registered classes, the program itself among them."""
        modules = {entry.module for table in self._tables.values() for entry in table.entries()}
        outside = [sys.modules.get(name) for name in modules if not name.startswith("funasr.")]
        files = {Path(getattr(module, "__file__", None) or "") for module in outside}
        return {file for file in files if file.is_file()}

    def format(self, group: str | None = None) -> str:
        """The tables as text, one line per class: key, aliases, module."""
        self.discover()
        lines = []
        for name, table in self._tables.items():
            if group is None or group in name:
                lines.append(f"{name}:")
                for entry in sorted(table.entries(), key=lambda e: e.key):
                    also = f" ({', '.join(entry.aliases)})" if entry.aliases else ""
                    lines.append(f"  {entry.key}{also}: {entry.module}")
        return "\n".join(lines)

    def print(self, group: str | None = None) -> None:
        """Print all tables, or those whose name contains `group` ("model", "encoder")."""
        sys.stdout.write(self.format(group) + "\n")


def _registrations(tree: ast.Module, module: str) -> Iterator[tuple[str, Entry]]:
    """(group, entry) for each `@tables.register(...)` with literal arguments on a class of this module."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "tables.register":
                args = [ast.literal_eval(arg) for arg in call.args]
                keywords = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
                key = args[1] if len(args) > 1 else keywords.get("key") or node.name
                yield args[0], Entry(key, tuple(keywords.get("aliases", ())), module)


tables = RegisterTables()
