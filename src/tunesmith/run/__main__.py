"""`python -m tunesmith.run FOLDER`."""

import sys

from tunesmith.run.process import main

if __name__ == "__main__":
    sys.exit(main())
