"""Names of others are words: they lead nowhere, run nowhere, and are shown as they are."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from browsing import Visitor
from cavalcade import Analysis, compare
from cavalcade.comparing.comparison_folder import load_comparison, tables_of, write_comparison
from cavalcade.comparing.pictures import print_comparison
from cavalcade.folders import kind_of
from cavalcade.report.gallery import GalleryRow, draw_gallery
from cavalcade.report.tables import print_places, print_sentence, print_table
from cavalcade.runs import load_run
from faults import contents
from foreign import METHODS, meta_of, renamed, reseal, visit_squares
from fuzzing import Trap, brief, refusal
from hardening import REFUSED, UNCHANGED
from tiny import streamed, tiny_visit

SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
LAYERS = {"2": SCRIPT, "4": "../../../escaped", "6": r"$\frac{[red]:car:"}
CONCEPTS = {"red": IMAGE, "green": '=HYPERLINK("x") </script>{{7*7}} $(x) ../../x'}
LABEL = "<img src=x onerror=alert(1)>$_{[red]"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Runs of each method in which everything has a bad name, with a way to run what they hold."""
    root = tmp_path_factory.mktemp("runs")
    found = {}
    for method in METHODS:
        place = root / method
        folders = [visit_squares(place, method, label=label) for label in ("one", "two")]
        for k, folder in enumerate(folders):
            renamed(folder, LAYERS, CONCEPTS if not k else dict(CONCEPTS))
            tempt(folder)
            reseal(folder, label=f"{LABEL}{k}")
        found[method] = folders
    return found


def tempt(folder):
    """Files that must not run."""
    (folder / "config.yaml").write_text(
        "backbone:\n  _target_: os.system\n  command: touch sprung\n"
        "data: !!python/object/apply:os.system ['touch sprung']\n"
    )
    for name in ("sitecustomize.py", "cavalcade.py", "conftest.py", "hubconf.py"):
        (folder / name).write_text("open('sprung', 'w').write('x')\n")


def written(folders, place, pictures=1):
    runs = [load_run(folder) for folder in folders]
    analysis = Analysis(compare(runs, against=["cka"], repairings=2))
    write_comparison(analysis, runs, place, tables_of(analysis), pictures=pictures)
    return analysis


@pytest.fixture(scope="module")
def comparisons(hostile, tmp_path_factory):
    """Comparisons of them, the folder around them, and what was printed."""
    found = {}
    for method, folders in hostile.items():
        around = tmp_path_factory.mktemp(method)
        place = around / "comparisons" / "c"
        analysis, screen = written(folders, place), io.StringIO()
        with contextlib.redirect_stdout(screen):
            print_comparison(analysis, place)
        found[method] = around, place, screen.getvalue()
    return found


def refused(load, folder, name):
    """The sentence that names a file of a folder."""
    return refusal(lambda: load(folder), folder / name)


@pytest.mark.parametrize("method", METHODS)
def test_names_lead_to_no_other_folder(comparisons, hostile, method, tried):
    around, place, _ = comparisons[method]
    assert [p.name for p in around.iterdir()] == ["comparisons"]
    assert [p.name for p in place.parent.iterdir()] == ["c"]
    assert kind_of(place) == "comparison"
    listed = meta_of(place)["files"]
    there = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
    assert there == {*listed, "meta.json"}
    assert not list(hostile[method][0].parents[3].rglob("*escaped*"))
    assert not list(around.parent.glob("*escaped*"))  # where the name of a layer leads
    tried("folders", "paths as names of layers and concepts", "no file outside is written")


@pytest.mark.parametrize(
    "label",
    ["../../x", "a/b", "..", ".x", "a\\b", "/etc/x", "", "x" * 256, "a\nb", "a\0b"],
    ids=brief,
)
def test_labels_that_are_paths_are_refused(hostile, tmp_path, label, tried):
    home = hostile["probed"][0].parents[1]
    copied = shutil.copytree(home, tmp_path / home.name)
    folder = copied / hostile["probed"][0].relative_to(home)
    reseal(folder, label=label)
    assert "meta.json: label is" in refused(load_run, folder, "meta.json")
    reseal(folder, label="fine", data=meta_of(folder)["data"] | {"name": label})
    assert "meta.json: data.name is" in refused(load_run, folder, "meta.json")
    tried("folders", "a path as a label or as the name of a data set", REFUSED, 2)


def test_labels_are_as_long_as_a_name_of_a_folder(hostile, tmp_path, tried):
    """Longer than what is made today: earlier versions had no bound."""
    home, labels = hostile["mined"][0].parents[1], ("ä" * 127, "b" * 255)
    copied = shutil.copytree(home, tmp_path / home.name)
    folders = [copied / folder.relative_to(home) for folder in hostile["mined"]]
    for folder, label in zip(folders, labels, strict=True):
        reseal(folder, label=label)
    place = tmp_path / "comparisons" / "c"
    written(folders, place, pictures=None)
    read = load_comparison(place)
    assert {*read.pairs["network_a"], *read.pairs["network_b"]} == {*labels}
    names = [Path(name).name for name in meta_of(place)["files"]]
    assert len([name for name in names if name.endswith(".jpg")]) == 1  # a gallery
    assert max(len(name.encode()) for name in names) == 254
    tried("folders", "labels as long as a name of a folder can be", "read as it was", 2)


@pytest.mark.parametrize("method", METHODS)
def test_names_are_read_back_as_they_are(comparisons, method, tried):
    """Tables are data: a cell that begins with = is a name, to be read with pandas."""
    _, place, _ = comparisons[method]
    loaded = load_comparison(place)
    assert set(loaded.layer_similarity["layer_a"]) == set(LAYERS.values())
    assert set(loaded.layer_similarity["network_a"]) == {f"{LABEL}{k}" for k in (0, 1)}
    if method == "probed":
        assert set(loaded.concept_similarity["concept"]) == set(CONCEPTS.values())
    tried("code", "markup, formulas and LaTeX as names in CSV files", UNCHANGED)


@pytest.mark.slow
def test_names_are_shown_as_they_are_in_a_browser(comparisons, browser, tried):
    dialogs = []
    for method in METHODS:
        visitor = Visitor(browser)
        page = visitor.open(comparisons[method][1])
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        shown = page.evaluate("document.body.textContent")
        assert f"{LABEL}0" in shown
        assert f"{LABEL}1" in shown
        if method == "probed":
            assert IMAGE in shown
            assert "{{7*7}} $(x)" in shown
        assert SCRIPT in page.evaluate(
            "[...document.querySelectorAll('text, td, span, div, option, title')]"
            ".map((each) => each.textContent).join(' ')"
        )
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("[...document.scripts].every((each) => !/alert/.test(each.text))")
        assert dialogs == []
        assert not [said for said in visitor.said if "fonts" not in said]
        visitor.close()
    tried("code", "markup as names in a report", "shown as text", 2)


def test_parts_of_a_report_hold_no_markup(comparisons):
    """They are scripts of one call each."""
    for _, place, _ in comparisons.values():
        for part in (place / "report" / "parts").glob("*.js"):
            text = part.read_text()
            call, _, content = text.partition("(")
            assert call == "report.receive"
            json.loads(f"[{content.rstrip()[:-1]}]")


@pytest.mark.parametrize("method", METHODS)
def test_names_are_printed_as_they_are(comparisons, method, tried):
    printed = comparisons[method][2]
    joined = "".join(line.strip(" │┃") for line in printed.splitlines())
    assert "[red]" in joined.replace(" ", "")
    tried("code", "markup as names in tables of a terminal", "shown as text")


def test_markup_of_terminals_is_text(capsys, tried):
    name = "[red]:car:[/red][link=x]"
    print_table(name, pd.DataFrame({name: [name]}), width=200)
    print_sentence(name)
    print_places({name: Path(name)})
    assert capsys.readouterr().out.count(name) == 6
    tried("code", "markup as names in tables of a terminal", "shown as text")


def test_a_gallery_takes_any_name(tmp_path):
    draw_gallery([GalleryRow(SCRIPT, (IMAGE, r"$\frac{"), ((),))], tmp_path / "g.png", title=LABEL)
    assert (tmp_path / "g.png").exists()


WATCHED = """
import sys

found, watching, place, folders = [], False, sys.argv[1], sys.argv[2:]
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen",
        "pickle.find_class", "socket.connect")

def listen(event, args):
    text = str(args)
    theirs = "sprung" in text or any(each in text for each in folders)
    if watching and (event in RUNS or event in ("compile", "exec", "import") and theirs):
        found.append((event, text[:200]))

sys.addaudithook(listen)
from pathlib import Path
from test_foreign_names import written

watching = True
if place == "caught":
    theirs = Path(folders[0]) / "cavalcade.py"
    exec(compile(theirs.read_text(), str(theirs), "exec"))
    __import__("os").system("true")
else:
    written([Path(each) for each in folders], Path(place))
watching = False
print("FOUND", [event for event, _ in found])
"""


def watched(tmp_path, place, folders):
    """What Python says of itself while runs are read, compared and reported."""
    script = tmp_path / "watched.py"
    script.write_text(WATCHED)
    here = Path(__file__).parent
    paths = {"PYTHONPATH": f"{here.parent / 'src'}:{here}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(place), *map(str, folders)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | paths,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_a_folder_runs(hostile, tmp_path, method, tried):
    """Its files are opened for their checksums alone."""
    assert watched(tmp_path, tmp_path / "c", hostile[method]) == "FOUND []"
    assert (tmp_path / "c" / "report" / "index.html").exists()
    assert not list(tmp_path.rglob("sprung"))
    tried("code", "code in a run folder that is compared", "compared; nothing ran")


@pytest.mark.slow
def test_what_would_run_is_caught(hostile, tmp_path):
    events = watched(tmp_path, "caught", hostile["probed"])
    assert all(event in events for event in ("compile", "exec", "os.system"))
    assert (tmp_path / "sprung").exists()


def test_a_visit_that_goes_on_runs_nothing_that_it_finds(tmp_path, monkeypatch, tried):
    """As somebody may have left it at the place where an interrupted visit is looked for."""
    monkeypatch.chdir(tmp_path)  # where what is tempting writes
    place = tiny_visit(tmp_path / "a", method=streamed())
    there = tmp_path / "b" / place.relative_to(tmp_path / "a")
    partial = there.with_name(f".{there.name}.partial")
    (partial / "checkpoints").mkdir(parents=True)
    torch.save({"epoch": 1, "x": Trap(tmp_path / "sprung")}, partial / "checkpoints/last.ckpt")
    tempt(partial)
    again = tiny_visit(tmp_path / "b", method=streamed())
    assert again == there
    assert contents(again) == contents(place)
    assert not list(tmp_path.rglob("sprung"))
    tried("code", "code in a checkpoint", "nothing ran; started over")


def test_a_comparison_of_somebody_else_is_read_or_named(comparisons, tmp_path, tried):
    _, place, _ = comparisons["probed"]
    folder = shutil.copytree(place, tmp_path / "c")
    meta, times = meta_of(folder), 0
    first, second, *_ = (folder / "layer_similarity.csv").read_bytes().splitlines(keepends=True)
    twice = first + second + second
    cells = second.split(b",")
    cells[first.split(b",").index(b"value")] = b"abc"
    texts = first + b",".join(cells)
    harms = {
        "summary.json": [b"[" * 100_000, b"null", b"{", b"\xff"],
        "layer_similarity.csv": [b"", b"a,b\n1,2\n", b'a,"b\n1', b"\xff\xfe\n1", twice, texts],
        "pairs.csv": [b"", b"measure,value\n1,2\n"],
    }
    for name, contents_of in harms.items():
        before = (folder / name).read_bytes()
        for bad in contents_of:
            (folder / name).write_bytes(bad)
            assert name in refused(load_comparison, folder, name)  # the checksum
            reseal(folder)
            assert name in refused(load_comparison, folder, name), (name, bad[:20])
            times += 2
        (folder / name).write_bytes(before)
        reseal(folder)
    for name in ("summary.json", "layer_similarity.csv", "pairs.csv"):
        files = {key: value for key, value in meta["files"].items() if key != name}
        (folder / "meta.json").write_text(json.dumps(meta | {"files": files}))
        assert f"does not list {name}" in refused(load_comparison, folder, name)
        times += 1
    reseal(folder)
    load_comparison(folder)
    tried("folders", "a comparison folder with damaged files", REFUSED, times)
