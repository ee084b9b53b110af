from ._folders import (
    fixtures_root as fixtures_root,
    list_fixtures as list_fixtures,
)
from ._load import load_fixture as load_fixture
from ._own_problem import NamedProblem as NamedProblem, load_problem as load_problem
