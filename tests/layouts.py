"""Arrays that lie in memory in unusual ways."""

import numpy as np


def strided(x):
    wide = np.zeros([3 * n + 1 for n in x.shape], x.dtype)
    view = wide[tuple(slice(1, None, 3) for _ in x.shape)]
    view[...] = x
    return view


def backwards(x):
    return np.flip(np.flip(x).copy())


def misaligned(x):
    view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    view = x.view()
    view.flags.writeable = False
    return view


def swapped(x):
    return x.astype(x.dtype.newbyteorder())
