"""train_best.py: the winning recipe as one plain-torch file that runs without automl.

It is put together from the source of what trained it (`sources.py`): the functions of each method
in the recipe under its own header, the task's loading, and the loop of `plain_loop.py`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.errors import AutomlError, MethodError
from automl.recipe import Recipe
from automl.records import TaskCard
from automl.registry import FAMILIES
from automl.reports.numerals import Scale
from automl.reports.recipe_file import RecipeFile
from automl.reports.script_changes import changes_of, models_of
from automl.reports.sources import Bundle, Root, bundle, header, root_of
from automl.space.ranges import Value

_LOOP = "automl.reports.plain_loop"
_LOOKS = ("automl.train.looks", "BatchLooks")
_CHAIN = ("automl.train.chain", "BatchChain")
_ORDER = (
    "words that the methods share",
    "data",
    "architecture",
    "methods",
    "training loop",
    "metric",
)
_ABSENT = {
    "batch": "none", "gradient": "plain", "transform": "none", "schedule": "constant",
    "averaging": "none",
}  # fmt: skip
_FUNCTIONS = {
    "batch": ("apply", "choose", "score"),
    "loss": ("value", "weigh"),
    "gradient": ("init", "compute"),
    "transform": ("init", "apply"),
    "optimizer": ("init", "step", "evaluated", "samples", "draw"),
    "schedule": ("factor", "momentum"),
    "averaging": ("init", "update", "evaluated"),
}


_COMMAND = '''"""The best values that automl found for <NAME>, filled into the command."""

import shlex
import subprocess

COMMAND = <SOURCE>
VALUES = <VALUES>

if __name__ == "__main__":
    values = {"epochs": <STEPS>, "steps": <STEPS>, **VALUES}
    command = [word.format(**values) for word in shlex.split(COMMAND)]
    print(shlex.join(command), flush=True)
    subprocess.run(command, check=True)
'''
_USERS_LOOP = '''"""The best values that automl found for <NAME>, given to `train(trial)`."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

FILE = Path(<SOURCE>)
VALUES = <VALUES>


def report(step, metrics):
    print(f"step {step}  {metrics}")


if __name__ == "__main__":
    sys.path.insert(0, str(FILE.parent))
    spec = importlib.util.spec_from_file_location("task", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = Path("train_best_files")
    folder.mkdir(exist_ok=True)
    module.train(
        SimpleNamespace(
            recipe=VALUES,
            seed=<SEED>,
            start=0,
            stop=<STEPS>,
            steps=<STEPS>,
            checkpoint=folder,
            report=report,
        )
    )
'''


@dataclass(frozen=True)
class Part:
    """A task's share of the script: what it needs of ours, and three pieces of code."""

    roots: tuple[Root, ...]
    load: str  # body of load(): returns a mapping from split names to Split
    model: str  # expression that makes the model
    metric: str  # expression in `outputs` and `targets`
    prepare: str = ""  # code of main() after loading, for `metric`
    setup: str = ""  # code at the top level, before them


@dataclass
class _Stages:
    """The recipe's methods: their functions, and the code that puts each in its place."""

    roots: list[Root] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)  # module -> "optimizer: muon"
    code: dict[str, list[str]] = field(default_factory=dict)


def write_text(file: RecipeFile, card: TaskCard) -> str:
    """The script's text; where it cannot be made, one that says why and stops."""
    try:
        return _script(file, card)
    except AutomlError as error:
        reason = f"this recipe cannot be written as one file: {error}"
        return f'"""train_best.py could not be made."""\n\nraise SystemExit({reason!r})\n'


def _script(file: RecipeFile, card: TaskCard) -> str:
    if card.kind in ("loop", "command"):
        return _own(file, card)
    from automl.reports.task_parts import part_for  # late: it imports the tasks, and so torch

    part = part_for(file.spec, card, file.recipe)
    stages = _stages(file.recipe)
    scales = _scales(file)
    patience = file.recipe.point.get("patience")
    changes = changes_of(file.recipe, card)
    loop = ["Stage", "Trainer", *(["Patience"] if patience else [])]
    loop += ["change"] if changes else []
    found = bundle([*part.roots, *stages.roots, *((_LOOP, name) for name in loop)])
    found.imports |= {"import sys", "import torch", "import warnings"}
    top = ["from __future__ import annotations\n", *found.import_lines()]
    sections = [_docstring(file, card) + "\n\n" + "\n".join(top) + "\n"
                + _constants(file.recipe, card) + changes + scales]  # fmt: skip
    sections += list(_sources(found, stages))
    if part.setup:
        sections.append(part.setup)
    sections.append(_main(part, stages, card, scaled=bool(scales), patience=patience,
                          models=models_of(file, card) if changes else None))  # fmt: skip
    return "\n\n\n".join(s.strip("\n") for s in sections if s.strip()) + "\n"


def _docstring(file: RecipeFile, card: TaskCard) -> str:
    scale, score = Scale(card.metric), file.score
    lines = [f'"""{_title(file.recipe)}, for {card.name}: a recipe that automl found.', ""]
    for split in ("validation", "test"):
        if split in score:
            spread = f" ± {scale.size(score[f'{split}_sd'])}" if f"{split}_sd" in score else ""
            lines.append(f"    {split} {scale.words} {scale.value(score[split])}{spread}"
                         f"   over {score[f'{split}_seeds']} seeds")  # fmt: skip
    lines += [
        "",
        "Run `python train_best.py`, or `python train_best.py 7` for another seed. It needs torch",
        "and what the data needs, not automl. All weights are one flat row [1, p], and so is what",
        "belongs to them: the methods are written for many models at once, here it is one.",
        '"""',
    ]
    return "\n".join(lines)


def _own(file: RecipeFile, card: TaskCard) -> str:
    """The script for a training of the user's own: their loop or command, with these values."""
    values = "".join(f"    {json.dumps(n)}: {_word(v)},\n" for n, v in file.recipe.point.items())
    text = _COMMAND if card.kind == "command" else _USERS_LOOP
    filled = {
        "NAME": card.name,
        "SOURCE": json.dumps(
            file.spec.source if card.kind == "command" else str(Path(file.spec.source).resolve())
        ),
        "VALUES": "{\n" + values + "}",
        "SEED": str(file.recipe.seed),
        "STEPS": str(file.recipe.steps),
    }
    return re.sub(r"<([A-Z]+)>", lambda m: filled[m[1]], text)


def _title(recipe: Recipe) -> str:
    words = [n for key in ("optimizer", "schedule", "batch", "averaging", "gradient")
             for n, _ in recipe.stage(key) if n not in ("none", "plain")]  # fmt: skip
    return " + ".join(words).capitalize() or "Training"


def _constants(recipe: Recipe, card: TaskCard) -> str:
    size = int(recipe.point.get("batch_size") or card.batch_size)
    updates = max(1, round(recipe.steps * card.batch_size / size))
    every = max(1, round(card.eval_steps * card.batch_size / size))
    device = '"cuda" if torch.cuda.is_available() else "cpu"' if card.device != "cpu" else '"cpu"'
    return "\n".join(
        [
            f"SEED = {recipe.seed}",
            f"UPDATES = {updates}",
            f"BATCH_SIZE = {size}",
            f"ACCUMULATE = {recipe.point.get('accumulate') or 1}  # parts of a batch, one by one",
            f"EVERY = {every}  # updates between lines of output",
            f"DEVICE = torch.device({device})",
            *_precision(recipe, card),
        ]
    )


def _precision(recipe: Recipe, card: TaskCard) -> list[str]:
    """That of the recipe; where it leaves it open, what the search took on its device."""
    chosen = recipe.point.get("precision")
    weights = "float64" if chosen == "float64" else "float32"
    half = str(chosen == "bfloat16")
    if chosen is None and card.device != "cpu":
        supported = "torch.cuda.is_bf16_supported(including_emulation=False)"
        half = f'DEVICE.type == "cuda" and {supported}'
    return [f"DTYPE = torch.{weights}  # of weights", f"HALF = {half}  # activations in bfloat16"]


def _scales(file: RecipeFile) -> str:
    """What the recipe's parametrization makes of this model, as a table; "" where it changes none.

    Raises:
        AutomlError: the task can no longer be opened.
    """
    chosen = file.recipe.stage("parametrization")
    if not any(
        getattr(FAMILIES["parametrization"].get(name), "looks", False) for name, _ in chosen
    ):
        return ""
    from automl.tasks.opening import open_task  # late, as `part_for`: they import torch
    from automl.tasks.task import ModelTask
    from automl.train.packed import layout_of
    from automl.train.scales import factors_of

    task = open_task(file.spec)
    assert isinstance(task, ModelTask)  # loops of users choose no parametrization
    found = factors_of(task, file.recipe, layout_of(task.build(file.recipe)))
    rows = [
        f"    {json.dumps(name)}: ({', '.join(f'{f:.12g}' for f in factors)}),\n"
        for name, factors in found.items()
    ]
    return (
        f"\n\n# {chosen[0][0]}: by weight, the factor on its first values, and those of what the\n"
        "# optimizer sees: it steps on w/a, and is given the gradient by w times s.\n"
        f"SCALES = {{\n{''.join(rows)}}}"
    )


def _stages(recipe: Recipe) -> _Stages:
    out = _Stages()
    for key, functions in _FUNCTIONS.items():
        chosen = recipe.stage(key) or ([(_ABSENT[key], {})] if key in _ABSENT else [])
        for name, hyper in chosen:
            if key in ("batch", "transform") and name == "none":
                continue
            method = FAMILIES[key].get(name)
            adapter, _, inner = name.partition(":")
            values: Mapping[str, Value] = {
                **{n: r.default for n, r in method.ranges.items()}, **hyper,
            }  # fmt: skip
            texts = [_literal(values)]
            if inner:  # of another library, which the script imports
                root = (f"automl.methods.{FAMILIES[key].folder}._{adapter}", f"{adapter}_functions")
                out.roots.append(root)
                out.modules[root[0]] = f"{key}: {name}"
                texts.append(f'**{root[1]}("{inner}")')
                out.code.setdefault(key, []).append(_call("Stage", texts))
                continue
            if "teacher" in getattr(method, "needs", ()):
                raise MethodError(f"{key} '{name}' learns from a second network")
            for function in functions:
                found = getattr(method, function)
                if found is None:
                    texts.append(f"{function}=None")
                    continue
                root = root_of(found)
                out.roots.append(root)
                if root[0].endswith(f".{name}"):  # else it only borrows the function
                    out.modules[root[0]] = f"{key}: {name}"
                texts.append(f"{function}={root[1]}")
            if key == "optimizer":
                looks = getattr(method, "looks", False)
                texts.append("looks=BatchLooks" if looks else "looks=None")
                out.roots += [_LOOKS] if looks else []
            if key == "gradient":
                chain = getattr(method, "chain", False)
                texts.append("chain=BatchChain" if chain else "chain=None")
                out.roots += [_CHAIN] if chain else []
            out.code.setdefault(key, []).append(_call("Stage", texts))
    if "optimizer" not in out.code:
        raise MethodError("the recipe names no optimizer")
    return out


def architecture(recipe: Recipe, shape: str) -> tuple[tuple[Root, ...], str]:
    """A network of ours: where its builder and its parts stand, and the call that makes it."""
    chosen = recipe.stage("architecture")
    if len(chosen) != 1:
        raise MethodError("the recipe names no architecture")
    ((name, hyper),) = chosen
    method: Any = FAMILIES["architecture"].get(name)
    values, roots = method.arguments(hyper), [root_of(method.build)]
    words = {n: _word(v) for n, v in values.items() if n not in method.parts}
    for n in method.parts:
        roots.append(root_of(values[n]))
        words[n] = roots[-1][1]
    arguments = [shape, *(f"{n}={words[n]}" for n in values)]
    return tuple(dict.fromkeys(roots)), _call(roots[0][1], arguments)


def _literal(values: Mapping[str, Value]) -> str:
    return "{" + ", ".join(f'"{n}": {_word(v)}' for n, v in values.items()) + "}"


def _word(value: Value) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _call(name: str, arguments: Sequence[str]) -> str:
    """A call on one line where it fits, else an argument a line."""
    text = f"{name}({', '.join(arguments)})"
    if len(text) <= 70:
        return text
    return f"{name}(\n" + "".join(f"    {a},\n" for a in arguments) + ")"


def _sources(found: Bundle, stages: _Stages) -> Iterator[str]:
    """The copied code, under a title wherever the topic changes; methods with their header."""
    before = ""
    # Stable: inside a topic what is needed stays before what needs it, and no topic's functions
    # are called while the file is read.
    for module in sorted(found.modules, key=lambda m: _ORDER.index(_topic(m))):
        topic = stages.modules.get(module) or _topic(module)
        if topic == "architecture":
            topic = f"architecture: {module.rsplit('.', 1)[1]}"
        about = header(module) if ":" in topic else ""
        text = re.sub(r"  # type: ignore\[[^]]*\]", "", found.text(module))
        title = "\n".join([_rule(topic), *_commented(about), "", "", ""])
        yield text if topic == before else title + text
        before = topic


def _topic(module: str) -> str:
    if module == "automl.methods.stages":
        return _ORDER[0]
    if ".tasks." in module or module == "automl.reports.loading":
        return "metric" if module.endswith(".metrics") else "data"
    if module == "automl.errors":
        return _ORDER[0]
    if ".methods." in module:
        ours = (".activations.", ".architectures.", ".operations.")
        return "architecture" if any(folder in module for folder in ours) else "methods"
    return "training loop"


def _rule(title: str) -> str:
    return f"# ---- {title} " + "-" * max(0, 92 - len(title))


def _commented(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]


def _main(
    part: Part,
    stages: _Stages,
    card: TaskCard,
    *,
    scaled: bool,
    patience: Value,
    models: Mapping[int, str] | None,
) -> str:
    """The script's last part. models: see `models_of`; None where nothing changes."""

    def one(key: str) -> str:
        return textwrap.indent(stages.code[key][0], " " * 8).lstrip()

    def several(key: str) -> str:
        inner = "".join(
            f"    {textwrap.indent(c, '    ').lstrip()},\n" for c in stages.code.get(key, ())
        )
        return textwrap.indent(f"[\n{inner}]", " " * 8).lstrip() if inner else "[]"

    loss = one("loss") if "loss" in stages.code else "Stage({}, value=user_loss, weigh=None)"
    prepare = f"\n{textwrap.indent(part.prepare, '    ')}" if part.prepare else ""
    given = "\n        scales=SCALES," if scaled else ""
    made = judged = turned = ""
    if models is not None:
        model = "models.get(update, lambda: None)()" if models else "None"
        turned = f"""
        if update in CHANGES:
            change(trainer, CHANGES[update], {model})""".replace(", None)", ")")
        calls = "".join(f"        {at}: lambda: {call},\n" for at, call in models.items())
        made = f"\n    models = {{\n{calls}    }}" if models else ""
    if patience:
        maximize = card.direction == "maximize"
        made += f"""

    def judged() -> float:
        outputs, targets = trainer.predict(splits["valid"])
        return float({part.metric})

    patience = Patience(trainer, {patience}, maximize={maximize})"""
        judged = """
            if patience.over(judged):
                break"""
    scale = Scale(card.metric)
    figure = "{100 * value:.2f} %" if scale.share else "{value:.4g}"
    return f'''
{_rule("this recipe")}


def load() -> dict[str, Split]:
    """The splits "train", "valid" and, where there is one, "test"."""
{textwrap.indent(part.load, "    ")}


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else SEED
    torch.set_num_threads(1)  # as in the search; more only pays for large networks
    torch.set_flush_denormal(True)  # numbers below 1e-38 are zeros, and no hundred times slower
    warnings.filterwarnings("ignore", "The value of the smallest subnormal")  # NumPy's, of that
    splits = load(){prepare}
    torch.manual_seed(seed)
    model = {textwrap.indent(part.model, "    ").lstrip()}
    trainer = Trainer(
        model.to(DEVICE, DTYPE),
        splits["train"],
        batches={several("batch")},
        loss={loss},
        gradient={one("gradient")},
        transforms={several("transform")},
        optimizer={one("optimizer")},
        schedule={one("schedule")},
        averaging={one("averaging")},
        batch_size=BATCH_SIZE,
        accumulate=ACCUMULATE,
        half=HALF,
        seed=seed,{given}
    ){made}
    total = 0.0
    for update in range(UPDATES):{turned}
        total += float(trainer.step(update, UPDATES))
        if (update + 1) % EVERY == 0 or update + 1 == UPDATES:
            count = update % EVERY + 1
            print(f"update {{update + 1:6d}} of {{UPDATES}}   training loss {{total / count:.4f}}")
            total = 0.0{judged}
    {"patience" if patience else "trainer"}.finish()
    for name, words in (("valid", "validation"), ("test", "test")):
        if name in splits:
            outputs, targets = trainer.predict(splits[name])
            value = float({part.metric})
            print(f"{{words}} {scale.words} {figure}")


if __name__ == "__main__":
    main()
'''
