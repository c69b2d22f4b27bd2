"""The benchmarks as lm-eval tasks, one YAML file each: `--include_path benchmarks/tasks`."""
