from pathlib import Path

import pytest

from kiln.source.terms import expression, files, texts

MIT = """\
Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files (the "Software"), to deal
"""
BSD2 = "Redistributions of source code must retain the above\n2. Redistributions in binary form must reproduce\n"
GPL = "\t\t    GNU GENERAL PUBLIC LICENSE\n\t\t       Version 2, June 1991\n"
LATER = "/* under the GNU General Public License; version 2, or (at your option)\n * any later version */\n"
ONLY = "/* under the terms of the GNU General Public License version 2 */\n"


def tree(root: Path, **names: str) -> Path:
    for name, text in names.items():
        file = root / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return root


def test_licence_files_are_found_by_name(tmp_path: Path) -> None:
    tree(tmp_path, COPYING="", LICENSE_md="", license_c="", main_c="", sub__COPYING="")
    (tmp_path / "LICENSES").mkdir()
    assert files(tmp_path) == ("COPYING", "LICENSE.md", "license.c")


def test_a_folder_of_licences_does_where_there_is_no_file(tmp_path: Path) -> None:
    tree(tmp_path, LICENSES__MIT_txt="", main_c="")
    assert files(tmp_path) == ("LICENSES/MIT.txt",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"COPYING": MIT}, "MIT"),
        ({"COPYING": BSD2}, "BSD-2-Clause"),
        ({"COPYING": BSD2 + "to endorse or promote products"}, "BSD-3-Clause"),
        ({"COPYING": BSD2 + "endorse or promote; all advertising materials mentioning"}, None),
        ({"COPYING": MIT + BSD2}, None),
        ({"COPYING": MIT, "LICENSE": MIT}, None),
        ({"COPYING": "do as you please"}, None),
        ({"COPYING": GPL, "a_c": LATER, "b_c": "int b;\n"}, "GPL-2.0-or-later"),
        ({"COPYING": GPL, "a_c": LATER, "b_c": ONLY}, None),
        ({"COPYING": GPL, "a_c": ONLY}, None),
        ({"COPYING": GPL, "a_c": "// SPDX-License-Identifier: GPL-2.0-or-later\n"}, "GPL-2.0-or-later"),
        ({"COPYING": GPL}, None),
    ],
)
def test_only_what_is_unmistakable_is_said(tmp_path: Path, names: dict[str, str], expected: str | None) -> None:
    root = tree(tmp_path, **names)
    assert expression(root, files(root)) == expected


def test_the_texts_that_are_there_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path, COPYING=GPL, LICENSE=MIT)
    assert texts(root, files(root)) == ["GPL-2.0", "MIT"]
