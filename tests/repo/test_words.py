"""The source says what it means: docstrings that stand alone, the field's words, tests that are found."""

import words
from pages import ROOT

PROMISES = {
    "evaluate/test_label_metrics.py": "metrics of several labels are those of scikit-learn",
    "workflow/test_code_keys.py": "steps run again whose code changed, and no others",
    "workflow/test_several_labels.py": "a recipe of several labels runs from its columns to predictions",
    "monitor/test_rankings.py": "groups whose rows all have labels are measured, the others are told",
    "selection/test_class_balance.py": "probabilities of rare classes are true from the recipe to the bundle",
    "selection/test_rankings.py": "groups stay whole from collection to the gate",
    "workflow/test_threshold_by_utility.py": "a threshold by utility is worth most, and is told",
    "workflow/test_forecast.py": "a forecast knows nothing of the future, and is the same at the endpoint",
    "collect/test_collected_rows.py": "a row that an earlier collection took is known by its content",
    "collect/test_damage.py": "a damaged file is set aside or named, by every format",
    "collect/test_late_rows.py": "rows that come late are taken once",
    "deploy/test_asgi_lookup.py": "the endpoint looks feature tables up",
    "deploy/test_canary_evidence.py": "heavy keys and labels take no canary back that is as good as stable",
    "deploy/test_clients.py": "clients of others get the bits of the process",
    "deploy/test_fuzz.py": "no request of any kind is our fault",
    "deploy/test_hostile_requests.py": "one client cannot hurt the others",
    "deploy/test_open_inference.py": "the Open Inference Protocol: versions, tables as one tensor, chosen outputs",
    "deploy/test_tls_example.py": "the example of HTTPS in front of an endpoint works",
    "deploy/test_pictures.py": "requests and files of pictures",
    "deploy/test_reading_texts.py": "folders of text files are predicted",
    "deploy/test_scoring_lookup.py": "batch prediction looks feature tables up",
    "predict/test_pandas.py": "a pandas column of any objects is taken value by value",
    "evaluate/test_openings.py": "each opening of the test rows is recorded",
    "evaluate/test_simulations.py": "intervals and promotions keep their stated rates",
    "explore/test_bin_sample.py": "bins are fixed by a look at some rows",
    "features/online/test_online_equals_joined.py": "a request has the bits of training",
    "features/online/test_publishing_new_files.py": "only new files are published",
    "models/test_against_libraries.py": "families agree with the libraries that they stand on",
    "models/test_cheaper_params.py": "cheaper parameters compare as the full ones do",
    "monitor/test_false_alarms.py": "where nothing moves alarms are as seldom as stated, and what moves is found",
    "monitor/test_log.py": "each row of the log counts once, none ends a run, and none is read twice",
    "models/test_devices.py": "each library is asked for the device of a fit in its own words",
    "models/test_exposure.py": "an exposure is an offset of the libraries",
    "models/test_row_functions.py": "a single row has the bits of the matrix, in every family with a function for it",
    "monitor/test_pictures.py": "drift of what pictures look like",
    "monitor/test_task_kinds.py": "the monitor judges every kind of task",
    "readers/test_documents.py": "folders of text files are read",
    "readers/test_pictures.py": "folders of pictures are read",
    "readers/test_secrets.py": "secrets of sources are shown and written nowhere",
    "readers/test_text_formats.py": "one rule for cells of all text formats",
    "selection/test_heavy_tails.py": "a heavy-tailed target is told and handled",
    "selection/test_leaving_early.py": "a family without a chance leaves early",
    "selection/test_limits_of_choice.py": "limits on latency and bytes are measured, kept and said",
    "selection/test_losses.py": "one line of the recipe holds for fits, scores and gate",
    "selection/test_odd_tables.py": "odd tables get from collection to a verdict",
    "selection/test_row_weights.py": "weights, exposure and directions hold from collection to predictions",
    "selection/test_texts.py": "texts are compared on all their terms",
    "test_mistakes_of_course_labs.py": "mistakes of well-known labs cannot be made",
    "test_no_unit_test_starts_ray.py": "the unit tier stays quick",
    "test_texts_from_files_to_predictions.py": "texts end to end",
    "tune/test_again.py": "a trial is fitted again as far as it came",
    "workflow/test_convolution.py": "pictures that a convolution alone tells apart, end to end",
    "workflow/test_keys.py": "a step runs again exactly when it has to",
    "workflow/test_pictures.py": "pictures end to end",
    "workflow/test_suspects.py": "a suspected column stops no run and is told",
}
"""Unit tests that are named after what they promise, of several modules together."""


def test_the_words_of_the_source_are_plain_and_mean_one_thing():
    assert words.violations() == []


def test_a_unit_test_is_named_after_its_module_or_its_promise():
    strays = []
    for path in sorted((ROOT / "tests" / "unit").rglob("test_*.py")):
        name = path.relative_to(ROOT / "tests" / "unit")
        stem = path.stem.removeprefix("test_")
        home = ROOT / "mlsys" / name.parent
        is_module = (home / f"{stem}.py").is_file() or (home / stem / "__init__.py").is_file()
        if not is_module and stem != name.parent.name and name.as_posix() not in PROMISES:
            strays.append(name.as_posix())
    assert strays == []


def test_every_promise_has_its_test():
    assert [name for name in PROMISES if not (ROOT / "tests" / "unit" / name).is_file()] == []
