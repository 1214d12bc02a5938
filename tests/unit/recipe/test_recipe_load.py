from pathlib import Path

import pytest

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.core.run_dir import write_json
from tunesmith.recipe import FullMethod, LoraMethod
from tunesmith.recipe.load import load_recipe, recipe_from_resolved, resolved

LEAST = "model: tiny\ntask: chat\ndata:\n  train: a.jsonl\n"


@pytest.fixture
def write(tmp_path: Path):
    def write_recipe(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


def faults_of(source: object, *overrides: str) -> tuple[Fault, ...]:
    with pytest.raises(RecipeError) as error:
        load_recipe(source, overrides)
    return error.value.faults


def only_fault(source: object, *overrides: str) -> Fault:
    (fault,) = faults_of(source, *overrides)
    return fault


def test_the_least_recipe_loads_with_its_text(write) -> None:
    path = write(LEAST)
    loaded = load_recipe(path)
    assert loaded.text == LEAST
    assert loaded.recipe.data.train == str(path.parent / "a.jsonl")


def test_every_value_has_an_origin(write) -> None:
    path = write(LEAST + "method: {type: lora, rank: 8}\n")
    loaded = load_recipe(path, ["training.epochs=1", "method.alpha=4"])
    assert loaded.origins["method.rank"] == "file"
    assert loaded.origins["method.alpha"] == "flag"
    assert loaded.origins["method.dropout"] == "default"
    assert loaded.origins["training.epochs"] == "flag"
    assert loaded.origins["model.source"] == "file"
    assert loaded.origins["model.dtype"] == "default"


def test_the_default_learning_rate_is_shown_resolved(write) -> None:
    loaded = load_recipe(write(LEAST), ["method=full"])
    content = resolved(loaded)
    assert content["recipe"]["training"]["learning_rate"] == 2e-5
    assert content["origins"]["training.learning_rate"] == "default"


def test_a_resolved_recipe_is_read_back_equal(write, tmp_path: Path) -> None:
    loaded = load_recipe(write(LEAST), ["training.warmup=5%", "method.targets=[q_proj, v_proj]"])
    write_json(tmp_path / "resolved.json", resolved(loaded))
    assert recipe_from_resolved(tmp_path / "resolved.json") == loaded.recipe


@pytest.mark.parametrize(
    ("override", "found", "fix"),
    [
        ("data.train=''", "data.train is empty", "text that is not empty"),
        ("training.betas=[0.9]", "training.betas is [0.9]", "two numbers from 0 to below 1"),
        ("tracking.to=3", "tracking.to is 3", "write a list"),
        ("evaluation.metrics=3", "evaluation.metrics is 3", "write a list"),
        ("method.targets=[]", "method.targets is []", "a list of module names"),
        ("data.columns=[]", "data.columns is []", "the part's keys below it"),
    ],
)
def test_no_sentence_of_the_validation_library_is_shown(
    override: str, found: str, fix: str
) -> None:
    source = {"model": "tiny", "task": "chat", "data": {"train": "sample:support-desk"}}
    fault = only_fault(source, override)
    assert fault.found == found
    assert fix in fault.fix
    assert "should" not in fault.fix.lower()


def test_a_damaged_resolved_recipe_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "resolved.json", {"recipe": {"model": {"source": "x"}}})
    with pytest.raises(RecipeError, match="task is missing"):
        recipe_from_resolved(tmp_path / "resolved.json")
    write_json(tmp_path / "resolved.json", [])
    with pytest.raises(RecipeError):
        recipe_from_resolved(tmp_path / "resolved.json")


def test_a_mapping_is_a_recipe_too() -> None:
    source = {"model": "tiny", "task": "chat", "data": {"train": "sample:support-desk"}}
    loaded = load_recipe(source, ["method.rank=4"])
    assert loaded.recipe.method == LoraMethod(rank=4)
    assert "sample:support-desk" in loaded.text
    assert source["model"] == "tiny"


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-4", "+1e-4"])
def test_a_number_is_a_number_in_every_spelling(write, text: str) -> None:
    loaded = load_recipe(write(LEAST + f"training: {{learning_rate: {text}}}\n"))
    assert loaded.recipe.training.learning_rate == 1e-4
    assert (
        load_recipe(write(LEAST), [f"training.learning_rate={text}"]).recipe.learning_rate == 1e-4
    )


def test_paths_of_a_file_start_at_its_folder_and_paths_of_a_flag_here(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(LEAST + "  validation: sub/held.jsonl\n  test: last.jsonl\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe(path, ["data.train=b.jsonl"]).recipe
    assert recipe.data.train == str(tmp_path / "here" / "b.jsonl")
    assert recipe.data.validation == str(tmp_path / "sub" / "held.jsonl")
    assert recipe.data.test == str(tmp_path / "last.jsonl")


def test_home_is_expanded_and_samples_and_shares_stay(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    path = write("model: ~/m\ntask: chat\ndata: {train: 'sample:support-desk', validation: 5%}\n")
    recipe = load_recipe(path).recipe
    assert recipe.model.source == "/home/someone/m"
    assert recipe.data.train == "sample:support-desk"
    assert str(recipe.data.validation) == "5%"


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "owner/model"])
def test_a_models_name_is_no_path(write, name: str) -> None:
    assert load_recipe(write(LEAST.replace("tiny", name))).recipe.model.source == name


def test_a_models_folder_beside_the_recipe_is_found(write, tmp_path: Path) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    recipe = load_recipe(write(LEAST.replace("tiny", "models/tiny"))).recipe
    assert recipe.model.source == str(tmp_path / "models" / "tiny")


def test_set_replaces_a_whole_part(write) -> None:
    path = write(LEAST + "method: {type: lora, rank: 8}\n")
    loaded = load_recipe(path, ["method=full"])
    assert loaded.recipe.method == FullMethod()
    assert loaded.origins["method.type"] == "flag"
    assert load_recipe(path, ["method={rank: 2}"]).recipe.method == LoraMethod(rank=2)


def test_set_goes_into_a_shorthand(write) -> None:
    assert load_recipe(write(LEAST + "method: lora\n"), ["method.rank=2"]).recipe.method.rank == 2


def test_the_last_set_of_a_key_wins(write) -> None:
    loaded = load_recipe(write(LEAST), ["training.seed=1", "training.seed=2"])
    assert loaded.recipe.training.seed == 2


def test_set_mends_a_wrong_value_of_the_file(write) -> None:
    path = write(LEAST + "training: {seed: x}\n")
    assert load_recipe(path, ["training.seed=2"]).recipe.training.seed == 2


def test_set_takes_null_for_what_may_be_missing(write) -> None:
    path = write(LEAST + "training: {max_steps: 5}\n")
    assert load_recipe(path, ["training.max_steps=null"]).recipe.training.max_steps is None


@pytest.mark.parametrize(
    ("override", "found", "fix"),
    [
        ("training.epoch=1", "unknown key training.epoch", "epochs"),
        ("trainnig.epochs=1", "unknown key trainnig", "did you mean training"),
        ("training.seed=", "training.seed is left blank", "--set training.seed=VALUE"),
        ("seed", "no key=value", "key=value"),
        ("seed=1", "unknown key seed", "training.seed"),
        ("training.epochs=three", "the text 'three'", "a number"),
        ("training.betas=[1", "no valid YAML", "quote"),
        ("training.seed.x=1", "training.seed holds a value", "--set training.seed=VALUE"),
    ],
)
def test_a_wrong_set_names_itself(write, override: str, found: str, fix: str) -> None:
    fault = only_fault(write(LEAST), override)
    assert found in fault.found
    assert fix in fault.fix
    assert fault.where == f"--set {override}"


def test_all_faults_come_at_once_each_with_its_line(write) -> None:
    path = write(
        "model: tiny\n"
        "task: chat\n"
        "learning_rte: 1e-4\n"
        "data: {train: a.jsonl, max_lenght: 3}\n"
        "training:\n"
        "  epochs: three\n"
    )
    faults = faults_of(path)
    assert {fault.where for fault in faults} == {
        f"{path}:3, learning_rte",
        f"{path}:4, data.max_lenght",
        f"{path}:6, training.epochs",
    }


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("learning_rte: 1e-4", "did you mean learning_rate? it is written training.learning_rate"),
        ("evaluation_strategy: steps", "training.evaluate_every"),
        ("per_device_train_batch_size: 8", "training.tokens_per_step"),
        ("num_train_epochs: 3", "training.epochs"),
        ("lora_r: 8", "method.rank"),
        ("rank: 8", "method.rank"),
        ("output_dir: out", "--run-dir"),
        ("temperature: 0.5", "tunesmith chat"),
        ("export: [{type: gguf}]", "final/"),
        ("zzz: 1", "x_"),
    ],
)
def test_an_unknown_key_is_answered_by_its_kind(write, line: str, fix: str) -> None:
    assert fix in only_fault(write(LEAST + line + "\n")).fix


def test_a_key_of_the_other_method_is_said_to_be_so(write) -> None:
    fault = only_fault(write(LEAST + "method: {type: full, rank: 8}\n"))
    assert "does not belong to this method" in fault.found


def test_keys_for_own_use_are_noted(write) -> None:
    loaded = load_recipe(write(LEAST + "x_team: blue\n"))
    assert loaded.notes[0].endswith(
        "recipe.yaml:5, x_team: a key for your own use, not read by Tunesmith"
    )
    assert only_fault(write(LEAST + "training: {x_team: blue}\n")).found.startswith("unknown key")


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("method: {type: lora, rank: }\n", "method.rank"),
        ("training:\n  epochs:\n", "training.epochs"),
        ("training:\n", "training"),
        ("evaluation: {metrics: [json-match, ]}\nmethod:\n", "method"),
    ],
)
def test_a_blank_value_is_refused_by_name(write, lines: str, name: str) -> None:
    assert only_fault(write(LEAST + lines)).found == f"{name} is left blank"


def test_a_blank_key_that_does_not_exist_is_told_both(write) -> None:
    found = [fault.found for fault in faults_of(write(LEAST + "method: {r: }\n"))]
    assert found == ["method.r is left blank", "unknown key method.r: another tool's name"]


def test_a_key_given_twice_is_refused(write) -> None:
    fault = only_fault(write(LEAST + "training: {seed: 1}\ntraining: {seed: 2}\n"))
    assert "training is given twice, first on line 5" in fault.found
    assert ":6" in fault.where


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("method: bitfit\n", ("bitfit", "not available in this version", "method: lora")),
        ("strategy: zero\n", ("zero", "deepspeed")),
        ("strategy: ray\n", ("ray", "single")),
        ("model: {source: tiny, load_in_4bit: true}\n", ("load_in_4bit", "model.base: nf4")),
        ("model: {source: tiny, dtype: nf4}\n", ("nf4", "model.base")),
        ("task: token-classification\n", ("another name", "task: ner")),
        ("task: sft\n", ("sft", "task: chat")),
        ("model: {source: tiny, dtype: fp16}\n", ("fp16", "bf16")),
        ("evaluation: {metrics: [bleu]}\n", ("bleu", "task: translation")),
    ],
)
def test_what_does_not_exist_yet_names_what_works(
    write, lines: str, words: tuple[str, ...]
) -> None:
    key = lines.partition(":")[0]
    kept = "".join(f"{line}\n" for line in LEAST.splitlines() if not line.startswith(f"{key}:"))
    fault = only_fault(write(kept + lines))
    assert all(word in f"{fault.found} {fault.fix}" for word in words)


def test_the_type_that_was_found_and_the_one_wanted_are_named(write) -> None:
    fault = only_fault(write(LEAST + "training: {seed: '1'}\n"))
    assert fault.found == "training.seed is the text '1'"
    assert "a whole number" in fault.fix
    revision = LEAST.replace("model: tiny", "model: {source: a/b, revision: 1234567}")
    assert "in quotes" in only_fault(write(revision)).fix


def test_a_near_word_is_suggested(write) -> None:
    assert "did you mean cosine?" in only_fault(write(LEAST + "training: {schedule: cosin}\n")).fix
    assert "did you mean chat?" in only_fault(write(LEAST.replace("chat", "chatt"))).fix


@pytest.mark.parametrize("missing", ["model", "task", "data"])
def test_what_is_missing_is_named_with_an_example(missing: str) -> None:
    values = {"model": "tiny", "task": "chat", "data": {"train": "a.jsonl"}}
    del values[missing]
    fault = only_fault(values)
    assert fault.found == f"{missing} is missing"
    assert f"add {missing}: " in fault.fix


def test_a_part_that_is_no_mapping_says_its_keys(write) -> None:
    fault = only_fault(write("model: tiny\ntask: chat\ndata: a.jsonl\n"))
    assert "data is the text 'a.jsonl'" in fault.found
    assert "train" in fault.fix


def test_a_missing_recipe_names_the_nearest(write, tmp_path: Path) -> None:
    write(LEAST)
    fault = only_fault(tmp_path / "recpe.yaml")
    assert "no such recipe" in fault.found
    assert "recipe.yaml" in fault.fix
    assert "no such folder" in only_fault(tmp_path / "none" / "recipe.yaml").found


def test_a_file_that_is_no_recipe_is_refused(write, tmp_path: Path) -> None:
    assert "a folder" in only_fault(tmp_path).found
    assert "empty recipe" in only_fault(write("# nothing\n")).found
    assert "no `key: value` lines" in only_fault(write("- a\n- b\n")).found
    assert "no `key: value` lines" in only_fault(write("just words\n")).found
    assert "too large" in only_fault(write("#" * 2_000_000)).found


def test_a_recipe_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"model: tiny\nx_who: tin\xe9\n")
    fault = only_fault(path)
    assert "not UTF-8" in fault.found
    assert fault.where.endswith(":2")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load_recipe(path).recipe.model.source == "tiny"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model: [a\n", "no valid YAML"),
        ("\tmodel: a\n", "no valid YAML"),
        ("model: &a x\ntask: *a\n", "alias"),
        ("model: !!python/object:os.system x\n", "tag"),
        ("a: " + "[" * 5000, "no valid YAML"),
        ("model: a\n---\nmodel: b\n", "no valid YAML"),
    ],
)
def test_yaml_that_a_recipe_does_not_need_is_refused(write, text: str, word: str) -> None:
    assert any(word in fault.found for fault in faults_of(write(text)))


def test_a_date_and_a_word_of_digits_stay_text(write) -> None:
    path = write(LEAST.replace("model: tiny", "model: {source: a/b, revision: 2024-01-31}"))
    assert load_recipe(path).recipe.model.revision == "2024-01-31"


def test_a_data_set_on_the_hub_is_no_path_unless_there_is_one(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: m\ntask: chat\ndata: {train: 'owner/name:train', validation: 'owner/own'}\n"
    )
    data = load_recipe(recipe).recipe.data
    assert (data.train, data.validation) == ("owner/name:train", "owner/own")
    (tmp_path / "owner" / "own").mkdir(parents=True)
    data = load_recipe(recipe).recipe.data
    assert (data.train, data.validation) == ("owner/name:train", str(tmp_path / "owner" / "own"))
    recipe.write_text("model: m\ntask: chat\ndata: {train: rows/train.jsonl}\n")
    assert load_recipe(recipe).recipe.data.train == str(tmp_path / "rows" / "train.jsonl")
