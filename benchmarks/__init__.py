"""What is measured: benchmarks, sampling and the grader that serves both reward and score."""
