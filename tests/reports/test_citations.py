"""Whom a recipe cites."""

from __future__ import annotations

import pytest

from automl.recipe import Recipe
from automl.registry import FAMILIES, family
from automl.reports.citations import bibtex_lines, plain_lines, references
from automl.reports.papers import PAPERS

# What has no author: the plain choice of its stage, and what is ours.
NOBODY = {(key, "none") for key in ("batch", "transform", "averaging")} | {("optimizer", "lifting")}


@pytest.mark.parametrize(("key", "name"), [(k, n) for k, f in FAMILIES.items() for n in f.names()])
def test_every_method_names_somebody_and_its_source_is_among_them(key: str, name: str) -> None:
    found = references(family(key), name)
    assert bool(found) == ((key, name) not in NOBODY)
    source = family(key).facts(name)["source"]
    if str(source).startswith(("arXiv:", "doi:")):
        assert any(str(source) in reference.where for reference in found)


def test_a_recipe_cites_each_method_of_its_chains() -> None:
    recipe = Recipe(
        {"optimizer": "adamw", "batch": "flip_crop+mixup", "averaging": "none"}, steps=1
    )
    assert plain_lines(recipe) == [
        "batch flip_crop",
        "    Krizhevsky et al. 2012",
        "    He et al. 2015, arXiv:1512.03385",
        "batch mixup",
        "    Zhang et al. 2017, arXiv:1710.09412",
        "optimizer adamw",
        "    Kingma and Ba 2014, arXiv:1412.6980",
        "    Loshchilov and Hutter 2017, arXiv:1711.05101",
    ]


def test_bibtex_names_a_paper_once_and_gives_two_of_one_year_two_keys() -> None:
    recipe = Recipe(
        {"optimizer": "adamw", "schedule": "cosine", "gradient": "gam", "averaging": "lookahead",
         "architecture": "mlp", "loss": "mse"}, steps=1,
    )  # fmt: skip
    text = "\n".join(bibtex_lines(recipe))
    assert (
        "@misc{kingma2014,\n  author = {Kingma, Diederik P. and Ba, Jimmy},\n"
        "  title = {{Adam: A Method for Stochastic Optimization}},\n  year = {2014}," in text
    )
    assert "  eprint = {2303.03108},\n  archivePrefix = {arXiv}," in text
    assert "  doi = {10.1038/323533a0}," in text
    assert "author = {Zhang, Xingxuan and others}" in text
    assert "title = {{Root Mean Square Layer Normalization}}" in text  # named by number alone
    twice = Recipe({"schedule": "triangular", "averaging": "none", "optimizer": "adam"}, steps=1)
    assert "\n".join(bibtex_lines(twice)).count("@misc") == 2


def test_papers_with_a_number_have_their_title_and_each_title_its_method() -> None:
    named = [r for f in FAMILIES.values() for n in f.names() for r in references(f, n)]
    numbers = {r.number for r in named} | {r.where for r in named}
    assert set(PAPERS) <= numbers
    told = {r.number for r in named if r.number.startswith(("arXiv:", "doi:"))}
    assert told <= set(PAPERS)
    for authors, title in PAPERS.values():
        assert all("," in a for a in authors.removesuffix(" and others").split(" and "))
        assert title == title.strip().rstrip(".")
