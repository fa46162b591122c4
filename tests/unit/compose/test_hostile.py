"""Files that would cost seconds or gigabytes, or confuse: each is refused in a moment."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from compose import limits
from compose.files import Disk
from compose.model import load
from compose.projects import Request
from compose.report import Refused
from tests.fixtures.composing import loaded, model, service


def refusal(files: Mapping[str, str | bytes] | str, /, **given: object) -> str:
    with pytest.raises(Refused) as caught:
        loaded(files, **given)
    return str(caught.value)


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["x-a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-a{n + 1}: &a{n + 1} [{', '.join(10 * [f'*a{n}'])}]" for n in range(9)]
    text = refusal("\n".join(lines) + "\nservices: {a: {image: x}}\n")
    assert "compose.yaml:" in text
    assert "more than 100,000 keys and values, with what aliases repeat" in text


def test_merge_keys_that_multiply_are_refused() -> None:
    rows = [f"  k{n}: {{{', '.join(f'e{m}: 1' for m in range(300))}}}" for n in range(100)]
    lines = ["x-a: &a", *rows]
    lines += [f"x-b{n}: {{<<: *a}}" for n in range(5)]
    assert "more than 100,000" in refusal("\n".join(lines) + "\n")


def test_a_file_has_so_many_keys_and_values() -> None:
    assert limits.VALUES_MAX == 100_000
    rows = "".join("- x\n" for _ in range(100_001))
    assert "more than 100,000 keys and values" in refusal("x-a:\n" + rows)


def test_a_long_file_is_not_read() -> None:
    assert limits.FILE_BYTES_MAX == 4 << 20
    text = b"# " + b"x" * (4 << 20)
    assert "longer than 4 MiB" in refusal({"compose.yaml": text})


def test_of_a_long_file_on_disk_only_the_first_part_is_read(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    assert len(Disk().read(str(path))) == (4 << 20) + 1
    with pytest.raises(Refused, match=r"compose\.yaml: the file is longer than 4 MiB"):
        load(Request(directory=str(tmp_path)), Disk())


def test_a_fifo_and_a_directory_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "compose.yaml")
    with pytest.raises(Refused, match="the file is empty"):
        load(Request(directory=str(tmp_path)), Disk())
    with pytest.raises(Refused, match="is a directory"):
        load(Request(directory="/", files=(str(tmp_path),)), Disk())


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_file_is_so_deep(opening: str) -> None:
    assert limits.DEPTH_MAX == 64
    assert "more than 64 maps and lists within each other" in refusal("x-a: \n " + opening * 65)
    assert refusal("x-a: \n " + opening * 5_000)


def test_aliases_make_a_file_no_deeper() -> None:
    rows = ["x-a0: &a0 [x]", *(f"x-a{n + 1}: &a{n + 1} [*a{n}]" for n in range(400))]
    assert "more than 64 maps and lists within each other" in refusal("\n".join(rows) + "\n")
    assert model("\n".join(rows[:60]) + "\n")["x-a0"] == ["x"]


def test_a_value_may_not_contain_itself() -> None:
    assert "the anchor of *a stands within itself" in refusal("x-a: &a [*a]\n")


@pytest.mark.parametrize("depth", [33, 100_000])
def test_defaults_within_defaults_are_so_deep(depth: int) -> None:
    assert limits.TEMPLATE_DEPTH_MAX == 32
    value = "${A:-" * depth + "}" * depth
    assert "more than 32 variables within each other" in refusal(f'x-a: "{value}"\n')
    allowed = "${A:-" * 32 + "x" + "}" * 32
    assert model(f'x-a: "{allowed}"\n')["x-a"] == "x"


def test_a_value_does_not_grow_without_bound() -> None:
    assert limits.VALUE_LENGTH_MAX == 1 << 20
    rows = ["B0=xxxxxxxxxx", *(f"B{n + 1}=${{B{n}}}${{B{n}}}" for n in range(40))]
    text = refusal({"compose.yaml": 'x-a: "$B40"\n', ".env": "\n".join(rows)})
    assert ".env:" in text
    assert "longer than 1,048,576 characters" in text


def test_a_chain_of_services_that_extend_is_so_long() -> None:
    assert limits.CHAIN_MAX == 100
    rows = [f"  s{n}: {{extends: s{n + 1}}}" for n in range(102)]
    text = "services:\n" + "\n".join([*rows, "  s102: {image: x}"]) + "\n"
    assert "more than 100 services in a chain" in refusal(text)
    ends = "services:\n" + "\n".join([*rows[5:], "  s102: {image: x}"]) + "\n"
    assert model(ends)["services"]["s5"]["image"] == "x"


def test_a_chain_of_includes_is_so_long() -> None:
    files: dict[str, str | bytes] = {
        f"{n}.yaml": f"include: [{n + 1}.yaml]\nservices: {{}}\n" for n in range(102)
    }
    files["102.yaml"] = "services: {a: {image: x}}\n"
    assert "more than 100 files in a chain" in refusal(files, files=("0.yaml",))


def test_a_project_reads_so_many_files() -> None:
    assert limits.FILES_MAX == 500
    files: dict[str, str | bytes] = {
        f"{n}.yaml": f"include: [{n + 1}.yaml, ./{n + 1}.yaml]\n" for n in range(20)
    }
    files["20.yaml"] = "services: {a: {image: x, env_file: [e, e]}}\n"
    assert "reads at most 500 files" in refusal(files, files=("0.yaml",))
    envs = ", ".join(f"e{n}" for n in range(500))
    files = {f"e{n}": "A=1\n" for n in range(500)}
    files["compose.yaml"] = f"services: {{a: {{image: x, env_file: [{envs}]}}}}\n"
    assert "reads at most 500 files" in refusal(files)


def test_files_that_include_each_other_are_named() -> None:
    files: dict[str, str | bytes] = {
        "compose.yaml": "include: [b/b.yaml]\n",
        "b/b.yaml": "include: [../c.yaml]\n",
        "c.yaml": "include: [compose.yaml]\n",
    }
    assert "compose.yaml → b/b.yaml → c.yaml → compose.yaml" in refusal(files)


def test_services_that_extend_each_other_across_files_are_named() -> None:
    files: dict[str, str | bytes] = {
        "compose.yaml": "services: {a: {extends: {file: b.yaml, service: b}}}\n",
        "b.yaml": "services: {b: {extends: {file: compose.yaml, service: a}}}\n",
    }
    assert "services extend each other: a → b → a" in refusal(files)


def test_a_project_has_so_many_ports() -> None:
    assert limits.PORTS_MAX == 65_535
    assert len(service('ports: ["1-65535:1-65535"]')["ports"]) == 65_535
    with pytest.raises(Refused, match="more than 65,535 ports in all"):
        service('ports: ["1-65535:1-65535", "1-65535"]')
    with pytest.raises(Refused, match="more than 65,535 ports in all"):
        loaded("services: {a: {image: x, ports: [1-40000]}, b: {image: x, ports: [1-40000]}}\n")


def test_so_many_faults_are_reported_at_once() -> None:
    assert limits.FAULTS_SHOWN == 50
    rows = "".join(f"  s{n}: {{imagee: x}}\n" for n in range(60))
    with pytest.raises(Refused) as caught:
        loaded(f"services:\n{rows}")
    assert len(caught.value.faults) == 50


def test_tabs_are_named() -> None:
    assert refusal("services:\n\ta: {image: x}\n") == (
        "compose.yaml:2:1: a tab indents this line: YAML indents with spaces"
    )


def test_a_byte_order_mark_and_carriage_returns_change_nothing() -> None:
    text = "services:\n  a:\n    image: x\n    labels:\n      b: |\n        c\n        d\n"
    found = model({"compose.yaml": b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()})
    assert found["services"]["a"]["labels"] == {"b": "c\nd\n"}


def test_carriage_returns_of_env_files_are_no_part_of_values() -> None:
    found = model(
        {
            "compose.yaml": "services: {a: {image: x, env_file: e}}\n",
            "e": b"\xef\xbb\xbfA=1\r\nB=\"2\"\r\nC='3'\r\nD=4 # no\r\n",
        }
    )
    assert found["services"]["a"]["environment"] == {"A": "1", "B": "2", "C": "3", "D": "4"}


def test_other_encodings_are_refused_with_their_place() -> None:
    text = refusal({"compose.yaml": b"name: a\nx-a: \xff\n"})
    assert text == "compose.yaml:2:6: expected text in UTF-8"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n...\n", "null\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert "the file is empty: expected the key services" in refusal(text)


@pytest.mark.parametrize("text", ["x-a: \x00\n", "x-a: \x1b[31m\n", "x-a: !!python/none\n"])
def test_what_is_no_yaml_is_refused(text: str) -> None:
    assert refusal(text).startswith("compose.yaml")
