"""Names for services without one. PURE: derived from the new id, not random."""

from collections.abc import Container
from itertools import count

from pyswarm_core.ids import ID_ALPHABET

ADJECTIVES = (
    "agile amber ample bold brave breezy bright brisk calm candid clever cosy crisp curious "
    "daring deft eager earnest fair fleet frank fresh gentle glad golden happy hardy honest "
    "humble jolly keen kind lively loyal lucid lucky mellow merry mighty modest neat nimble "
    "noble patient placid plucky polite proud quick quiet rapid ready robust serene sharp "
    "silver sincere smooth snug solid spry steady sunny swift tidy tranquil upbeat valiant "
    "vivid warm wise witty zesty"
).split()
SURNAMES = (
    "abel archimedes babbage banach banneker bell bohr boole borg carson cerf chandrasekhar "
    "curie darwin dijkstra einstein elion engelbart euclid euler faraday fermat fermi feynman "
    "franklin galois gauss germain goldberg goldwasser goodall hamilton hawking heisenberg "
    "herschel hertz hodgkin hopper hypatia jang joliot kalam kepler kilby knuth lamarr "
    "lamport leakey liskov lovelace maxwell mayer mccarthy meitner mendel mirzakhani moser "
    "newton nightingale noether pasteur perlman ramanujan ride ritchie rubin sagan shannon "
    "tesla thompson turing volhard wiles wilson wright yalow yonath"
).split()


def random_name(identifier: str, taken: Container[str]) -> str:
    """`swift_hopper`, or `swift_hopper2` if that is taken."""
    number = 0
    for letter in identifier:
        number = number * len(ID_ALPHABET) + ID_ALPHABET.index(letter)
    number, surname = divmod(number, len(SURNAMES))
    name = f"{ADJECTIVES[number % len(ADJECTIVES)]}_{SURNAMES[surname]}"
    if name not in taken:
        return name
    return next(other for n in count(1) if (other := f"{name}{n}") not in taken)
