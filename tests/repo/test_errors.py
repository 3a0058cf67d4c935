import pickle
import re

import pytest

from mlsys import errors

CLASSES = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, errors.MlsysError)]
LEAVES = [cls for cls in CLASSES if cls is not errors.MlsysError]


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_arrives_in_another_process_as_it_left(cls):
    error = cls.build("step: object", got="this", expected="that", hint="mend it", field="age")
    error.violations = [{"row": 0, "field": "age", "got": "x", "expected": "a number"}]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.field == "age"


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_is_made_of_its_message_alone(cls):
    assert str(cls("what happened")) == "what happened"


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    drawn = dict(re.findall(r"[├└]── (\w+) \((\w+)\)", errors.__doc__))
    assert drawn == {cls.__name__: cls.__mro__[2].__name__ for cls in LEAVES}


def test_all_errors_are_leaves_of_one_tree_and_exported():
    subclasses = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, Exception)}
    assert subclasses == set(CLASSES)
    assert all(cls.__bases__[0] is errors.MlsysError for cls in LEAVES)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_says_what_it_is_about(cls):
    assert cls.__doc__
