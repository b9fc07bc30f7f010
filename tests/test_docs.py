"""What README.md and docs/ say exists: links, commands, options, functions, words."""

import ast
import importlib
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cavalcade import Analysis
from cavalcade.cli import check_config
from cavalcade.comparing.comparison import Comparison
from cavalcade.runs import MinedRun, ProbedRun
from cavalcade.value_files import with_values
from test_config import CONF, TRAIN_KEYS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/cavalcade"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
METHOD, GLOSSARY = ROOT / "docs/method.md", ROOT / "docs/glossary.md"
PROGRAMS = {
    **{"train.py": "train", "cavalcade-train": "train"},
    **{"compare.py": "compare", "cavalcade-compare": "compare"},
}
# what a command stands for: nothing that exists
STANDS_FOR = re.compile(r"^([a-z](,[a-z])*|.*….*)$")
WORDS = """
    adjusted index|agreement|backbone|best match|block|bootstrap|branch|calibrated threshold|CAV
    ceiling|chance|code|concept|cross-fit|data folder|depth gap|digest|distance|factorisation
    finding|fire|flow|grid|group|half distance|interval|jackknife|Jaccard index
    label-conditional index|layer|layer matrix|mask|mined concept|mutual|named|next best|one pass
    pooled features|probe|random twin|rank correlation|relative depth|re-paired images
    reproducibility|run folder|share of the ceiling|similarity|split half|standard error
    stream|strength|tap
    threshold|thumbnail|trunk|truth folder|undefined|visit|z of chance|z of random
    assigned|CKA|hatched|label|loss of agreement|mutual nearest neighbours|Procrustes similarity
    raw Jaccard|RSA|strong|SVCCA
"""


def called(page):
    return page.relative_to(ROOT).as_posix()


def without_code(text):
    """A page without its blocks of code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"^    .*$", "", text, flags=re.M)


def anchors(page):
    """Those of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text("utf-8")), flags=re.M)
    plain = (re.sub(r"[^\w\- ]", "", each.lower()) for each in headings)
    return {each.replace(" ", "-") for each in plain}


def broken_links(page):
    """Links and pictures that lead nowhere, and picture files that are not there."""
    text = re.sub(r"`[^`\n]*`", "", without_code(page.read_text("utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://") or target.startswith("http://"):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_links_lead_somewhere(page):
    assert list(broken_links(page)) == []


def test_every_page_is_linked_from_the_readme():
    readme = PAGES[0].read_text("utf-8")
    assert [page.name for page in PAGES[1:] if f"](docs/{page.name}" not in readme] == []


def spans(text):
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def commands(page):
    """Calls of either program, in blocks of code and within lines."""
    text = page.read_text("utf-8")
    lines = re.findall(r"^    (.+)$", text, flags=re.M) + spans(text)
    for line in lines:
        for part in re.split(r"&&|\s#\s", re.sub(r"<[^>]*>", "x", line)):
            if re.match(
                r"\s*(srun )?(python (train|compare)\.py|cavalcade-(train|compare))\b", part
            ):
                yield part.strip()


EVERY_COMMAND = [(page, command) for page in PAGES for command in dict.fromkeys(commands(page))]


def parsed(command):
    """Program, folder of options, and overrides that name something."""
    words = shlex.split(command)
    program = next(PROGRAMS[word] for word in words if word in PROGRAMS)
    folder = words[words.index("--config-dir") + 1] if "--config-dir" in words else None
    found = [word for word in words if "=" in word]
    kept = [word for word in found if not STANDS_FOR.match(word.partition("=")[2])]
    return program, folder, with_values(kept)


def jobs(overrides):
    """Overrides of single jobs: of values with commas each in turn, all else as the first."""
    choices = []
    for word in overrides:
        key, _, value = word.partition("=")
        values = [value] if value[:1] in "[{'\"" else value.split(",")
        choices.append([f"{key}={each}" for each in values])
    first = [values[0] for values in choices]
    yield first
    for place, values in enumerate(choices):
        for value in values[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


@pytest.mark.parametrize(
    "command", [pytest.param(c, id=f"{page.name}: {c}") for page, c in EVERY_COMMAND]
)
@pytest.mark.filterwarnings("ignore:[^$]*validated against ConfigStore schema:UserWarning")
def test_commands_compose(command, monkeypatch):
    monkeypatch.chdir(ROOT)  # where values are read from files
    program, folder, overrides = parsed(command)
    search = [f"hydra.searchpath=['file://{ROOT / folder}']"] if folder else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in jobs(overrides):
            config = compose(program, overrides=[*search, *job])
            if program == "train":
                check_config(config, TRAIN_KEYS)


def test_there_are_commands_to_compose():
    """Else what looks for them has gone blind."""
    assert len(EVERY_COMMAND) > 30
    assert sum("-m" in command for _, command in EVERY_COMMAND) > 5


def keys_of(node, prefix):
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from keys_of(value, f"{prefix}{key}.")


@cache
def every_key():
    """All keys of all options, in the dotted form of a command line, and the groups."""
    found = set()
    for path in CONF.rglob("*.yaml"):
        *groups, _ = path.relative_to(CONF).parts
        found |= {".".join(groups[: k + 1]) for k in range(len(groups))}
        found |= {"/".join(groups[: k + 1]) for k in range(len(groups))}
        content = yaml.safe_load(path.read_text())
        prefix = "" if groups == ["experiment"] or not groups else ".".join(groups) + "."
        found |= set(keys_of(content, prefix))
    return found | {"hydra.sweeper.max_batch_size", "hydra.run.dir"}  # Hydra's own


FILES = {"concepts.csv", "concepts.safetensors"}  # not keys of concepts


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_options_within_lines_exist(page):
    """As `concepts.split_half=false`, and keys that are named without a value."""
    groups = "backbone|data|concepts|trainer|logger|hydra"
    named = set()
    for span in spans(page.read_text("utf-8")):
        for word in re.split(r"[\s\"]+", span):
            named |= set(re.findall(rf"^(?:{groups})[./][a-z_./0-9]+(?==|$)", word)) - FILES
            named |= set(re.findall(r"^([a-z_]+)=", word))
    known = every_key() | {key.rpartition(".")[2] for key in every_key()}
    assert sorted(named - known) == []


def rows_of_tables(page, first):
    """Cells of the rows of all tables whose first heading is this."""
    inside = False
    for line, after in pairwise([*page.read_text("utf-8").splitlines(), ""]):
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        inside = line.startswith("|") and (inside or cells[0].strip("| ") == first)
        if inside and not after.startswith("|---") and not line.startswith("|---"):
            yield cells


@cache
def usual_configs():
    """What the programs make of nothing, and of what has keys of its own."""
    usual = (
        ("train", []),
        ("train", ["concepts=factorisation"]),
        ("train", ["data=folder", "data.root=x"]),
        ("train", ["backbone=custom", "backbone.target=x.y", "backbone.image_size=none"]),
        ("compare", []),
    )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [compose(program, overrides=overrides) for program, overrides in usual]


def defaults(key):
    """The values that a key has where nothing is asked for, in any of the usual configs."""
    missing = object()
    values = [OmegaConf.select(config, key, default=missing) for config in usual_configs()]
    return ["null" if value is None else str(value).lower().replace("'", "")
            for value in values if value is not missing]  # fmt: skip


OPTIONS = [
    (page.name, key, codes[min(place, len(codes) - 1)] if codes else None)
    for page in (METHOD, ROOT / "docs/extending.md")
    for cells in rows_of_tables(page, "option")
    for codes in [spans(cells[1])]
    for place, key in enumerate(spans(cells[0]))
]


@pytest.mark.parametrize(("page", "key", "default"), OPTIONS)
def test_options_in_tables_have_these_defaults(page, key, default):
    found = defaults(key)
    assert found, f"{page}: there is no {key}"
    if default is not None:
        assert default in found


def test_all_tables_of_options_are_read():
    method = METHOD.read_text("utf-8")
    tables = len(re.findall(r"^\| option ", method, flags=re.M))
    assert tables == 8
    assert len([key for page, key, _ in OPTIONS if page == "method.md"]) >= 30
    # those that every probe and every mined concept depends on
    keys = {key for _, key, _ in OPTIONS}
    for preset in ("probes", "factorisation"):
        own = yaml.safe_load((CONF / f"concepts/{preset}.yaml").read_text())
        assert {f"concepts.{name}" for name in own if name[0] != "_"} - {
            "concepts.optimizer"
        } <= keys


@cache
def names_of_source():
    """Functions, classes, methods, attributes and strings of the library, and names of keys."""
    found = {key.rpartition(".")[2] for key in every_key()} | every_key()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found |= {node.name, f"{path.stem}.{node.name}"}
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{each.name}" for each in node.body
                          if isinstance(each, ast.FunctionDef)}  # fmt: skip
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found | {path.stem for path in CONF.rglob("*.yaml")}


OF_OTHERS = {"null", "true", "false", "PYTHONPATH", "train.py", "compare.py"}


@pytest.mark.parametrize("page", [METHOD, ROOT / "docs/extending.md"], ids=called)
def test_functions_and_values_that_are_named_exist(page):
    named = {span for span in spans(page.read_text("utf-8"))
             if re.fullmatch(r"_?[A-Za-z]\w*(\.(?!csv|yaml)\w+)?", span)}  # fmt: skip
    assert len(named) > 15
    assert sorted(named - names_of_source() - OF_OTHERS) == []


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_files_that_are_named_exist(page):
    named = {span for span in spans(page.read_text("utf-8"))
             if re.fullmatch(r"(src|tests|examples|\.ci)/[\w./-]+|\w+\.py", span)}  # fmt: skip
    assert [n for n in named if not ((ROOT / n).exists() or (SOURCE / n).exists())] == []


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_benchmarks_that_are_named_exist(page):
    text = page.read_text("utf-8")
    for name, arguments in re.findall(r"python -m (benchmarks\.\w+)([^`\n]*)", text):
        source = Path(importlib.import_module(name).__file__).read_text("utf-8")
        for flag in re.findall(r"--[\w-]+", arguments):
            assert f'"{flag}"' in source or f'"--{flag[5:]}"' in source, (name, flag)


def test_every_row_of_cost_has_its_command():
    readme = PAGES[0].read_text("utf-8")
    cost = readme.partition("## Measured cost")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", cost, flags=re.M)
    assert len(tables) == 2
    for table in tables:
        head, *rows = (line for line in table.splitlines() if not line.startswith("|---"))
        if "python -m benchmarks." not in head:
            assert [r for r in rows if "benchmarks." not in r and "| the same |" not in r] == []


def python_blocks():
    for page in PAGES:
        for code in re.findall(
            r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.M | re.S
        ):
            yield pytest.param(code, id=called(page))


KINDS = {"run": (ProbedRun, MinedRun), "comparison": (Comparison,), "analysis": (Analysis,)}


@pytest.mark.parametrize("code", list(python_blocks()))
def test_names_in_examples_exist(code):
    tree, given = ast.parse(code), {}
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), "example", "exec"), given)
    checked = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            kinds = KINDS.get(name) or (given[name],)
            fields = set().union(*(getattr(kind, "__dataclass_fields__", {}) for kind in kinds))
            assert node.attr in fields or any(hasattr(kind, node.attr) for kind in kinds)
            checked += 1
    assert checked


def test_yaml_that_is_shown_is_that_of_the_examples():
    shown = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/extending.md").read_text("utf-8"),
                       flags=re.M | re.S)  # fmt: skip
    files = [path.read_text("utf-8") for path in ROOT.glob("examples/conf/*/*.yaml")]
    assert len(shown) == len(files)
    for block in shown:
        assert any(block in content for content in files)


def test_words_are_explained_in_order():
    entries = re.findall(r"^- \*\*(.+?)\*\*: .*\)\.$", GLOSSARY.read_text("utf-8"), flags=re.M)
    assert entries == sorted(entries, key=str.lower)
    assert len(entries) == GLOSSARY.read_text("utf-8").count("\n- ")  # each with a link
    words = {word.strip().lower() for word in re.split(r"[|\n]", WORDS.strip())}
    assert sorted(words - {entry.lower() for entry in entries}) == []


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_mathematics_is_such_as_github_shows(page):
    """It refuses some macros, and Markdown eats backslashes outside of fences."""
    text = page.read_text("utf-8")
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    assert "\\operatorname" not in text
    assert "$$" not in text
    assert [m for m in re.findall(r"\$[^$\n]+\$", outside) if re.search(r"\\[,;!{}]|\*", m)] == []
