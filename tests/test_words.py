"""The sources, pages and messages use the field's words: those on the left below are gone, and do not come back."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("embbert_tvm", "tests", "benchmarks", "fuzz", "docs", "targets", "requirements")
SUFFIXES = (".py", ".c", ".h", ".in", ".md", ".toml", ".yaml", ".yml")
# By regular expression: what to say in its place.
INSTEAD = {
    r"addends?": "residual input",
    r"[Tt]wins?|TWINS?": "intrinsic and reference",
    r"dice": "rng",
    r"_?[Jj]udge[sd]?|judging|judgements?": "label, score or check",
    r"donors?|grafts?|grafted|splices?|spliced|corrupted": "auxiliary text, replaced spans, mixed or noised sentences",
    r"def (splice|graft|corrupt)": "mix_sentences, replace_spans, add_noise",
    r"quads?|QUADS?|panels?|PANELS?|half_panels": "N-tile of 4, packed layout",
    r"pairs matrix": "row-interleaved matrix",
    r"_?gram": "second moments, Hessian",
    r"NARROW|WIDE, NARROW|narrow constants": "compressed constants",
    r"block_layers": "fuse_row_blocks",
    r"_?settle[sd]?": "commit prefix",
    r"_?knock|at_work|gone_on_with|take to heart|_?mend": "check_reachable, serve_in_thread, resume, update, repair",
    r"_?[Uu]nfit|unserved": "unsupported, not fused",
    r"deaf_at_start|pokes?": "drops_input_until_enabled, register write",
    r"no whole number|is no plan": "not an integer, not a plan file",
    r"[Aa]sked for|ASKED": "requested",
    r"[Dd]escribed(?! (in|by|above|below))": "reference",
    r"turned(?! (on|off|away|up|round|out))": "transposed, projected",
    r"operator\.follows": "precision_source",
    r"def (rows|real)\((q|self), expr|\.real\(": "quantized, dequantized",
    r"\"common\"|common\[|common_scale|const int32_t \*common": "channel_rescale",
    r"(spec|stage|found)\.lookups|lookups(:|=)": "small_tables",
    r"(spec|stage)\.single|single=(True|False)|single: bool": "one_row",
    r"Schemes?|SCHEMES?|(plan|contents|front|row)\.scheme": "precision, tokenizer_spec",
    r"pairs=(True|False)|pairs: bool|\w+_pairs_row\w*": "interleaved",
    r"whole_(filters|cycles)|WholeCycles|call\.whole": "filters_by_channel, inference_cycles, interleaved_tensor",
    r"Narrow(ing)?|NARROW_BITS": "Rescale",
    r"DOT_FORM|EMBBERT_DOT_FORM|class Form|order\.form": "variant, inner loop",
    r"_ngrams_alone|normalize_alone|called = isa": "only, sums, by_intrinsics",
    r"(spec|stage|table|source|residual)\.form|form: WeightFormat": "weight_format",
    r"with_moments|[Cc]alibration\.moments|graph\.moments|graph import moments": "second_moments",
    r"class (Step|Output|Source)|import Source|compiler\.Source": "CallStep, StepRecord, StepOutput, ModelSource",
    r"class (Teacher)?Progress": "SearchStatus, TrainingCallbacks, PretrainingCallbacks, TeacherCallbacks",
    r"class Block(?!\(nn\.Module)": "Allocation, BasicBlock, BlockContext, ParameterPart",
}  # fmt: skip
# Everyday English, and what older files, commands and published runs say.
ALLOWED = (
    r"(can|to|levels|voltages) settle|time_to_settle|settles for",
    r'"--(copies|corrupted|grafted|donors)[="]',
    r'\{seed\} (splice|graft|corrupt)"',
)


def sources() -> list[Path]:
    """Files that people read, without those of data, of models and of what fuzzers found."""
    inside = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "corpus" not in path.parts)
    found = (path for path in (*ROOT.glob("*"), *inside) if path.suffix in SUFFIXES and path.name != "CHANGELOG.md")
    return [path for path in found if path.is_file() and path != Path(__file__)]


def lines_with(pattern: str, text: str) -> list[int]:
    """Numbers of the lines that have a word, apart from what is allowed."""
    left = re.sub("|".join(ALLOWED), lambda allowed: "." * len(allowed[0]), text)
    return [left.count("\n", 0, found.start()) + 1 for found in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", left)]


def test_private_words_are_gone():
    any_word = "|".join(INSTEAD)
    found = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if lines_with(any_word, text):
            found += [
                f"{path.relative_to(ROOT)}:{line}: say {say}"
                for word, say in INSTEAD.items()
                for line in lines_with(word, text)
            ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = addend\n", [1]),
        ("\nread the addends", [2]),
        ("residuals and addendum", []),
        ("so that what it switched can settle", []),
        ('OLD = {"--donors": "--auxiliary"}', []),
        ("the donors give words", [1]),
        ("a layout described in docs/kernels.md", []),
        ("called and described", [1]),
    ],
)
def test_words_are_told_from_everyday_english(text, lines):
    assert lines_with("|".join(INSTEAD), text) == lines


LONGEST_SENTENCE = 40  # words; parts between semicolons or colons count apart


def prose(page: str) -> list[str]:
    """The sentences of a page, without code, tables and headings."""
    page = re.sub(r"```.*?```|`[^`]*`", "code", page, flags=re.DOTALL)
    page = re.sub(r"^(    .*|\|.*|#.*)$", "", page, flags=re.MULTILINE)
    page = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", page)
    parts = re.split(r"\n\s*\n|\n(?=- |\d+\. )", page)
    return [sentence for part in parts for sentence in re.split(r"(?<=[.:;])\s+", " ".join(part.split()))]


def test_sentences_of_pages_have_one_thought():
    pages = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *(ROOT / "docs").rglob("*.md")]
    found = [
        f"{path.relative_to(ROOT)}: {sentence}"
        for path in pages
        for sentence in prose(path.read_text(encoding="utf-8"))
        if len(sentence.split()) > LONGEST_SENTENCE
    ]
    assert not found, "\n".join(found)


def test_docstrings_begin_with_a_noun_or_a_verb():
    """Not with a preposition, which leaves out what the sentence is about."""
    found = []
    for path in sorted([*(ROOT / "embbert_tvm").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.match(r'\s*"""(Of|By|For|As|At|To|In|With|On|Like) ', line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)
