"""`python -m suite.worker PARENT DB CELL:ATTEMPT [CELL:ATTEMPT ...]`: see suite.worker.worker."""

from suite.worker.worker import main

main()
