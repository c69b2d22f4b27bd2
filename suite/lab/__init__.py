"""`suite lab`: experiments on tabular policies, from a YAML file to a verdict, a table and plots.

`experiment` reads the file, `conduct` trains what is missing into runs.db, `outcome` reads it back
and judges each expectation, `report` and `plots` show it.
"""
