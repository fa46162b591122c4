"""Samples with random changes load, or are refused at a line; nothing else happens."""

import random
from pathlib import Path

import pytest

from compose.dump import as_yaml
from compose.report import Refused
from pyswarm_core.errors import InvalidArgument
from tests.fixtures.composing import SAMPLES, loaded

TEXTS = [path.read_text(encoding="utf-8") for path in sorted(Path(SAMPLES).glob("*/*.yaml"))]
WORDS = [
    *"\t \ufeff \r \0 \x07 \u2028 \u0085 ${ } $ ${A:?} ' \" [ ] { } , # % @ ` ~ null".split(" "),
    *"yes off 0777 0o7 0x 1e999 .inf 1:20:30 2024-02-30 99999999999999999999999999 = é 😀".split(
        " "
    ),
    *"&a |*a |<<: |!reset |!override |!!int |!x |? |: |- |a: &x [*x]|x-|1_000|-0".split("|"),
    *("\n---\n", "\n...\n", "\n\n", "services", "\\ud800", "\\0"),
]
NO_LINE = ("the file is empty", "No such file", "no such file", "there is no file")


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(5):
            case 0 | 1:
                text = text[:at] + chance.choice(WORDS) + text[at:]
            case 2:
                text = text[:at] + text[at + chance.choice((1, 2, 9)) :]
            case 3:
                text = text[:at]
            case _:
                other = chance.choice(TEXTS)
                text = text[:at] + other[chance.randrange(len(other)) :]
    return text


@pytest.mark.parametrize("seed", range(20))
def test_a_changed_sample_loads_or_is_refused_at_a_line(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10):
        text = mutated(chance.choice(TEXTS), chance)
        try:
            found = loaded(text)
        except Refused as error:
            for fault in error.faults:
                assert fault.place is not None, text
                assert fault.place.line or any(one in fault.text for one in NO_LINE), str(fault)
        except InvalidArgument:
            continue  # a flag or the name of the project
        else:
            again = loaded(as_yaml(found.model), profiles=("*",))
            assert repr(again.model) == repr(found.model) or again.model == found.model


@pytest.mark.parametrize(
    ("sign", "name"), [("\0", "U+0000"), ("\x07", "U+0007"), ("\x7f", "U+007F")]
)
def test_a_character_that_yaml_forbids_is_told_with_its_place(sign: str, name: str) -> None:
    with pytest.raises(Refused) as caught:
        loaded(f"services:\n  a: {{image: 'x{sign}'}}\n")
    told = f"compose.yaml:2:16: not YAML: the character {name} may not be in a file"
    assert str(caught.value) == told
