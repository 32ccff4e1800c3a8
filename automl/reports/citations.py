"""Whom to cite for a recipe: the sources that its methods' files name.

A header ends with "Source: Foret et al. 2020, arXiv:2010.01412; ...". Each part that names people
and a year, or an arXiv number alone, is a reference; the rest (a class of torch's, a remark) is no
paper and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from automl.recipe import Recipe
from automl.registry import FAMILIES, Family
from automl.reports.papers import PAPERS

_PART = re.compile(r"(?:.*: |.* in )?(?P<who>[A-Z].*?) (?P<year>\d{4})(?:, (?P<where>.*))?$")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DOI = re.compile(r"doi:(\S+)")


@dataclass(frozen=True)
class Reference:
    """One paper or page, as the method's file names it."""

    who: str  # "" where the file gives a number alone
    year: int
    where: str

    @property
    def key(self) -> str:
        """Key in a bibliography: foret2020."""
        first = self.who.split()[0].lower() if self.who else "arxiv"
        return re.sub(r"\W", "", first) + str(self.year)

    @property
    def number(self) -> str:
        """What tells it from others: its arXiv number or DOI, else all that is known."""
        found = _ARXIV.search(self.where) or _DOI.search(self.where)
        return found[0] if found else self.plain()

    def plain(self) -> str:
        named = f"{self.who} {self.year}" if self.who else ""
        return ", ".join(part for part in (named, self.where) if part)

    def bibtex(self, key: str, note: str) -> str:
        """An entry; its title and full names are `papers.py`'s, where it has them."""
        authors = re.sub(r" et al\.$", " and others", self.who).replace(", ", " and ")
        known = PAPERS.get(self.number) or PAPERS.get(self.where)
        authors = known[0] if known else authors
        fields = {"author": authors} if authors else {}
        if known:
            fields["title"] = f"{{{known[1]}}}"  # a second brace keeps capitals
        fields["year"] = str(self.year)
        if found := _ARXIV.search(self.where):
            fields |= {"eprint": found[1], "archivePrefix": "arXiv"}
        elif found := _DOI.search(self.where):
            fields["doi"] = found[1]
        elif self.where:
            fields["howpublished"] = self.where
        fields["note"] = note
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
        return "\n".join([f"@misc{{{key},", *lines, "}"])


def references(family: Family, name: str) -> list[Reference]:
    """What the method's header names as its source."""
    text = family.header(name).rpartition("\nSource: ")[2]
    found = []
    for part in " ".join(text.split()).rstrip(".").split("; "):
        if match := _PART.match(re.sub(r" \([^)]*\)", "", part)):
            found.append(Reference(match["who"], int(match["year"]), match["where"] or ""))
        elif number := _ARXIV.search(part):
            found.append(Reference("", 2000 + int(number[1][:2]), number[0]))
    return found


def cited(recipe: Recipe) -> Iterator[tuple[str, str, list[Reference]]]:
    """(stage, method, its references) of a recipe, in the order of a training step."""
    for key, family in FAMILIES.items():
        for name, _ in recipe.stage(key):
            if name in family.names() and (found := references(family, name)):
                yield key, name, found


def plain_lines(recipe: Recipe) -> list[str]:
    lines = []
    for key, name, found in cited(recipe):
        lines += [f"{key} {name}", *(f"    {reference.plain()}" for reference in found)]
    return lines


def bibtex_lines(recipe: Recipe) -> list[str]:
    """Each paper once, whichever methods name it; keys stay apart by a letter."""
    papers: dict[str, Reference] = {}
    uses: dict[str, list[str]] = {}
    for key, name, found in cited(recipe):
        for reference in found:
            paper = papers.setdefault(reference.number, reference)
            uses.setdefault(paper.number, []).append(f"{key} {name}")
    keys: set[str] = set()
    lines = []
    for number, names in uses.items():
        reference = papers[number]
        own = next(k for k in (reference.key + c for c in ["", *"bcdefgh"]) if k not in keys)
        keys.add(own)
        lines.append(reference.bibtex(own, f"used as {', '.join(names)}"))
    return lines
