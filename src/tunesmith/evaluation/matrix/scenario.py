"""The rows of the measured table: recipes, and the kind of work that each stands for.

The default set holds one recipe of each kind: one with a head before one that writes its answers,
then the first by name. Any other is named by its file's name, the beginning of it, its kind, or its
path.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import Fault, UserError
from tunesmith.recipe.load import LoadedRecipe, load_recipe
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import has_head

# In the order in which they are shown.
KINDS = (
    "domain", "classification", "ner", "qa", "translation", "summarization", "chatbot", "music",
)  # fmt: skip
# What a recipe's task does not say, by the first word of the recipe's name: a chat about one
# subject is there to learn the subject, and music is text in a notation.
BY_NAME = {"gsm8k": "domain", "nottingham": "music"}
ALL = "all"
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A row: `kind` is one of KINDS, or the task of a recipe that stands for none of them."""

    name: str
    kind: str
    path: Path
    own: LoadedRecipe

    @property
    def recipe(self) -> Recipe:
        """The recipe as it is, without any technique."""
        return self.own.recipe


def find_scenarios(
    words: Sequence[str], folder: Path, overrides: Sequence[str] = ()
) -> tuple[Scenario, ...]:
    """Return the scenarios by their words, or one of each kind where there are none.

    Raises:
        UserError: there is no recipe, a word names none, or more than one.
        RecipeError: a recipe that is asked for has faults, or an override does not fit it.
    """
    files = _recipes(folder)
    if not words:
        first = _first_of_each_kind(files)
        chosen = [first[kind] for kind in KINDS if kind in first]
    elif list(words) == [ALL]:
        chosen = files
    else:
        chosen = _named(words, files)
    if not chosen:
        fix = "name the folder with --recipes, or a recipe with --scenarios my-recipe.yaml"
        raise UserError(Fault(found="no recipe of any scenario", where=str(folder), fix=fix))
    return tuple(_load(path, overrides) for path in chosen)


def kind_of(name: str, recipe: Recipe) -> str:
    """Return the kind of work that a recipe stands for."""
    named = BY_NAME.get(name.split("-")[0])
    if named is not None:
        return named
    match recipe.task.type:
        case "chat":
            return "chatbot"
        case "completion":
            return "music" if Path(recipe.data.train).suffix == ".abc" else "domain"
        case task:
            return task


def place_of(kind: str) -> int:
    """Return where a kind stands in the order of the table's rows; others come last."""
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _recipes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def _load(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    own = load_recipe(path, overrides)
    return Scenario(name=path.stem, kind=kind_of(path.stem, own.recipe), path=path, own=own)


def _first_of_each_kind(files: Sequence[Path]) -> dict[str, Path]:
    scenarios = [_load(path) for path in files]
    scenarios.sort(key=lambda one: not has_head(one.recipe.task))  # stable: by name within
    return {one.kind: one.path for one in reversed(scenarios)}


def _named(words: Sequence[str], files: Sequence[Path]) -> list[Path]:
    """Return the files of the words, each once; two of one name would share a row."""
    named: dict[Path, Path] = {}
    faults: list[Fault] = []
    for word in words:
        found = _by_word(word, files)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            named.setdefault(found.resolve(), found)
    names = Counter(path.stem for path in named.values())
    for name in (name for name, count in names.items() if count > 1):
        paths = " and ".join(str(path) for path in named.values() if path.stem == name)
        found = f"two recipes of the name {name}: {paths}"
        faults.append(Fault(found=found, where="--scenarios", fix="rename one of them"))
    if faults:
        raise UserError(faults, code="invalid_command")
    return list(named.values())


def _by_word(word: str, files: Sequence[Path]) -> Path | Fault:
    path = Path(word).expanduser()
    if path.suffix in SUFFIXES or path.is_file():
        return path
    if word in KINDS:
        fix = "name a recipe by its path: --scenarios my-recipe.yaml"
        nothing = Fault(found=f"no recipe of {word}", where="--scenarios", fix=fix)
        return _first_of_each_kind(files).get(word, nothing)
    for matches in (
        [file for file in files if file.stem == word],
        [file for file in files if file.stem.startswith(f"{word}-")],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(file.stem for file in matches)
            found = f"{word} is the beginning of {len(matches)} recipes: {names}"
            return Fault(found=found, where="--scenarios", fix="name one, or each of them")
    return _unknown(word, files)


def _unknown(word: str, files: Sequence[Path]) -> Fault:
    names = [*KINDS, *(file.stem for file in files)]
    near = difflib.get_close_matches(word, names, n=1)
    fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(names)}, or a recipe's path"
    return Fault(found=f"unknown scenario {word!r}", where="--scenarios", fix=fix)
