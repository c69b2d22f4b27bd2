"""Everything that is said of runs: tables, differences, claims, pages."""
