"""`python -m suite.worker PARENT DB RUN:ATTEMPT [RUN:ATTEMPT ...]`: see suite.worker.worker."""

from suite.worker.worker import main

main()
