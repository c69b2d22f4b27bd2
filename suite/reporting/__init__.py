"""What is said of finished runs: reports, comparisons with papers, claims, RESULTS.md."""
