"""python -m mlpfast: the command of `mlpfast.cli`."""

import sys

from mlpfast.cli import main

sys.exit(main())
