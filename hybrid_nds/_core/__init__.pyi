from ._arguments import (
    check_choice as check_choice,
    check_component as check_component,
    check_key as check_key,
    check_level as check_level,
    check_number as check_number,
    check_positive as check_positive,
    check_whole as check_whole,
)
from ._arrays import (
    concrete_array as concrete_array,
    is_concrete as is_concrete,
    require_precision as require_precision,
    require_real_scalar as require_real_scalar,
)
from ._compile import quick_options as quick_options
from ._figures import (
    BAD as BAD,
    COLORS as COLORS,
    GOOD as GOOD,
    QUIET as QUIET,
    Panels as Panels,
    drawn as drawn,
)
from ._files import (
    atomic_file as atomic_file,
    check_writable_file as check_writable_file,
    check_writable_folder as check_writable_folder,
    save_figure as save_figure,
    write_text as write_text,
)
from ._forward_mode import (
    ForwardField as ForwardField,
    NoDerivativeError as NoDerivativeError,
    forward_rule as forward_rule,
    takes_tangents as takes_tangents,
    with_forward_rule as with_forward_rule,
)
from ._lru import LRU as LRU
from ._members import (
    Along as Along,
    Axis as Axis,
    Records as Records,
    Unit as Unit,
    names_of as names_of,
)
from ._memory import whole_memory as whole_memory
from ._notebook import page_of as page_of, size_of as size_of, text_of as text_of
from ._page import data_uri as data_uri, render_page as render_page
from ._precision import (
    double_precision as double_precision,
    precision_of as precision_of,
)
from ._processor import processor as processor
from ._result import (
    DrawnResult as DrawnResult,
    Result as Result,
    Variable as Variable,
    derived_attributes as derived_attributes,
    derived_record as derived_record,
    derived_variables as derived_variables,
    plain as plain,
    record_variables as record_variables,
    require_concrete as require_concrete,
)
from ._transport import (
    PortableError as PortableError,
    PortableResult as PortableResult,
    delivered as delivered,
    portable as portable,
    unwrap as unwrap,
    wrap as wrap,
)
