"""What conductor and worker stand on: processes, spools, queue, locks, evaluation."""
