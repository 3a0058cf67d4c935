import contextlib
import json
from textwrap import dedent

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlsys import errors, recipe
from mlsys.recipe import loading
from mlsys.recipe.columns import span_us

MINIMAL = "name: demo\ntarget: late\ndata: {source: flights.csv}\n"


def refusal(text, *settings):
    """The error that a recipe text raises."""
    with pytest.raises(errors.RecipeError) as caught:
        recipe.parse(text, settings)
    return caught.value


def test_three_keys_are_a_recipe():
    parsed = recipe.parse(MINIMAL)
    assert (parsed.name, parsed.target, parsed.data.source) == ("demo", "late", "flights.csv")
    assert (parsed.selection.families, parsed.tune.trials) == ("auto", "auto")
    assert parsed.split.fractions == {"train": 0.7, "validation": 0.15, "test": 0.15}


def test_the_resolved_recipe_reproduces_itself():
    parsed = recipe.parse(MINIMAL, ["train.rounds=200", "data.kinds={tailnum: categorical}"])
    assert recipe.parse(recipe.dump(parsed)) == parsed


def test_the_resolved_recipe_states_every_default():
    stated = yaml.safe_load(recipe.dump(recipe.parse(MINIMAL)))
    assert set(stated) == set(recipe.Recipe.model_fields)
    for name, field in recipe.Recipe.model_fields.items():
        section = loading._section_of(field.annotation)
        if section is not None and field.default is not None:
            assert set(stated[name]) == set(section.model_fields)


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("train.rounds=200", lambda r: r.train.rounds == 200),
        ("target=delay", lambda r: r.target == "delay"),
        ("selection.families=[dummy, linear]", lambda r: r.selection.families == ("dummy", "linear")),
        ("evaluate.gate.roc_auc.min=0.7", lambda r: r.evaluate.gate["roc_auc"].min == 0.7),
        ("data.id=null", lambda r: r.data.id is None),
        ("data.source=a=b.csv", lambda r: r.data.source == "a=b.csv"),
    ],
)
def test_a_setting_overrides_one_value(setting, read):
    assert read(recipe.parse(MINIMAL, [setting]))


def test_a_recipe_cannot_be_changed_after_it_was_read():
    with pytest.raises(ValueError, match="frozen"):
        recipe.parse(MINIMAL).train.rounds = 3


def test_a_misspelt_key_is_answered_with_the_nearest():
    assert str(refusal(MINIMAL + "trian: {rounds: 10}\n")) == dedent("""\
        recipe: unknown key 'trian'
          got:      trian
          expected: a key of the recipe
          hint:     did you mean 'train'?""")


def test_a_misspelt_key_inside_a_section_is_answered_from_that_section():
    error = refusal(MINIMAL + "train: {ronds: 10}\n")
    assert error.field == "train.ronds"
    assert str(error).endswith("did you mean 'rounds'?")


def test_a_misspelt_key_of_a_join_is_answered_from_the_join():
    join = "features: {joins: {weather: {source: w.csv, keys: [origin], lokback: 3h}}}\n"
    assert str(refusal(MINIMAL + join)).endswith("did you mean 'lookback'?")


def test_a_misspelt_key_is_named_before_the_key_that_is_therefore_missing():
    assert refusal("name: demo\ntraget: late\ndata: {source: x.csv}\n").field == "traget"


AGGREGATE = "recipe: 'features.joins.weather.aggregates.rain'"


def joined(aggregate):
    return f"features: {{joins: {{weather: {{source: w, keys: [a], time: t, aggregates: {{rain: {aggregate}}}}}}}}}\n"


@pytest.mark.parametrize(
    ("text", "first_line", "part"),
    [
        ("name: demo\ndata: {source: x.csv}\n", "recipe: 'target' is missing", "add 'target: …'"),
        (MINIMAL + "train: {rounds: 0}\n", "recipe: 'train.rounds'", "greater than or equal to 1"),
        (MINIMAL + "train: {rounds: many}\n", "recipe: 'train.rounds'", "got:      'many'"),
        ("name: Demo Run\ntarget: y\ndata: {source: x.csv}\n", "recipe: 'name'", "a small letter"),
        (MINIMAL + "split: {by: tim}\n", "recipe: 'split.by'", "'tim'"),
        (MINIMAL + joined("{function: sum, window: 1h}"), AGGREGATE, "expected: a column for sum"),
        (MINIMAL + joined("{function: count, column: mm, window: 1h}"), AGGREGATE, "expected: no column"),
        (MINIMAL + joined("{function: count, window: 0h}"), f"{AGGREGATE[:-1]}.window'", "got:      '0h'"),
        (MINIMAL + joined("{function: last, window: 1h}"), f"{AGGREGATE[:-1]}.function'", "'distinct'"),
        ("- a\n- b\n", "recipe: recipe", "got:      list"),
        ("name: [\n", "recipe: recipe", "expected: YAML"),
        ("", "recipe: recipe", "got:      NoneType"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(text, first_line, part):
    message = str(refusal(text))
    assert message.splitlines()[0] == first_line
    assert part in message


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("train.rounds", "expected: key=value, e.g. train.rounds=200"),
        ("=3", "expected: key=value, e.g. train.rounds=200"),
        ("target.name=x", "'target' is a value"),
        ("train.ronds=3", "did you mean 'rounds'?"),
        ("train.rounds=[", "expected: YAML"),
    ],
)
def test_a_wrong_setting_is_refused(setting, part):
    assert part in str(refusal(MINIMAL, setting))


def test_a_setting_reaches_into_a_section_that_was_left_empty():
    assert recipe.parse(MINIMAL + "train:\n", ["train.rounds=7"]).train.rounds == 7


def test_an_empty_section_is_its_defaults():
    assert recipe.parse(MINIMAL + "train:\ntune:\n") == recipe.parse(MINIMAL)


def test_dates_need_no_quotation_marks():
    until = "split: {by: time, until: {train: 2013-09-01, test: 2013-11-01 00:00:00}}\n"
    assert recipe.parse(MINIMAL + until).split.until == {"train": "2013-09-01", "test": "2013-11-01 00:00:00"}


def test_a_key_that_stands_twice_is_refused():
    assert "key 'target' stands twice" in str(refusal(MINIMAL + "target: delay\n"))


def test_a_missing_file_is_answered_with_the_nearest_recipe(tmp_path):
    (tmp_path / "flights.yaml").write_text(MINIMAL)
    with pytest.raises(errors.RecipeError, match=r"did you mean 'flights\.yaml'") as caught:
        recipe.load(tmp_path / "fligths.yaml")
    assert "nothing there" in str(caught.value)


def test_a_missing_file_where_no_recipe_is_is_answered_with_the_verb_that_writes_one(tmp_path):
    with pytest.raises(errors.RecipeError, match="`mlsys init TABLE --target COLUMN` writes one"):
        recipe.load(tmp_path / "flights.yaml")


def test_a_setting_that_yaml_takes_for_a_mark_is_told_how_to_quote():
    error = refusal(MINIMAL, "data.reading.decimal=,")
    quoted = str(error).partition("--set '")[2].removesuffix("'")
    assert recipe.parse(MINIMAL, [quoted]).data.reading.decimal == ","


def test_a_missing_folder_is_an_error_of_the_recipe(tmp_path):
    with pytest.raises(errors.RecipeError, match="nothing there"):
        recipe.load(tmp_path / "nowhere" / "demo.yaml")


@pytest.mark.parametrize("content", [b"name: d\xe9mo\n", None], ids=["another encoding", "a folder"])
def test_a_file_that_cannot_be_read_is_an_error_of_the_recipe(tmp_path, content):
    path = tmp_path / "demo.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(errors.RecipeError, match="a readable YAML file in UTF-8"):
        recipe.load(path)


def test_yaml_cannot_make_python_objects():
    refusal("name: !!python/object/apply:os.getcwd []\n")


COLUMNS = MINIMAL + "features: {columns: {distance: %s}}\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("numeric", ["numeric"]),
        ("{operation: numeric, impute: 0}", ["numeric"]),
        ("[datetime, {operation: onehot, max_categories: 9}]", ["datetime", "onehot"]),
    ],
)
def test_a_column_is_one_line_that_comes_back_as_it_was_written(line, words):
    parsed = recipe.parse(COLUMNS % line)
    assert [step.operation for step in parsed.features.columns["distance"]] == words
    written = recipe.dump(parsed)
    assert recipe.parse(written) == parsed
    assert yaml.safe_load(written)["features"]["columns"]["distance"] == yaml.safe_load(line)
    jsonschema.validate(yaml.safe_load(written), json.loads(recipe.json_schema()))


@pytest.mark.parametrize(
    ("line", "got", "expected", "hint"),
    [
        ("onehott", "onehott", "an operation", "did you mean 'onehot'?"),
        ("{scale: robust}", "{'scale': 'robust'}", "an operation", "known: "),
        ("3", "3", "an operation", "known: "),
        ("[numeric, 3]", "3", "an operation", "known: "),
        ("[]", "()", "an operation", "known: "),
        (
            "{operation: numeric, imput: mean}",
            "imput, which has no effect on numeric",
            "an option of numeric",
            "did you mean 'impute'?",
        ),
        (
            "{operation: onehot, impute: mean}",
            "impute, which has no effect on onehot",
            "an option of onehot",
            "known: max_categories, min_rows",
        ),
        (
            "{operation: drop, impute: mean}",
            "impute, which has no effect on drop",
            "no options: drop has none",
            "distance: drop",
        ),
        ("{operation: numeric, bins: 4, log: true}", "{", "bins alone: log would have no effect", ""),
        ("{operation: numeric, impute: constant}", "'constant'", "'mean', 'median' or 'none' or a valid number", ""),
        ("{operation: numeric, impute: 1.0e+39}", "1e+39", "'mean', 'median' or 'none' or less than", ""),
        ("{operation: numeric, bins: 1}", "1", "greater than or equal to 2", ""),
        ("{operation: datetime, parts: [hours]}", "'hours'", "'hour', 'weekday' or 'yearday'", ""),
    ],
)
def test_a_line_of_a_column_that_cannot_be_is_answered_with_what_could(line, got, expected, hint):
    error = refusal(COLUMNS % line)
    message = str(error)
    assert message.startswith("recipe: features.columns 'distance'")
    assert f"got:      {got}" in message
    assert f"expected: {expected}" in message
    assert hint in message
    assert error.field == "distance"


def test_the_json_schema_accepts_the_resolved_recipe_and_refuses_an_unknown_key():
    schema = json.loads(recipe.json_schema())
    resolved = yaml.safe_load(recipe.dump(recipe.parse(MINIMAL)))
    jsonschema.validate(resolved, schema)
    with pytest.raises(jsonschema.ValidationError, match="tagret"):
        jsonschema.validate({**resolved, "tagret": "late"}, schema)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_yaml_is_a_recipe_or_an_error_of_the_recipe(tree):
    with contextlib.suppress(errors.RecipeError):
        recipe.parse(yaml.safe_dump({"name": "demo", "target": "y", "data": tree}))


@pytest.mark.parametrize("k_of_m", [[0, 3], [5, 3], [-1, 2], [0, 0]])
def test_a_retraining_that_is_always_or_never_due_is_refused(k_of_m):
    with pytest.raises(errors.RecipeError) as caught:
        recipe.parse(f"name: a\ntarget: y\ndata: {{source: a}}\nmonitor: {{retrain_after: {k_of_m}}}\n")
    assert str(caught.value) == (
        f"recipe: 'monitor.retrain_after'\n  got:      {k_of_m}\n  expected: [k, m] with 1 <= k <= m, e.g. [2, 3]"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {source: a, incremental: {cursor: c, lookback: abc}}", "'data.incremental.lookback'.*a unit of us, ms"),
        ("data: {source: a, freshness: 1w}", "'data.freshness'.*got: +'1w'.*3h or 2d"),
        (
            "data: {source: a}\nfeatures: {joins: {w: {source: b, keys: [k], time: t, lookback: 3 moons}}}",
            "'features.joins.w.lookback'.*got: +'3 moons'.*3h or 2d",
        ),
        ("data: {source: a}\ndeploy: {lookup: mysql://x}", "'deploy.lookup'.*expected: sqlite, none, or an address"),
        ("data: {source: a, reading: {delimiter: '||'}}", "'data.reading.delimiter'.*expected: one ASCII character"),
        ("data: {source: []}", "'data.source'.*at least 1 item"),
        ("data: {source: ''}", "'data.source'.*at least 1 character"),
        ("data: {source: 5}", "'data.source'.*expected: text or a list"),
        ("data: {source: a, dedupe: k}", "'data.dedupe'.*expected: a section"),
        ("data: {source: a}\nloss: poison", "'loss'.*got: +'poison'.*expected: auto, poisson, .*with 0 < Q < 1, or"),
        ("data: {source: a}\nloss: {quantile: 90}", "'loss'.*got: +{'quantile': 90}.*expected: auto, poisson, tweedie"),
        ("data: {source: a}\nloss: {tweedie: 2}", "'loss'.*or {tweedie: P} with 1 < P < 2$"),
        ("data: {source: a}\nloss: {quantil: 0.9}", "'loss'.*got: +{'quantil': 0.9}"),
        ("data: {source: a}\nloss: {quantile: high}", "'loss'.*got: +{'quantile': 'high'}"),
        ("data: {source: a}\nloss: 0.9", "'loss'.*got: +0.9"),
        ("data: {source: a, kinds: {x: num}}", "'data.kinds.x'.*expected: 'numeric', 'categorical'"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_key_and_answered_in_the_words_of_yaml(text, message):
    with pytest.raises(errors.RecipeError, match=f"(?s)recipe: {message}"):
        recipe.parse(f"name: a\ntarget: y\n{text}\n")


def test_a_loss_is_a_word_or_a_word_with_its_number():
    texts = ["loss: gamma", "loss: {quantile: 0.9}", "loss: {tweedie: 1.25}", ""]
    read = [recipe.parse(f"name: a\ntarget: y\ndata: {{source: a}}\n{text}\n").loss for text in texts]
    assert read == ["gamma", {"quantile": 0.9}, {"tweedie": 1.25}, "auto"]
    assert recipe.parse("name: a\ntarget: y\ndata: {source: a}", ["loss.quantile=0.5"]).loss == {"quantile": 0.5}


def patterned(node, key=""):
    """Keys of a JSON schema whose values have to match a pattern."""
    if isinstance(node, list):
        for one in node:
            yield from patterned(one, key)
    if isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            yield key
        for name, inner in node.items():
            yield from patterned(inner, key if name == "anyOf" else name)


def test_every_pattern_of_a_recipe_is_said_in_words():
    spans = {"budget", "lookback", "freshness", "window", "history", "every", "idle"}  # said by `span_us`
    spans |= {"repeat", "cooldown", "per"}
    spans |= {"horizon", "step", "season"}  # said by `Period.parse`
    assert set(patterned(json.loads(recipe.json_schema()))) == spans | set(loading.FORMS)


@pytest.mark.parametrize(
    ("span", "us"), [("0s", 0), ("5us", 5), ("3ms", 3_000), ("90m", 5_400_000_000), ("2d", 172_800_000_000)]
)
def test_a_span_is_a_number_and_a_unit(span, us):
    assert span_us(span) == us


@pytest.mark.parametrize("span", ["1w", "3 hours", "-1d", "h", "1.5h", "3h\n", ""])
def test_what_is_no_span_is_refused(span):
    with pytest.raises(ValueError, match="a number and a unit"):
        span_us(span)
