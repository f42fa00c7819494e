"""What the benchmarks do before and after they measure: reading assembly, rows, tables."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys

import pytest
import yaml

from embbert_tvm.cli import distill, train
from embbert_tvm.data.dataset import Example, read_examples, write_examples
from embbert_tvm.data.leaks import TEXTS_READ, write_text_hashes
from embbert_tvm.data.tasks import find_tasks
from embbert_tvm.errors import InputError
from embbert_tvm.resources import resource
from embbert_tvm.training.suite import Figure

BENCHMARKS = resource("benchmarks")
sys.path.insert(0, str(BENCHMARKS))

import cmsis_nn  # noqa: E402
import family  # noqa: E402
import instructions  # noqa: E402
import linear  # noqa: E402
import loops  # noqa: E402
import precisions  # noqa: E402
import ship  # noqa: E402
import suite  # noqa: E402
import tutorial  # noqa: E402
import typos  # noqa: E402

ASSEMBLY = """\
\t.type\tone, %function
one:
\t@ args = 0
\tpush\t{r4, lr}
.L2:
\tldr\tr0, [r1], #4\t@ float
\t.syntax unified
1:
 ldrd r2, r3, [r1], #8
 smlad r4, r2, r3, r4
 smlad r5, r2, r3, r5
 bne 1b
\tcmp\tr0, r1
\tbne\t.L2
\tbeq\t.L9
.L3:
\tmla\tr0, r1, r2, r0
\tvmladava.s8\tr0, q0, q1
\tle\tlr, .L3
.L9:
\tpop\t{r4, pc}
\t.type\ttwo, %function
two:
\tb\t.L9
"""


def test_innermost_loops_are_found():
    found = list(loops.loops(ASSEMBLY))
    assert [name for name, _ in found] == ["one", "one"]
    assert [len(lines) for _, lines in found] == [4, 3]
    assert [loops.macs(lines) for _, lines in found] == [4, 17]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("smlad r0, r1, r2, r0", 2),
        ("smlald r0, r1, r2, r3", 2),
        ("mla r0, r1, r2, r0", 1),
        ("smlabb r0, r1, r2, r3", 1),
        ("smlal r0, r1, r2, r3", 1),
        ("vmladavax.s16 r0, q1, q2", 8),
        ("vmla.s32 q0, q1, r2", 4),
        ("mul r0, r1, r2", 0),
        ("smmulr r0, r1, r2", 0),
    ],
)
def test_multiplications_of_an_instruction(line, count):
    assert loops.macs([line]) == count


def loop(used, variant, count, took):
    return loops.Loop("cortex-m7", "layer", variant, used, count, 256, took)


def test_the_verdict_says_when_the_other_form_is_faster():
    kept, left = loop(True, "single loads", 244, 181.0), loop(False, "LDRD", 211, 212.0)
    said = loops.verdict("cortex-m7", [kept, left])
    assert said == "cortex-m7: single loads used; over LDRD: instructions +16%, cycles -15%: fewer cycles decide"
    assert "THE OTHER" in loops.verdict("cortex-m7", [loop(True, "LDRD", 211, 212.0), loop(False, "x", 244, 181.0)])
    assert loops.verdict("cortex-m4", [kept, left]) is None


def test_rows_stand_beside_what_was_asked():
    first, last = instructions.rows("cortex-m4", {32: 6_280_000, 100: 30_000_000})
    assert first["asked"] == 7_200_000
    assert "asked" not in last
    assert "asked" not in instructions.rows("cortex-m3", {32: 1})[0]
    shown = instructions.text([first, last]).splitlines()
    assert shown[1].split() == ["cortex-m4", "32", "6.28", "M", "7.20", "M", "met"]


def test_ratios_to_cmsis_nn_leave_out_what_they_say():
    steps = {"product": 900, "scores": 50, "softmax": 500, "transposition": 0, "values": 50, "filter": 100}
    (row,) = cmsis_nn.rows("cortex-m7", {32: 800}, {32: steps})
    assert (row["cmsis_nn"], row["ratio"], row["ratio_without_softmax"]) == (1600, 2.0, 1.38)
    assert cmsis_nn.text([row]).splitlines()[1].split()[0] == "cortex-m7"


def test_layers_of_cmsis_nn_need_its_sources(tmp_path):
    with pytest.raises(InputError, match="is no checkout of CMSIS-NN"):
        cmsis_nn.package("cortex-m7", tmp_path, tmp_path / "package")


@pytest.fixture
def refused(monkeypatch, capsys):
    """What a benchmark says on stderr as it ends with status 2; called with its name and arguments. In this process:
    most import TVM and PyTorch, which takes seconds."""

    def call(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        assert ended.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize("name", ["instructions", "kernels", "cycles", "loops"])
def test_what_is_missing_is_one_line(name, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(name, "--cpu", "z80").count("\n") == 1


def test_the_family_of_models_as_a_table():
    row = {
        "model": "big", "parameters": 7_306_752, "weights": 7_400_000, "code": None, "flash": None, "arena": 2_000_000,
        "instructions": None, "on": "host", "texts": 32, "agreement": 31 / 32, "in_float": ["mean", "sqrt"],
    }  # fmt: skip
    head, line = family.text([row]).splitlines()
    assert "flash" not in head
    assert line.split() == ["big", "7,306,752", "7,400,000", "2,000,000", "31", "of", "32", "host", "mean,", "sqrt"]


def test_a_model_that_the_family_lacks_is_one_line(refused):
    said = refused("family", "huge")
    assert said.count("\n") == 1
    assert "choose from nano" in said


def test_a_suites_run_is_one_command(tmp_path):
    mrpc, stsb = find_tasks("mrpc,stsb")
    recipes = {
        "default": {"epochs": 3, "lr": 1e-3},
        "mrpc": {"lr": None, "teacher": "t/{task}-{seed}", "flag": True, "of": [1, "{data}/x"]},
    }
    options = suite.recipe(recipes, mrpc, 4, tmp_path)
    options = {"base": tmp_path / "base", **options}
    words = suite.command(mrpc, 4, (tmp_path / "a", tmp_path / "b"), tmp_path / "o", options)
    assert words == [
        *("train", f"{tmp_path}/a", "--dev", f"{tmp_path}/b", "--base", f"{tmp_path}/base", "--epochs", "3"),
        *(
            "--teacher",
            "t/mrpc-4",
            "--flag",
            "--of",
            "1",
            "--of",
            f"{tmp_path}/x",
            "--seed",
            "4",
            "-o",
            f"{tmp_path}/o",
        ),
    ]
    words = suite.command(stsb, 0, (tmp_path, tmp_path), tmp_path, {"verb": "distill", "base": "other"})
    assert words[0] == "distill"
    assert words.count("--base") == 1
    assert "other" in words
    assert "--regression" in words
    words = suite.command(stsb, 0, (tmp_path, tmp_path), tmp_path, {}, [tmp_path / "t.tsv", tmp_path / "u.tsv"])
    assert [words[i + 1] for i, word in enumerate(words) if word == "--held-out"] == [
        f"{tmp_path}/t.tsv",
        f"{tmp_path}/u.tsv",
    ]


def test_a_linear_model_of_every_size_is_a_row(tmp_path, capsys, monkeypatch):
    things = ["lights", "fan", "radio", "oven", "kettle", "heating"]
    rows = [Example(state, f"turn the {x} {state}") for x in things for state in ("on", "off")]
    for split, part in (("train", rows[:8]), ("dev", rows[8:10]), ("test", [*rows[9:], Example("dim", "lower it")])):
        write_examples(tmp_path / "lights" / f"{split}.tsv.xz", part)
    monkeypatch.setattr(sys, "argv", ["linear", str(tmp_path / "lights"), "--kilobytes", "2,5", "--few", "3"])
    assert linear.main() == 0
    header, small, large = capsys.readouterr().out.splitlines()
    assert header.split() == ["set", "labels", "train", "kB", "strength", "dev", "test", "s"]
    # Six texts of train, of dev one that test does not hold, and of test's four one whose label train lacks.
    assert [line.split()[:4] for line in (small, large)] == [["lights", "2", "6", kb] for kb in "25"]
    assert [line.split()[5:7] for line in (small, large)] == [["100.00", "75.00"]] * 2
    monkeypatch.setattr(sys, "argv", ["linear", str(tmp_path / "nowhere")])
    assert linear.main() == 2
    assert "has no train.tsv" in capsys.readouterr().err


def test_texts_that_a_base_has_read_are_named(tmp_path):
    write_text_hashes(tmp_path / TEXTS_READ, ["turn it on", "and off"])
    (tmp_path / "test.tsv").write_text("label\ttext\nx\tTURN it on!\nx\tleave it\n")
    (tmp_path / "dev.tsv").write_text("label\ttext\nx\tturn it\n")
    command = [sys.executable, BENCHMARKS / "leaks.py", tmp_path]
    done = subprocess.run([*command, tmp_path / "test.tsv"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "has read 2 different texts" in done.stdout
    assert "test.tsv: 1 of its texts\n    TURN it on!\n" in done.stdout
    assert subprocess.run([*command, tmp_path / "dev.tsv"], capture_output=True).returncode == 0
    done = subprocess.run([*command, tmp_path / "none.tsv"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.tsv: cannot be read" in done.stderr


def test_a_suites_teacher_is_for_the_tasks_that_have_one(tmp_path):
    (cola,) = find_tasks("cola")
    recipes = {"default": {"epochs": 3}, "cola": {suite.WITH_TEACHER: {"epochs": 5, "copies": 2}}}
    assert suite.recipe(recipes, cola, 0, tmp_path) == {"epochs": 3}
    assert suite.recipe(recipes, cola, 0, tmp_path, tmp_path / "encoder", tmp_path / "kept") == {
        "verb": "distill", "teacher": f"{tmp_path}/encoder", "teacher-output": f"{tmp_path}/kept/cola", "epochs": 5,
        "copies": 2,
    }  # fmt: skip
    assert suite.recipe({"default": {"epochs": 3}}, cola, 0, tmp_path, tmp_path / "encoder") == {"epochs": 3}


def options_of(verb):
    return {option.removeprefix("--") for x in verb.command.params for option in (*x.opts, *x.secondary_opts)}


def test_a_suites_recipes_name_known_tasks_and_options():
    recipes = yaml.safe_load(suite.RECIPES.read_text())
    for name, chosen in recipes.items():
        assert name == "default" or find_tasks(name)
        with_teacher = chosen.pop(suite.WITH_TEACHER, {})
        verb = {"train": train, "distill": distill}[chosen.get("verb", recipes["default"].get("verb", "train"))]
        assert set(chosen) <= options_of(verb) | suite.SPECIAL
        assert set(with_teacher) <= options_of(distill)


def test_a_suites_training_sets_have_no_leaks(tmp_path, capsys):
    (cola,) = find_tasks("cola")
    for name, lines in (("train", "1\ta\n0\tb\n1\tc\n"), ("dev", "1\tB\n0\td\n"), ("test", "0\tc\n1\td\n")):
        path = tmp_path / "data" / "cola" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"label\ttext\n{lines}")
    made = suite.prepare(cola, tmp_path / "data", tmp_path / "runs")
    assert [[x.text for x in read_examples(path)] for path in made] == [["a"], ["B"]]
    assert "1 to train on; 2 of train, 1 of dev left out" in capsys.readouterr().err
    before = [path.stat().st_mtime_ns for path in made]
    assert [path.stat().st_mtime_ns for path in suite.prepare(cola, tmp_path / "data", tmp_path / "runs")] == before


def test_a_part_of_train_lies_in_every_larger_part(tmp_path, capsys):
    (cola,) = find_tasks("cola")
    (tmp_path / "data/cola").mkdir(parents=True)
    for name, count in (("train", 40), ("dev", 5), ("test", 5)):
        rows = "".join(f"{i % 2}\t{name} {i}\n" for i in range(count))
        (tmp_path / f"data/cola/{name}.tsv").write_text("label\ttext\n" + rows)
    parts = [
        {x.text for x in read_examples(suite.prepare(cola, tmp_path / "data", tmp_path / str(share), share)[0])}
        for share in (0.1, 0.5, 1)
    ]
    assert [len(part) for part in parts] == [4, 20, 40]
    assert parts[0] < parts[1] < parts[2]
    assert "cola: 4 to train on" in capsys.readouterr().err
    command = [sys.executable, BENCHMARKS / "suite.py", "cola", "--data", tmp_path / "data", "--share", "0"]
    done = subprocess.run([*command, "-o", tmp_path / "runs"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--share must be in (0, 1]" in done.stderr


def test_a_shipped_model_says_what_it_gives_and_what_its_data_allows():
    (task,) = find_tasks("cyberbullying")
    figures = [Figure("cyberbullying", "accuracy", 0.8957, 4437, 0, x, "run") for x in ("float", "int8")]
    lines = ship.card("embbert-abuse", "# cyberbullying-0\n\nEmbBERT, seed 0.\n", task, figures).splitlines()
    assert lines[:3] == ["# embbert-abuse", "", "EmbBERT, seed 0."]
    rows = [line for line in lines if "89.57" in line]
    assert [row.split("|")[1].strip() for row in rows] == [
        "accuracy, cyberbullying test (4,437), float", "accuracy, cyberbullying test (4,437), compiled int8",
    ]  # fmt: skip
    assert any(task.licence in line for line in lines)
    assert any(task.note in line for line in lines)


def test_one_process_a_run(tmp_path):
    with suite.exclusively(tmp_path / "run") as first, suite.exclusively(tmp_path / "run") as second:
        assert (first, second) == (True, False)
    with suite.exclusively(tmp_path / "run") as again:
        assert again
    assert list(tmp_path.iterdir()) == []


def test_recovery_refuses_what_it_does_not_know(refused, tmp_path):
    given = (BENCHMARKS.parent / "models" / "embbert-snips", "--task", "snips", "--data", BENCHMARKS.parent / "data")
    said = refused("recovery", *given, "--methods", "prayer", "-o", tmp_path / "out")
    assert said == "recovery: method 'prayer' is not known: choose from LoRA, QAT\n"
    assert not (tmp_path / "out").exists()


def test_recorded_rows_are_shown_with_their_means_and_plotted(tmp_path, monkeypatch, capsys):
    rows = tmp_path / "rows.jsonl"
    sizes = {"weights": 2000, "flash": 3000, "arena": 500, "examples": 10}
    rows.write_text(
        "".join(
            json.dumps(
                {"model": m, "precision": s, "float": 0.9, "accuracy": a, "loss": 90 - 100 * a, "agreement": g} | sizes
            )
            + "\n"
            for m, s, a, g in (("x", "int8", 0.9, 1.0), ("y", "int8", 0.88, 0.96), ("x", "ternary, trained", 0.8, None))
        )
    )
    monkeypatch.setattr(sys, "argv", ["precisions", "--rows", str(rows)])
    precisions.main()
    shown = capsys.readouterr().out
    assert "int8 over 2 models: mean loss 1.00, worst 2.00, agreement 98.00" in shown
    assert any(line.split() == ["x", "ternary,", "trained", "90.00", "80.00", "10.00", "2,000", "3,000", "500"]
               for line in shown.splitlines())  # fmt: skip
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "argv", ["precisions", "--rows", str(rows), "--plot", str(tmp_path / "p.png")])
    precisions.main()
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_tutorials_commands_need_no_board():
    verbs = ["train", "compile", "validate", "run", "firmware", "run"]
    found = tutorial.commands(tutorial.PAGE)
    assert [arguments[2] for arguments in found] == verbs
    assert not {"--flash", "serial:/dev/ttyACM0"} & {word for arguments in found for word in arguments}
    assert found[-1][3:] == ["build/mine", "--on", "qemu", "turn the lights on"]


def test_readmes_commands_are_all_run():
    page = tutorial.PAGE.parents[1] / "README.md"
    found = tutorial.commands(page)
    assert sum(arguments[0] == "-c" for arguments in found) == page.read_text().count("```python")
    shown = re.findall(r"^    (?:\.venv/bin/)?embbert-tvm (\w+)", page.read_text(), re.MULTILINE)
    assert [arguments[2] for arguments in found if arguments[0] == "-m"] == shown


def test_the_tutorials_set_has_each_label_as_often(tmp_path):
    write_examples(tmp_path / "all.tsv", [Example(label, "a b") for label in "xyxxyxz"])
    tutorial.write_set(tmp_path / "mine.tsv", tmp_path / "all.tsv", 2)
    assert [example.label for example in read_examples(tmp_path / "mine.tsv")] == ["x", "y", "x", "y", "z"]


def test_typos_are_in_so_many_longer_words_and_one_edit_each():
    examples = [Example("a", f"the w0rd {word} ends", word) for word in ("weather", "alarm", "berlin", "kettle") * 50]
    assert typos.with_typos(examples, 0.0) == examples
    some, all_of_them = typos.with_typos(examples, 0.3), typos.with_typos(examples, 1.0)
    assert some == typos.with_typos(examples, 0.3)
    assert [x.label for x in some] == [x.label for x in examples]
    pairs = [(x.text_pair, y.text_pair) for x, y in zip(examples, some, strict=True)]
    assert 0.2 < sum(x != y for x, y in pairs) / len(pairs) < 0.35  # an edit may not show
    for before, after in zip(examples, all_of_them, strict=True):
        words, found = before.text.split(" "), after.text.split(" ")
        assert found[:2] == words[:2]  # too short, and no word of letters
        assert all(abs(len(x) - len(y)) <= 1 for x, y in zip(words, found, strict=True))
    assert {len(y.text_pair) - len(x.text_pair) for x, y in zip(examples, all_of_them, strict=True)} == {-1, 0, 1}
