"""From YAML to checked settings: composition's keys, signatures, identity, building. Imports no torch."""
