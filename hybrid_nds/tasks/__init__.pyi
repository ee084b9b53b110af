from ._executors import (
    check_executor as check_executor,
    guarded_result as guarded_result,
    julia_beside as julia_beside,
    run_guarded as run_guarded,
    run_tasks as run_tasks,
    workers_of as workers_of,
)
