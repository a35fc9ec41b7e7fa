"""The registry: one decorator, looked up lazily, by any name in any case; errors say what there is."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import funasr
from funasr.register import RegistryError, tables


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_and_print_need_no_torch() -> None:
    program = "import sys, funasr; from funasr.register import tables; text = tables.format('encoder'); "
    assert run(program + "print('torch' in sys.modules, 'SANMEncoder' in text)") == "False True"


def test_a_look_up_imports_only_the_module_of_the_class() -> None:
    program = (
        "import sys; from funasr.register import tables; tables.encoder_classes['sanm']; "
        "print('funasr.models.sanm.encoder' in sys.modules, 'funasr.models.conformer.encoder' in sys.modules)"
    )
    assert run(program) == "True False"


@pytest.mark.parametrize("name", ["SANMEncoder", "sanm", "SANM", "sanmencoder"])
def test_names_are_one_class(name: str) -> None:
    assert tables.encoder_classes[name].__name__ == "SANMEncoder"


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(RegistryError, match="Did you mean ConformerEncoder"):
        tables.encoder_classes["ConformrEncoder"]


def test_duplicates_need_override(tmp_path: Path) -> None:
    file = tmp_path / "again.py"
    file.write_text(
        "from funasr.register import tables\n@tables.register('encoder_classes', 'sanm')\nclass Again: pass\n"
    )
    with pytest.raises(RegistryError, match=r"already registered by funasr\.models\.sanm"):
        tables.load_file(file)


def test_an_import_error_is_its_own_message(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import a_package_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_nobody_has"):
        tables.load_file(file)


def test_the_scan_finds_what_importing_registers() -> None:
    root = Path(funasr.__file__).parent
    for path in root.rglob("*.py"):
        if "@tables.register(" in path.read_text(encoding="utf-8") and path.name != "register.py":
            importlib.import_module(".".join(["funasr", *path.relative_to(root).with_suffix("").parts]))
    tables.discover()
    for group in ("model", "encoder", "decoder", "frontend", "predictor", "tokenizer", "specaug", "normalize"):
        entries = getattr(tables, f"{group}_classes").entries()
        assert entries
        assert all(entry.value is not None for entry in entries), group
