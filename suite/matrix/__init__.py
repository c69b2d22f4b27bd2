"""From a YAML file to cells, and from a cell to OpenRLHF's command line."""
