from ._autocorrelation import Decay as Decay, fit_decay as fit_decay
from ._batch_means import batch_means as batch_means, running_means as running_means
from ._chains import (
    effective_samples as effective_samples,
    r_hat_limit as r_hat_limit,
    split_r_hat as split_r_hat,
    tail_index as tail_index,
)
from ._jackknife import jackknife_error as jackknife_error
