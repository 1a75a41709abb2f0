"""docs/field.md says what the code's tables say, and since when."""

import field_table


def test_the_page_is_what_the_code_says() -> None:
    page = field_table.TARGET.read_text()
    assert page == field_table.table(page), "run make docs"
    assert "| `rgb8` |" in page
    assert "| `command_output: follow_joint_trajectory` |" in page


def test_a_row_keeps_its_version_and_a_new_one_gets_the_package_version() -> None:
    page = field_table.TARGET.read_text()
    encodings = field_table.SECTIONS[-1][0]
    before = "\n".join(line for line in page.splitlines() if not line.startswith("| `nv12` |"))
    before = before.replace(
        "| `rgb8` | yes |  | 3 x 8 bits, rgb | 0.1.0 |", "| `rgb8` | yes |  | other words | 0.0.7 |"
    )
    made = field_table.since(field_table.table(before))
    assert made[encodings, "`rgb8`"] == "0.0.7"
    assert made[encodings, "`nv12`"] == made[encodings, "`nv21`"]
